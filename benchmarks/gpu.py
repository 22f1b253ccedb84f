"""Measure everything that a GPU changes; see `gpu`. benchmarks/gpu.sh starts it."""

import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from freemask import cli
from freemask.files import read_json, write_json

HERE = Path(__file__).resolve().parent
DEFORMABLE = "build/deformable-attention"
GPU = torch.cuda.is_available()
OUT = Path(os.environ.get("OUT", "build/gpu"))
SHOWN = re.compile(r"(\w+: \S+ = |training_\S+: |CPU, |NVIDIA |error|\S+ \S+ failed: )")  # lines of parts' logs


def gpu(
    *,
    out: Path = OUT,
    dry: bool = not GPU,
    parts: list[str] | None = None,
    seconds: cli.Positive = 420,
    shard_batches: cli.Positive = 16,
) -> None:
    """Measure synthesis, scoring and training on one GPU, without network; prints a table, writes gpu.json.

    Each part runs in a process of its own with a time limit, so that a failure costs that part alone, and gpu.json
    holds what is done. Compilation comes last.

    Args:
        out: Folder of gpu.json and of a log for each part.
        dry: Small networks, for a CPU: shows that every part runs.
        parts: Only these (default: all; --parts none lists them).
        seconds: Time for everything; parts that would begin later are left out.
        shard_batches: Batches of the shard whose waiting is measured.
    """
    out.mkdir(parents=True, exist_ok=True)
    numbers, start = out / "gpu.json", time.monotonic()
    write_json(numbers, {"machine": machine()})
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(out.resolve() / "compile-cache")
    os.environ["MEASURING"] = str(out.resolve() / "measuring.lock")
    building = None
    if not parts or any("mask2former" in part for part in parts):  # compiles while other parts run
        command = [sys.executable, str(HERE / "deformable_attention.py"), DEFORMABLE]
        with (out / "deformable_attention.log").open("w") as log:
            building = subprocess.Popen(command, stdout=log, stderr=log)
    planned = plan(numbers, dry, shard_batches)
    for name in parts or planned:
        if name not in planned:
            cli.tell(f"no part {name}; parts: {' '.join(planned)}")
            continue
        left = seconds - (time.monotonic() - start)
        if left < 10:
            cli.tell(f"{name}: left out, the {seconds} s are over")
            continue
        if building and "mask2former" in name:
            building.wait()
        limit, commands = planned[name]
        run(name, commands, min(limit, left), out)
    shutil.rmtree(out / "compile-cache", ignore_errors=True)
    table(read_json(numbers))
    cli.tell(f"{numbers}: written after {time.monotonic() - start:.0f} s")


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    found: dict[str, Any] = {"python": platform.python_version(), "torch": torch.__version__, "cpus": os.cpu_count()}
    if GPU:
        properties = torch.cuda.get_device_properties(0)
        found |= {"gpu": properties.name, "memory": properties.total_memory, "cuda": torch.version.cuda}
    return found


