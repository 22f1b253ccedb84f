"""Times of synthesis on a GPU for benchmarks/gpu.sh, one part in each process; see `gpu_synthesis`."""

import gc
import os
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from plain_freestyle import predict_plainly
from random_freestyle import SIZES, build_pipeline, draw_masks, unet_flops

from freemask import cli
from freemask.data.label_space import LabelSpace
from freemask.files import read_json, write_json
from freemask.generation.compilation import obstacle
from freemask.generation.freestyle.generator import FreestyleGenerator
from freemask.generation.freestyle.pipeline import FreestylePipeline
from freemask.generation.generators import Sampling, arrange, networks
from freemask.generation.shard import Request, Shard
from freemask.images import png_bytes

CLASSES = Path(__file__).parents[1] / "config" / "datasets" / "ade20k.tsv"
STEPS, CALLS, GUIDANCE, IGNORED = 50, 51, 2.0, 0  # 50 PLMS steps call the UNet 51 times
TIME = 981  # noise level of the timed calls
GPU = torch.cuda.is_available()
DEVICE = "cuda" if GPU else "cpu"
SPACE = LabelSpace.of_class_table(CLASSES, IGNORED)
WORDS = SPACE.words_by_label()
Part = Literal["rates", "eager", "plain", "profile", "regional", "compiled", "again"]


def gpu_synthesis(
    *,
    parts: list[Part],
    json: Path,
    size: Literal["sd14", "small", "tiny"] = "sd14" if GPU else "tiny",
    batches: list[int] | None = None,
    shard_batches: cli.Positive = 16 if GPU else 1,
) -> None:
    """Measure parts of synthesis and add their numbers to a JSON file. Random weights of Stable Diffusion 1.4's size.

    Args:
        parts: rates: matrix products. eager: calls of UNet and VAE, memory, whole images. plain: the original's way.
            profile: kernels of a call. regional, compiled: torch.compile, whole images, a shard. again: compiled with a
            warm cache.
        json: Output, a file that parts add to.
        size: Of networks and images.
        batches: Batch sizes (default: 1 8 32).
        shard_batches: Batches of the shard.
    """
    for part in parts:
        try:
            PARTS[part](Numbers(json, part), size, batches or ([1, 8, 32] if GPU else [1, 2]), shard_batches)
        except Exception as error:  # the other parts are still measured
            cli.tell(f"{part} failed: {traceback.format_exc()[-2500:]}")
            Numbers(json, part).add("failed", f"{type(error).__name__}: {str(error)[:300]}")
        if GPU:
            gc.collect()
            torch.cuda.empty_cache()


class Numbers:
    """Numbers of one part, printed and written as they come."""

    def __init__(self, path: Path, part: str):
        self.path, self.part = path, part

    def add(self, name: str, value: Any) -> None:
        """Add a number."""
        found = read_json(self.path) if self.path.exists() else {}
        found.setdefault(self.part, {})[name] = value
        write_json(self.path, found)
        cli.tell(f"{self.part}: {name} = {value:.4g}" if isinstance(value, float) else f"{self.part}: {name} = {value}")


def seconds(work: Callable[[], Any], repeats: int = 3, warm: int = 1) -> float:
    """Seconds of the quickest call, the GPU's work included."""
    for _ in range(warm):
        work()
    found = []
    for _ in range(repeats):
        synchronize()
        start = time.perf_counter()
        work()
        synchronize()
        found.append(time.perf_counter() - start)
    return min(found)


def host_seconds(work: Callable[[], Any]) -> float:
    """Seconds until a call returns, which is before the GPU is done if the host is ahead."""
    work()
    synchronize()
    start = time.perf_counter()
    work()
    found = time.perf_counter() - start
    synchronize()
    return found


def synchronize() -> None:
    """Wait for the GPU, if there is one."""
    if GPU:
        torch.cuda.synchronize()


def peak_memory(work: Callable[[], Any]) -> int:
    """Largest number of bytes that torch has allocated during a call."""
    if not GPU:
        return 0
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    work()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated()


