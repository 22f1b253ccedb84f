"""Measure everything that a GPU changes; see `gpu`. benchmarks/gpu.sh starts it."""

import os
import platform
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from freemask import cli
from freemask.files import read_json, write_json

HERE = Path(__file__).resolve().parent
MODELS = ("segformer_mit-b4", "segmenter_vit-b", "mask2former_swin-t", "segformer_mit-b2", "segmenter_vit-s",
          "mask2former_swin-s", "mask2former_swin-b")  # fmt: skip
SYNTHESIS = ("rates", "eager", "layouts", "graphs", "plain", "profile")
GPU = torch.cuda.is_available()
OUT = Path(os.environ.get("OUT", "build/gpu"))
SHOWN = re.compile(r"(\w+: \S+ = |training_\S+: |CPU, |NVIDIA |error|\S+ \S+ failed: )")  # lines of parts' logs


def gpu(
    *,
    out: Path = OUT,
    dry: bool = not GPU,
    parts: list[str] | None = None,
    seconds: cli.Positive = 420,
) -> None:
    """Measure synthesis, scoring and training on one GPU, without network; prints a table, writes gpu.json.

    Each part runs in a process of its own with a time limit, so that a failure costs that part alone, and gpu.json
    holds what is done. Compilation comes last.

    Args:
        out: Folder of gpu.json and of a log for each part.
        dry: Small networks, for a CPU: shows that every part runs.
        parts: Only these (default: all; --parts none lists them).
        seconds: Time for everything; parts that would begin later are left out.
    """
    out.mkdir(parents=True, exist_ok=True)
    numbers, start = out / "gpu.json", time.monotonic()
    write_json(numbers, {"machine": machine()})
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(out.resolve() / "compile-cache")
    planned = plan(numbers, dry)
    for name in parts or planned:
        if name not in planned:
            cli.tell(f"no part {name}; parts: {' '.join(planned)}")
            continue
        left = seconds - (time.monotonic() - start)
        if left < 10:
            cli.tell(f"{name}: left out, the {seconds} s are over")
            continue
        limit, command = planned[name]
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


def plan(numbers: Path, dry: bool) -> dict[str, tuple[int, list[str]]]:
    """Parts in order: name to time limit [s] and command."""
    size = ["--size", "tiny", "--batches", "1", "2", "--shard-batches", "1"] if dry else []
    synthesis = [str(HERE / "gpu_synthesis.py"), "--json", str(numbers), *size, "--part"]
    training = [str(HERE / "gpu_training.py"), "--json", str(numbers), *(["--narrow"] if dry else [])]
    score = [str(HERE / "filtering.py"), "--repeats", "1"]
    score += ["--images", "2", "--side", "64", "--model", "b0"] if dry else ["--images", "64"]
    made: dict[str, tuple[int, list[str]]] = {}
    for part in SYNTHESIS:
        made[part] = (90, [*synthesis, part])
    half = [] if dry else ["ours-fp16", "ours-bf16"]
    for model in MODELS:
        ways = ["theirs", "ours", *half]
        if model == MODELS[0] and not dry:
            ways += ["ours-weights", "theirs-fp16"]
        profiled = ["--profiled"] if model in MODELS[:3] else []
        first = [str(HERE / "deformable_attention.py"), "build/deformable-attention"] * model.startswith("mask2former")
        made[f"training_{model}"] = (120, [*first, *training, "--model", model, "--ways", *ways, *profiled])
    for tf32, batch in ((True, 8), (False, 8), (True, 1), (False, 1)):
        options = [*score, "--tf32" if tf32 else "--no-tf32", "--batch-size", str(batch)]
        name = f"scoring_tf32_{'on' if tf32 else 'off'}_batch_{batch}"
        made[name] = (60, [*options, "--json", str(numbers.parent / f"{name}.json")])
    made["compiled"] = (200, [*synthesis, "compiled"])
    made["again"] = (60, [*synthesis, "again"])
    compiled = ["ours"] if dry else ["ours-compiled", "ours-graphs"]
    made["training_compiled"] = (150, [*training, "--model", MODELS[0], "--ways", *compiled])
    made["regional"] = (90, [*synthesis, "regional"])
    return made


def run(name: str, command: list[str], limit: float, out: Path) -> None:
    """Run a part with a log of its own; its numbers are printed."""
    log, start = out / f"{name}.log", time.monotonic()
    with log.open("w") as file:
        try:
            code: Any = subprocess.run([sys.executable, *command], stdout=file, stderr=file, timeout=limit).returncode
        except subprocess.TimeoutExpired:
            code = f"stopped after {limit:.0f} s"
    lines = log.read_text(errors="replace").splitlines()
    shown = [line for line in lines if SHOWN.match(line)]
    for line in shown if code == 0 else [*shown, *lines[-12:]]:
        cli.tell(f"  {line[:1200]}")
    cli.tell(f"{name}: {time.monotonic() - start:.0f} s, {'done' if code == 0 else f'failed ({code})'}")
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