def plan(numbers: Path, dry: bool, shard_batches: int) -> dict[str, tuple[int, list[list[str]]]]:
    """Parts in order: name to time limit [s] and commands, which run at the same time."""
    size = ["--size", "tiny", "--batches", "1", "2"] if dry else ["--shard-batches", str(shard_batches)]
    synthesis = [str(HERE / "gpu_synthesis.py"), "--json", str(numbers), *size, "--parts"]
    training = [str(HERE / "gpu_training.py"), "--json", str(numbers), *(["--narrow"] if dry else [])]
    mask2former = [str(HERE / "deformable_attention.py"), DEFORMABLE, *training]
    half = [] if dry else ["ours-fp16", "ours-bf16"]
    first, compiled = (["theirs", "ours"], ["ours"]) if dry else (
        ["theirs", "ours", "ours-weights", "ours-fp16", "ours-bf16"], ["ours-compiled", "ours-graphs"]
    )  # fmt: skip
    score = [str(HERE / "filtering.py"), "--repeats", "1"]
    score += ["--images", "2", "--side", "64", "--model", "b0"] if dry else ["--images", "32"]
    made: dict[str, tuple[int, list[list[str]]]] = {
        "synthesis": (120, [[*synthesis, "rates", "eager", "plain", "profile", "layouts", "graphs"]]),
        "training": (120, [[*training, "--models", "segformer_mit-b4", "--ways", *first, "--profiled"]]),
        "segmenter": (60, [[*training, "--models", "segmenter_vit-b", "--ways", "theirs", "ours", *half]]),
        "mask2former": (120, [[*mask2former, "--models", "mask2former_swin-t", "--ways", "theirs", "ours", *half,
                               "--profiled"]]),
        "compiled": (240, [[*synthesis, "compiled"],
                           [*training, "--models", "segformer_mit-b4", "--ways", *compiled]]),
        "again": (60, [[*synthesis, "again"]]),
        "regional": (90, [[*synthesis, "regional"]]),
        "others": (120, [[*training, "--models", "segformer_mit-b2", "segmenter_vit-s", "--ways", "theirs", "ours",
                          *half]]),
        "others_mask2former": (120, [[*mask2former, "--models", "mask2former_swin-s", "mask2former_swin-b", "--ways",
                                      "theirs", "ours", *half]]),
    }  # fmt: skip
    for tf32, batch in ((True, 8), (False, 8), (False, 1)):
        name = f"scoring_tf32_{'on' if tf32 else 'off'}_batch_{batch}"
        options = ["--tf32" if tf32 else "--no-tf32", "--batch-size", str(batch)]
        made[name] = (60, [[*score, *options, "--json", str(numbers.parent / f"{name}.json")]])
    return made


def run(name: str, commands: list[list[str]], limit: float, out: Path) -> None:
    """Run a part's processes with a log for each; their numbers are printed."""
    start, logs, running = time.monotonic(), [], []
    for number, command in enumerate(commands):
        logs.append(out / f"{name}-{number}.log")
        with logs[-1].open("w") as file:
            running.append(
                subprocess.Popen([sys.executable, *command], stdout=file, stderr=file, start_new_session=True)
            )
    codes: list[Any] = []
    for process in running:
        try:
            codes.append(process.wait(max(1, limit - (time.monotonic() - start))))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # with its data loaders
            process.wait()
            codes.append(f"stopped after {limit:.0f} s")
    for log, code in zip(logs, codes, strict=True):
        lines = log.read_text(errors="replace").splitlines()
        shown = [line for line in lines if SHOWN.match(line)]
        for line in shown if code == 0 else [*shown, *lines[-12:]]:
            cli.tell(f"  {line[:1200]}")
    cli.tell(f"{name}: {time.monotonic() - start:.0f} s, {'done' if not any(codes) else f'failed ({codes})'}")
    beside = out / f"{name}.json"
    if beside.exists():
        numbers = read_json(out / "gpu.json")
        write_json(out / "gpu.json", numbers | {name: read_json(beside)})


def table(numbers: dict[str, Any]) -> None:
    """Print the table."""
    rates, machine_ = numbers.get("rates", {}), numbers["machine"]
    cli.tell(f"\n| {machine_.get('gpu', 'CPU')}, torch {machine_['torch']} | | |\n|---|---:|---:|")
    for part in ("eager", "compiled"):
        for key, value in numbers.get(part, {}).items():
            if key.startswith("image_"):
                rate = rates.get("matmul_float16")
                share = 51 * 2 * rates["unet_flop"] / value / rate if rate else 0.0
                cli.tell(f"| synthesis, {part}, {key.removeprefix('image_')}: s an image, share of the matmul rate |"
                         f" {value:.3f} | {100 * share:.0f} % |")  # fmt: skip
    for name, found in numbers.items():
        if name.startswith("training_") and (base := found.get("theirs_iterations_a_second")):
            for key, value in found.items():
                if key.endswith("_iterations_a_second"):
                    way = key.removesuffix("_iterations_a_second")
                    cli.tell(f"| {name}, {way}: iterations/s, times theirs | {value:.2f} | {value / base:.2f} |")
        if name.startswith("scoring"):
            ratio = found["plain_seconds"] / found["seconds"]
            cli.tell(f"| {name}: s, times plain | {found['seconds']:.2f} | {ratio:.2f} |")


if __name__ == "__main__":
    cli.run(gpu)