def ready(size: str, dtype: torch.dtype = torch.float16 if GPU else torch.float32) -> FreestylePipeline:
    """A pipeline with random weights, made on the GPU, which is quicker."""
    with torch.device(DEVICE):
        pipeline = build_pipeline(SIZES[size], DEVICE, dtype)
    arrange(pipeline, DEVICE, compiled=False)
    return pipeline


def given(pipeline: FreestylePipeline, size: str, batch: int) -> Any:
    """A prepared batch of random masks of ten classes."""
    masks = draw_masks(WORDS, batch, 10, SIZES[size]["side"])
    return pipeline.prepare(masks, WORDS, [f"mask-{n}" for n in range(batch)], [0] * batch, IGNORED)


def call_of(pipeline: FreestylePipeline, prepared: Any) -> Callable[[], torch.Tensor]:
    """One call of the UNet of a step with guidance."""
    sample = torch.cat([prepared.noise, prepared.noise]).to(pipeline.unet.dtype)
    time_ = torch.tensor(TIME, device=DEVICE)
    named = {"visibility": prepared.masks}

    @torch.no_grad()
    def call() -> torch.Tensor:
        return pipeline.unet(sample, time_, prepared.context, cross_attention_kwargs=named).sample

    return call


def decode_of(pipeline: FreestylePipeline, prepared: Any) -> Callable[[], np.ndarray]:
    """Decoding a batch, the copy to the CPU included."""
    return lambda: pipeline.decode_latents(prepared.noise)


def rates(numbers: Numbers, size: str, batches: list[int], shard_batches: int) -> None:
    """Rates of matrix products [FLOP/s], and the work of one UNet call for one image [FLOP]."""
    side = 8192 if GPU else 512
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        a, b = (torch.randn(side, side, device=DEVICE, dtype=dtype) for _ in range(2))
        numbers.add(f"matmul_{name(dtype)}", 2 * side**3 / seconds(lambda a=a, b=b: a @ b, 5, 3))
    numbers.add("unet_flop", unet_flops(SIZES[size]))


def name(dtype: torch.dtype) -> str:
    """float16 for torch.float16."""
    return str(dtype).removeprefix("torch.")


def eager(numbers: Numbers, size: str, batches: list[int], shard_batches: int) -> None:
    """Calls of UNet and VAE, preparation and memory at each batch size; a whole batch at the second."""
    pipeline = ready(size)
    numbers.add("weights_bytes", torch.cuda.memory_allocated() if GPU else 0)
    for batch in batches:
        measure(numbers, pipeline, size, batch, name(pipeline.unet.dtype))
    prepared = given(pipeline, size, batches[1])
    steps = STEPS if GPU else 2
    whole = seconds(lambda: pipeline.generate(prepared, steps, GUIDANCE), 1, 0)
    numbers.add(f"image_{name(pipeline.unet.dtype)}_{batches[1]}", whole / batches[1])
    if GPU:
        pipeline.to(dtype=torch.bfloat16)
        pipeline.forget_contexts()
        for batch in batches:
            measure(numbers, pipeline, size, batch, "bfloat16")


def measure(numbers: Numbers, pipeline: FreestylePipeline, size: str, batch: int, label: str) -> None:
    """Times and memory at one batch size."""
    prepared = given(pipeline, size, batch)
    call, decode = call_of(pipeline, prepared), decode_of(pipeline, prepared)
    numbers.add(f"unet_{label}_{batch}", seconds(call, 3, 2))
    numbers.add(f"unet_host_{label}_{batch}", host_seconds(call))
    numbers.add(f"unet_bytes_{label}_{batch}", peak_memory(call))
    numbers.add(f"vae_{label}_{batch}", seconds(decode, 2))
    numbers.add(f"vae_bytes_{label}_{batch}", peak_memory(decode))
    pipeline.forget_contexts()
    numbers.add(f"prepare_{label}_{batch}", seconds(lambda: given(pipeline, size, batch), 1, 0))


