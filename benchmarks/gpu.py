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
from freemask.errors import InputError
from freemask.files import read_json, write_json

HERE = Path(__file__).resolve().parent
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
        parts: Only these (default: all).
        seconds: Time for everything; parts that would begin later are left out.
        shard_batches: Batches of the shard whose waiting is measured.
    """
    out.mkdir(parents=True, exist_ok=True)
    numbers, start = out / "gpu.json", time.monotonic()
    write_json(numbers, {"machine": machine()})
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(out.resolve() / "compile-cache")
    planned = plan(numbers, dry, shard_batches)
    if unknown := set(parts or ()) - set(planned):
        raise InputError(f"no part {', '.join(sorted(unknown))}; parts: {', '.join(planned)}")
    for name in parts or planned:
        limit, command = planned[name]
        left = seconds - (time.monotonic() - start)
        if left < 10:
            cli.tell(f"{name}: left out, the {seconds} s are over")
        else:
            run(name, command, min(limit, left), out)
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


def plan(numbers: Path, dry: bool, shard_batches: int) -> dict[str, tuple[int, list[str]]]:
    """Parts in order: name to time limit [s] and command. Compilation comes last."""
    size = ["--size", "tiny", "--batches", "1", "2"] if dry else ["--shard-batches", str(shard_batches)]
    synthesis = ["gpu_synthesis.py", "--json", str(numbers), *size, "--parts"]
    training = ["gpu_training.py", "--json", str(numbers), *(["--narrow"] if dry else []), "--models"]
    mask2former = ["deformable_attention.py", "build/deformable-attention", str(HERE / training[0]), *training[1:]]
    compared = ["--ways", "theirs", "ours", *([] if dry else ["ours-launched", "ours-fp16", "ours-bf16"])]
    score = ["filtering.py", "--repeats", "1"]
    score += ["--images", "2", "--side", "64", "--model", "b0"] if dry else ["--images", "32"]
    made = {
        "synthesis": (100, [*synthesis, "rates", "eager", "plain", "profile"]),
        "segformer": (100, [*training, "segformer_mit-b4", "segformer_mit-b2", *compared]),
        "segmenter": (60, [*training, "segmenter_vit-b", "segmenter_vit-s", *compared]),
        "mask2former": (150, [*mask2former, *(f"mask2former_swin-{size}" for size in "tsb"), *compared]),
    }
    for name, options, batch in (("on", [], 8), ("off", ["--no-tf32"], 8), ("off", ["--no-tf32"], 1)):
        part = f"scoring_tf32_{name}_batch_{batch}"
        json = str(numbers.parent / f"{part}.json")
        made[part] = (40, [*score, *options, "--batch-size", str(batch), "--json", json])
    ways = ["ours-attention", "ours-compiled", "ours-both"]
    return {
        **made,
        "compiled": (200, [*synthesis, "compiled"]),
        "again": (60, [*synthesis, "again"]),
        "training_compiled": (
            150,
            [*training, "segformer_mit-b4", "--ways", *ways],
        ),
        "regional": (90, [*synthesis, "regional"]),
    }


def run(name: str, command: list[str], limit: float, out: Path) -> None:
    """Run a part with a log of its own; its numbers are printed."""
    log, start = out / f"{name}.log", time.monotonic()
    with log.open("w") as file:
        words = [sys.executable, str(HERE / command[0]), *command[1:]]
        process = subprocess.Popen(words, stdout=file, stderr=file, start_new_session=True)
        try:
            process.wait(limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # with its data loaders
            process.wait()
    lines = log.read_text(errors="replace").splitlines()
    shown = [line for line in lines if SHOWN.match(line)]
    for line in shown if process.returncode == 0 else [*shown, *lines[-12:]]:
        cli.tell(f"  {line[:1200]}")
    ended = {0: "done", -signal.SIGKILL: f"stopped after {limit:.0f} s"}.get(process.returncode, "failed")
    cli.tell(f"{name}: {time.monotonic() - start:.0f} s, {ended}")
    beside = out / f"{name}.json"
    if beside.exists():
        write_json(out / "gpu.json", read_json(out / "gpu.json") | {name: read_json(beside)})


def table(numbers: dict[str, Any]) -> None:
    """Print the table."""
    rates, machine_ = numbers.get("rates", {}), numbers["machine"]
    cli.tell(f"\n| {machine_.get('gpu', 'CPU')}, torch {machine_['torch']} | | |\n|---|---:|---:|")
    for part in ("eager", "compiled"):
        for key, value in numbers.get(part, {}).items():
            if key.startswith("image_"):
                rate = rates.get(f"matmul_{key.split('_')[1]}", rates.get("matmul_float16"))
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
