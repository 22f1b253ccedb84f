"""Time synthesis at Stable Diffusion 1.4's size (random weights), against the reference's way, in one run.

Prints seconds per image and the shares of masks, text, noise, UNet, sampler, VAE and JPEG; what rectification costs
over plain cross-attention; the UNet's share of the machine's measured matrix-multiply rate; the ratio to the original
code's way (plain_freestyle.py), whose predictions must agree; and, in a run of the real shard over --shard-batches
batches, the share of the time in which the device waits for input or output. Each with its target.

Every call is made once untimed, then --repeats times, all ways in turn. An image takes 51 UNet calls (50 PLMS steps);
the scheduler's own 50 steps are timed as a whole. CPU: --dtype float32; --size sd14 takes minutes on two cores.
"""

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from math import inf
from pathlib import Path

import numpy as np
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput
from plain_freestyle import predict_plainly
from random_freestyle import SIZES, build_pipeline, draw_masks, unet_flops
from synthesis_report import report

from freemask.data.label_space import LabelSpace
from freemask.files import write_json
from freemask.generation.freestyle.generator import FreestyleGenerator
from freemask.generation.freestyle.pipeline import FreestylePipeline
from freemask.generation.generators import Sampling, arrange, cache_memory
from freemask.generation.shard import Request, Shard
from freemask.images import jpeg_bytes, png_bytes

CLASSES = Path(__file__).parents[1] / "config" / "datasets" / "ade20k.tsv"
IGNORED = 0
GUIDANCE = 2.0
STEPS = 50
CALLS = 51  # of the UNet in 50 steps of PLMS
TIME = 981  # noise level of the timed calls


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="sd14", help="of the networks and images (default: sd14)")
    parser.add_argument(
        "--repeats", type=int, default=3, help="timed calls of each part, after an untimed one (default: 3)"
    )
    parser.add_argument("--batch-size", type=int, default=1, help="images per batch (default: 1)")
    parser.add_argument("--classes", type=int, default=10, help="classes in each mask (default: 10)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda")
    parser.add_argument("--dtype", choices=["float32", "float16", "bfloat16"], default="float32")
    parser.add_argument("--shard-batches", type=int, default=4, help="of the real shard's run; 0: none (default: 4)")
    parser.add_argument("--compile", action="store_true", help="time compiled networks, too")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall", help="cpu: a busy machine, one thread")
    parser.add_argument("--json", type=Path, help="output: the numbers as JSON")
    return parser


class Clock:
    """Seconds of timed calls, the device's work included."""

    def __init__(self, device: str, kind: str = "wall"):
        self.device, self.read = device, {"wall": time.perf_counter, "cpu": time.process_time}[kind]
        self.seconds = defaultdict(list)

    def now(self) -> float:
        """Seconds, after the device has finished."""
        if self.device == "cuda":
            torch.cuda.synchronize()
        return self.read()

    def timed(self, name: str, work: Callable, *arguments, **named):
        """Call a function and record its time under the name."""
        start = self.now()
        result = work(*arguments, **named)
        self.seconds[name].append(self.now() - start)
        return result

    def best(self, name: str) -> float:
        """Seconds of the quickest call under a name: other programs only add to it."""
        return min(self.seconds[name])

    def ratio(self, name: str, other: str) -> float:
        """The quickest call of the one to that of the other."""
        return self.best(name) / self.best(other)

    def spread(self) -> float:
        """Slowest call of the UNet over the quickest, the largest of all ways: far from 1 on a busy machine."""
        ways = [seconds for name, seconds in self.seconds.items() if "UNet" in name]
        return max(max(seconds) / min(seconds) for seconds in ways)