def plain(numbers: Numbers, size: str, batches: list[int], shard_batches: int) -> None:
    """The original's way (plain_freestyle.py) of the UNet's two passes."""
    pipeline = ready(size)
    batch = batches[1]
    masks = draw_masks(WORDS, batch, 10, SIZES[size]["side"])
    prompts = [pipeline.prompt(mask, WORDS, IGNORED, "mask") for mask in masks]
    prepared = given(pipeline, size, batch)
    layout = (torch.from_numpy(masks), prompts)
    sample = prepared.noise.to(pipeline.unet.dtype)
    call = lambda: predict_plainly(pipeline, sample, TIME, prepared.context, layout)  # noqa: E731
    numbers.add(f"unet_{batch}", seconds(call, 2))


def profile(numbers: Numbers, size: str, batches: list[int], shard_batches: int) -> None:
    """Kernels of one call of the UNet and of the VAE."""
    pipeline = ready(size)
    prepared = given(pipeline, size, batches[1])
    work = {"unet": call_of(pipeline, prepared), "vae": decode_of(pipeline, prepared)}
    for part, call in work.items():
        numbers.add(part, kernels(call))


def kernels(call: Callable[[], Any], listed: int = 16) -> dict[str, float]:
    """Milliseconds of the GPU's kernels of a call, the longest by name, and the sum."""
    from torch.profiler import ProfilerActivity, profile

    call()
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if GPU else [])]) as found:
        call()
        synchronize()
    key = "self_device_time_total" if GPU else "self_cpu_time_total"
    kind = "CUDA" if GPU else "CPU"  # not the rows of operators, which repeat the times of their kernels
    times = {row.key: getattr(row, key) / 1000 for row in found.key_averages() if row.device_type.name == kind}
    longest = sorted(times, key=times.get, reverse=True)[:listed]
    return {"sum": round(sum(times.values()), 3), **{key[:90]: round(times[key], 3) for key in longest}}


def first_call(call: Callable[[], Any]) -> float:
    """Seconds of the first call after compilation was asked for."""
    synchronize()
    start = time.perf_counter()
    call()
    synchronize()
    return time.perf_counter() - start


def not_compiled(numbers: Numbers) -> bool:
    """Whether compilation isn't possible; notes why."""
    if reason := obstacle():
        numbers.add("not_compiled", reason)
    return bool(reason)


def regional(numbers: Numbers, size: str, batches: list[int], shard_batches: int) -> None:
    """The UNet with its transformer blocks compiled one by one (diffusers' compile_repeated_blocks)."""
    if not_compiled(numbers):
        return
    pipeline = ready(size)
    call = call_of(pipeline, given(pipeline, size, batches[1]))
    torch._dynamo.config.recompile_limit = 64  # a width and a resolution each
    pipeline.unet.compile_repeated_blocks(dynamic=False)
    numbers.add("first_call", first_call(call))
    numbers.add(f"unet_{batches[1]}", seconds(call))