@torch.no_grad()
def measure(pipeline: FreestylePipeline, words, labels, clock: Clock, plain_first: bool) -> float:
    """Time each part of one batch, and one UNet call of a step three ways: ours, without masks, the reference's.

    plain_first: Order of the three, alternated between rounds.
    Returns: the largest difference between ours and the reference's prediction, as a share of the largest value.
    """
    names = [f"mask-{number}" for number in range(len(labels))]
    pipeline.forget_contexts()  # so that every caption is encoded, as for new masks
    each = list(zip(labels, names, strict=True))
    prompts = clock.timed("prompt", lambda: [pipeline.prompt(mask, words, IGNORED, name) for mask, name in each])
    both = [pipeline.empty_prompt()] * len(prompts) + prompts
    context = clock.timed("text", pipeline.encode_prompts, both)
    masks = clock.timed("masks", pipeline.visibility, np.concatenate([labels, labels]), both)
    noise = clock.timed("noise", pipeline.initial_noise, names, [0] * len(names), labels.shape[1:])
    sample = noise.to(pipeline.unet.dtype)

    def call(visible):
        given = {"visibility": visible}
        return pipeline.unet(torch.cat([sample, sample]), TIME, context, cross_attention_kwargs=given).sample

    def call_plainly(layout):
        cache_memory(False)  # as in the original
        try:
            return predict_plainly(pipeline, sample, TIME, context, layout)
        finally:
            cache_memory(clock.device == "cpu")

    layout = (torch.from_numpy(labels), prompts)
    ways = [("UNet", call, masks), ("UNet without masks", call, None), ("plain UNet", call_plainly, layout)]
    predicted = {name: clock.timed(name, way, given) for name, way, given in (ways[::-1] if plain_first else ways)}
    clock.timed("sampler", sample_without_unet, pipeline, noise)
    ours, plain = predicted["UNet"].float(), predicted["plain UNet"].float()
    return float((ours - plain).abs().max() / plain.abs().max())


def sample_without_unet(pipeline: FreestylePipeline, noise: torch.Tensor) -> None:
    """All 50 steps of PLMS and of guidance, with a stand-in for the UNet that takes no time."""
    context = torch.zeros(2 * len(noise), 1, 1)
    pipeline.unet.forward = lambda sample, *_, **__: UNet2DConditionOutput(sample=sample)
    try:
        pipeline.denoise(noise, context, {}, STEPS, GUIDANCE)
    finally:
        del pipeline.unet.forward  # the class's own is found again


@torch.no_grad()
def finish(pipeline: FreestylePipeline, side: int, batch: int, clock: Clock) -> None:
    """Time the VAE and JPEG."""
    latents = pipeline.initial_noise(["mask"] * batch, range(batch), (side, side))
    images = clock.timed("VAE", pipeline.decode_latents, latents)
    clock.timed("JPEG", lambda: [jpeg_bytes(image, 95) for image in images])


def matmul_rate(clock: Clock, dtype: torch.dtype) -> float:
    """Operations per second of large matrix products on the device, the best of five."""
    size = 8192 if clock.device == "cuda" else 2048
    a, b = (torch.randn(size, size, device=clock.device, dtype=dtype) for _ in range(2))
    for _ in range(6):
        clock.timed("matmul", torch.matmul, a, b)
    return 2 * size**3 / min(clock.seconds["matmul"][1:])


def share_waiting(pipeline: FreestylePipeline, space: LabelSpace, labels: np.ndarray, batches: int) -> float:
    """Share of a real shard's time outside of sampling: reading, preparing, writing.

    With all 50 steps on a GPU; with 2 on a CPU, where sampling is slow and shares the cores.
    """
    seconds = []

    class Timed(FreestyleGenerator):
        def generate(self, prepared):
            start = time.perf_counter()
            images = super().generate(prepared)  # ends with the images on the CPU, so the device is done
            seconds.append(time.perf_counter() - start)
            return images

    generator = Timed(pipeline, space, Sampling("plms", STEPS if pipeline.device.type == "cuda" else 2, GUIDANCE))
    with tempfile.TemporaryDirectory() as name:
        folder, requested = Path(name), []
        for number in range(batches * len(labels)):
            mask = folder / f"{number}.png"
            mask.write_bytes(png_bytes(labels[number % len(labels)]))
            requested.append(Request(f"mask-{number}", 0, str(mask), folder / f"{number}" / "0.jpg", "stamp"))
        pipeline.forget_contexts()
        start = time.perf_counter()
        Shard(lambda: generator, None, len(labels), 95).make(requested, "shard")
        return 1 - sum(seconds) / (time.perf_counter() - start)


@torch.no_grad()
def measure_compiled(pipeline: FreestylePipeline, side: int, batch: int, repeats: int, clock: Clock) -> None:
    """Time the UNet's first call after torch.compile, compilation included, and later ones."""
    arrange(pipeline, clock.device, compiled=True)
    masks = np.ones((batch, side, side), np.uint8)
    given = pipeline.prepare(masks, {1: "sky"}, ["mask"] * batch, [0] * batch, IGNORED)
    sample = torch.cat([given.noise, given.noise]).to(pipeline.unet.dtype)
    masks = {"visibility": given.masks}
    for name in ["compilation", *["compiled UNet"] * repeats]:
        clock.timed(name, pipeline.unet, sample, TIME, given.context, cross_attention_kwargs=masks)


def main(arguments: argparse.Namespace) -> None:
    """Time, compare, report."""
    torch.set_num_threads(arguments.threads)
    sizes, dtype = SIZES[arguments.size], getattr(torch, arguments.dtype)
    space = LabelSpace.of_class_table(CLASSES, IGNORED)
    words = space.words_by_label()
    labels = draw_masks(words, arguments.batch_size, arguments.classes, sizes["side"])
    pipeline = build_pipeline(sizes, arguments.device, dtype)
    arrange(pipeline, arguments.device, compiled=False)
    clock = Clock(arguments.device, arguments.clock)
    measure(pipeline, words, labels, Clock(arguments.device), plain_first=False)  # warms up
    for number in range(arguments.repeats):
        error = measure(pipeline, words, labels, clock, plain_first=bool(number % 2))
    for counted in (Clock(arguments.device), *[clock] * arguments.repeats):
        finish(pipeline, sizes["side"], arguments.batch_size, counted)
    if dtype is torch.float32:
        assert error < 1e-3, f"both ways differ by {error:.1e} of the largest value"
    numbers = summary(clock, arguments, unet_flops(sizes), matmul_rate(clock, dtype))
    numbers["relative_difference"] = error
    if arguments.shard_batches:
        numbers["share_waiting"] = share_waiting(pipeline, space, labels, arguments.shard_batches)
    if arguments.compile:
        measure_compiled(pipeline, sizes["side"], arguments.batch_size, arguments.repeats, clock)
        numbers |= compiled_summary(clock, arguments.batch_size)
    report(numbers, arguments)
    if arguments.json:
        write_json(arguments.json, numbers | {"calls": dict(clock.seconds)})


def summary(clock: Clock, arguments: argparse.Namespace, flops: float, rate: float) -> dict[str, float]:
    """Seconds per image at 50 PLMS steps, and the ratios."""
    batch = arguments.batch_size
    seconds = {name: clock.best(name) / batch for name in ("masks", "noise", "text", "sampler", "VAE", "JPEG")}
    seconds["text"] += clock.best("prompt") / batch
    seconds["UNet"] = clock.best("UNet") * CALLS / batch
    total = sum(seconds.values())
    plain = total - seconds["masks"] + (clock.ratio("plain UNet", "UNet") - 1) * seconds["UNet"]
    return {
        **{f"seconds_{name}": value for name, value in seconds.items()},
        "seconds": total,
        "plain_seconds": plain,
        "plain_ratio": plain / total,
        "plain_ratio_unet": clock.ratio("plain UNet", "UNet"),
        "spread": clock.spread(),
        "share_masks": seconds["masks"] / total,
        "rectification_cost": clock.ratio("UNet", "UNet without masks") - 1,
        "unet_tflop": flops / 1e12,
        "matmul_tflops": rate / 1e12,
        "share_of_matmul": 2 * batch * flops / clock.best("UNet") / rate,
    }


def compiled_summary(clock: Clock, batch: int) -> dict[str, float]:
    """Cost and gain of torch.compile, and the images after which it pays (inf: never)."""
    saved = (clock.best("UNet") - clock.best("compiled UNet")) * CALLS / batch
    cost = clock.best("compilation") - clock.best("compiled UNet")
    speed = clock.best("UNet") / clock.best("compiled UNet")
    return {"compile_seconds": cost, "compile_speed": speed, "compile_pays_after": cost / saved if saved > 0 else inf}


if __name__ == "__main__":
    main(options().parse_args())