def compiled(numbers: Numbers, size: str, batches: list[int], shard_batches: int) -> None:
    """UNet and VAE compiled whole: first and later calls, differences from eager, whole images, a shard, bf16."""
    if not_compiled(numbers):
        return
    pipeline, batch = ready(size), batches[1]
    prepared = given(pipeline, size, batch)
    call, decode = call_of(pipeline, prepared), decode_of(pipeline, prepared)
    numbers.add("unet_eager", seconds(call))
    before = pipeline.generate(prepared, STEPS, GUIDANCE)
    smaller = given(pipeline, size, batch // 2)
    other = pipeline.generate(smaller, STEPS, GUIDANCE)
    numbers.add("images_of_half_the_batch", differences(before[: len(other)], other))
    numbers.add("images_again", differences(before, pipeline.generate(prepared, STEPS, GUIDANCE)))
    compile_networks(pipeline)
    numbers.add("first_call", first_call(call))
    numbers.add("vae_first_call", first_call(decode))
    numbers.add(f"unet_{batch}", seconds(call, 5))
    numbers.add(f"unet_host_{batch}", host_seconds(call))
    numbers.add("unet_bytes", peak_memory(call))
    numbers.add(f"vae_{batch}", seconds(decode, 3))
    numbers.add("vae_bytes", peak_memory(decode))
    after: list[np.ndarray] = []
    whole = seconds(lambda: after.append(pipeline.generate(prepared, STEPS, GUIDANCE)), 1, 0)
    numbers.add(f"image_{batch}", whole / batch)
    numbers.add("images_compiled", differences(before, after[0]))
    shard(numbers, pipeline, size, batch, shard_batches)


def compile_networks(pipeline: FreestylePipeline) -> None:
    """Compile networks that were captured eager, as a shard with enough images does."""
    for network in networks(pipeline).values():
        network.__dict__.pop("forward", None)
    arrange(pipeline, DEVICE, compiled=True)


def differences(one: np.ndarray, other: np.ndarray) -> dict[str, float]:
    """By how much images differ: share of bytes [percent], largest and mean difference [levels of 255]."""
    apart = np.abs(one.astype(int) - other.astype(int))
    found = {"percent_of_bytes": 100 * (apart > 0).mean(), "largest": apart.max(), "mean": apart.mean()}
    return {key: round(float(value), 5) for key, value in found.items()}


def shard(numbers: Numbers, pipeline: FreestylePipeline, size: str, batch: int, batches: int) -> None:
    """A shard: seconds an image, share of the time outside of sampling."""
    spans = []

    class Timed(FreestyleGenerator):
        def generate(self, prepared):
            start = time.perf_counter()
            images = super().generate(prepared)  # ends with the images on the CPU, so the device is done
            spans.append((start, time.perf_counter()))
            return images

    generator = Timed(pipeline, SPACE, Sampling("plms", STEPS if GPU else 2, GUIDANCE))
    labels = draw_masks(WORDS, batch, 10, SIZES[size]["side"])
    with tempfile.TemporaryDirectory() as folder_name:
        folder, requested = Path(folder_name), []
        for number in range(batches * batch):
            mask = folder / f"{number}.png"
            mask.write_bytes(png_bytes(np.roll(labels[number % batch], 32 * number, 0)))
            requested.append(Request(f"mask-{number}", 0, str(mask), folder / f"{number}" / "0.jpg", "stamp"))
        pipeline.forget_contexts()
        start = time.perf_counter()
        Shard(lambda: generator, None, batch, 95).make(requested, "shard")
        end = time.perf_counter()
    waits = [b[0] - a[1] for a, b in zip(spans, spans[1:], strict=False)]
    numbers.add("shard_images", len(requested))
    numbers.add("shard_image", (end - start) / len(requested))
    numbers.add("shard_first_wait", spans[0][0] - start)
    numbers.add("shard_waits", [round(wait, 4) for wait in waits])
    numbers.add("shard_last_wait", end - spans[-1][1])
    numbers.add("shard_waiting", 1 - sum(b - a for a, b in spans) / (end - start))


def again(numbers: Numbers, size: str, batches: list[int], shard_batches: int) -> None:
    """The compiled UNet's and VAE's first calls in a process that finds a filled cache; other batch sizes."""
    if not_compiled(numbers):
        return
    pipeline, batch = ready(size), batches[1]
    prepared = given(pipeline, size, batch)
    call, decode = call_of(pipeline, prepared), decode_of(pipeline, prepared)
    compile_networks(pipeline)
    numbers.add("first_call", first_call(call))
    numbers.add("vae_first_call", first_call(decode))
    cache = Path(os.environ.get("TORCHINDUCTOR_CACHE_DIR", "."))
    files = [path.stat().st_size for path in cache.rglob("*") if path.is_file()]
    numbers.add("cache_files", len(files))
    numbers.add("cache_bytes", sum(files))


PARTS = {
    "rates": rates, "eager": eager, "plain": plain, "profile": profile,
    "regional": regional, "compiled": compiled, "again": again,
}  # fmt: skip


if __name__ == "__main__":
    cli.run(gpu_synthesis)
