"""Time synthesis at Stable Diffusion 1.4's size (random weights), against the reference's way, in one run.

Prints seconds per image and the shares of masks, text, noise, UNet, sampler, VAE and JPEG; what rectification costs
over plain cross-attention; the UNet's share of the machine's measured matrix-multiply rate; the ratio to the original
code's way (plain_freestyle.py), whose predictions must agree; and, in a run of the real shard over --shard-batches
batches, the share of the time in which the device waits for input or output. Each with its target.

Every call is made once untimed, then --repeats times, all ways in turn. An image has 51 UNet calls (50 PLMS steps); the
sampler's own 50 steps are timed as a whole. CPU: --dtype float32; --size sd14 takes minutes on two cores.
"""

import argparse
import platform
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput
from plain_freestyle import PlainAttnProcessor, predict_plainly
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPTextConfig, CLIPTextModel

from freemask import cli, files
from freemask.freestyle.pipeline import FreestylePipeline, make_scheduler
from freemask.freestyle.prompt import clip_tokenizer
from freemask.generators import arrange
from freemask.labels import LabelSpace

CLASSES = Path(__file__).parents[1] / "config" / "datasets" / "ade20k.tsv"
IGNORED = 0
GUIDANCE = 2.0
STEPS = 50
CALLS = 51  # of the UNet in 50 steps of PLMS
TIME = 981  # noise level of the timed calls


class Target(NamedTuple):
    """A number of the summary and what it should be: at least or at most a value, on one device or on any (None)."""

    key: str
    name: str
    value: float
    least: bool
    device: str | None = None
    unit: str = " %"
    digits: int = 1


TARGETS = (
    Target("plain_ratio", "times as fast as the reference's way", 1.9, True, "cpu", "", 2),
    Target("plain_ratio", "times as fast as the reference's way", 4.0, True, "cuda", "", 2),
    Target("plain_ratio_unet", "times as fast as the reference's way, the UNet alone", 1.9, True, "cpu", "", 2),
    Target("plain_ratio_unet", "times as fast as the reference's way, the UNet alone", 4.0, True, "cuda", "", 2),
    Target("rectification_cost", "rectification over plain cross-attention, of the UNet's time", 0.05, False),
    Target("share_masks", "masks, of an image's time", 0.01, False, digits=3),
    Target("share_of_matmul", "UNet, of the measured rate of matrix products", 0.45, True, "cuda"),
    Target("share_waiting", "the device waits for input or output", 0.05, False),
)
SIZES = {  # UNet's and VAE's channels, UNet's and VAE's blocks per level, text width and layers, image side [pixels]
    "sd14": {"unet": (320, 640, 1280, 1280), "vae": (128, 256, 512, 512), "blocks": 2, "text": (768, 12), "side": 512},
    "small": {"unet": (64, 128, 256, 256), "vae": (32, 64, 64, 64), "blocks": 1, "text": (128, 2), "side": 256},
}


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
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall", help="cpu: a busy machine, one thread")
    parser.add_argument("--json", type=Path, help="output: the numbers as JSON")
    return parser


class Clock:
    """Seconds spent in watched functions, the device's work included."""

    def __init__(self, device: str, kind: str = "wall"):
        self.device, self.read = device, {"wall": time.perf_counter, "cpu": time.process_time}[kind]
        self.seconds = defaultdict(list)

    def now(self) -> float:
        """Seconds, once the device is done."""
        if self.device == "cuda":
            torch.cuda.synchronize()
        return self.read()

    def timed(self, name: str, work: Callable, *arguments, **named):
        """The result of a call; its time is noted under the name."""
        start = self.now()
        result = work(*arguments, **named)
        self.seconds[name].append(self.now() - start)
        return result

    def median(self, name: str) -> float:
        """Median seconds of the calls under a name."""
        return statistics.median(self.seconds[name])

    def ratio(self, name: str, other: str) -> float:
        """Median of the ratios of calls made in the same round."""
        return statistics.median(a / b for a, b in zip(self.seconds[name], self.seconds[other], strict=True))


def build_unet(sizes: dict) -> UNet2DConditionModel:
    """Stable Diffusion 1.x's UNet: three levels with attention, one without."""
    return UNet2DConditionModel(
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        block_out_channels=sizes["unet"],
        layers_per_block=sizes["blocks"],
        attention_head_dim=8,  # diffusers' name for the number of heads
        cross_attention_dim=sizes["text"][0],
    )


def build_pipeline(sizes: dict, device: str, dtype: torch.dtype) -> FreestylePipeline:
    """The pipeline with random weights."""
    torch.manual_seed(0)
    width, layers = sizes["text"]
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=sizes["vae"],
        layers_per_block=sizes["blocks"],
    )
    text = CLIPTextConfig(
        vocab_size=49408, hidden_size=width, intermediate_size=4 * width, num_hidden_layers=layers,
        num_attention_heads=width // 64, bos_token_id=49406, eos_token_id=49407, pad_token_id=49407,
    )  # fmt: skip
    parts = [vae.eval(), CLIPTextModel(text).eval(), clip_tokenizer(), build_unet(sizes).eval()]
    pipeline = FreestylePipeline(*parts, make_scheduler("plms"))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device, dtype)


def draw_masks(words: dict[int, str], count: int, classes: int, side: int) -> np.ndarray:
    """Masks (count, side, side) uint8 of blocks, with so many classes each."""
    random = np.random.default_rng(0)
    blocks = []
    for _ in range(count):
        chosen = random.choice(sorted(words), size=classes, replace=False).astype(np.uint8)
        blocks.append(chosen[random.permutation(np.arange(256) % classes).reshape(16, 16)])
    return np.stack(blocks).repeat(side // 16, 1).repeat(side // 16, 2)


@torch.no_grad()
def measure(pipeline: FreestylePipeline, words, labels, clock: Clock, plain_first: bool) -> float:
    """Time each part of one batch, and one UNet call of a step three ways: ours, without masks, the reference's.

    plain_first: order of the three, changed from round to round.
    Returns: by how much ours and the reference's predictions differ, as a share of the largest value.
    """
    names = [f"mask-{number}" for number in range(len(labels))]
    pipeline.forget_contexts()  # so that every caption is encoded, as for masks never seen before
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

    layout = (torch.from_numpy(labels), prompts)
    ways = [
        ("UNet", call, masks),
        ("UNet without masks", call, None),
        ("plain UNet", lambda given: predict_plainly(pipeline, sample, TIME, context, given), layout),
    ]
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
    clock.timed("JPEG", lambda: [files.jpeg_bytes(image, 95) for image in images])


def unet_flops(sizes: dict) -> float:
    """Floating-point operations of one UNet call for one image, counted on tensors without content."""
    with torch.device("meta"):
        unet = build_unet(sizes)
        unet.set_attn_processor(PlainAttnProcessor())
        side = sizes["side"] // 8
        with FlopCounterMode(display=False) as counter:
            unet(torch.empty(1, 4, side, side), torch.empty(1), torch.empty(1, 77, sizes["text"][0]))
    return counter.get_total_flops()


def matmul_rate(clock: Clock, dtype: torch.dtype) -> float:
    """Operations per second of large matrix products on the device, the best of five."""
    size = 8192 if clock.device == "cuda" else 2048
    a, b = (torch.randn(size, size, device=clock.device, dtype=dtype) for _ in range(2))
    for _ in range(6):
        clock.timed("matmul", torch.matmul, a, b)
    return 2 * size**3 / min(clock.seconds["matmul"][1:])


def main(arguments: argparse.Namespace) -> None:
    """Time, compare, report."""
    torch.set_num_threads(arguments.threads)
    sizes, dtype = SIZES[arguments.size], getattr(torch, arguments.dtype)
    space = LabelSpace.read(CLASSES, IGNORED)
    words = dict(zip(space.ids, space.words, strict=True))
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
    report(numbers, arguments)
    if arguments.json:
        files.write_json(arguments.json, numbers)


def summary(clock: Clock, arguments: argparse.Namespace, flops: float, rate: float) -> dict[str, float]:
    """Seconds per image at 50 PLMS steps, and the ratios."""
    batch = arguments.batch_size
    seconds = {name: clock.median(name) / batch for name in ("masks", "noise", "text", "sampler", "VAE", "JPEG")}
    seconds["text"] += clock.median("prompt") / batch
    seconds["UNet"] = clock.median("UNet") * CALLS / batch
    total = sum(seconds.values())
    plain = total - seconds["masks"] + (clock.ratio("plain UNet", "UNet") - 1) * seconds["UNet"]
    return {
        **{f"seconds_{name}": value for name, value in seconds.items()},
        "seconds": total,
        "plain_seconds": plain,
        "plain_ratio": plain / total,
        "plain_ratio_unet": clock.ratio("plain UNet", "UNet"),
        "share_masks": seconds["masks"] / total,
        "rectification_cost": clock.ratio("UNet", "UNet without masks") - 1,
        "unet_tflop": flops / 1e12,
        "matmul_tflops": rate / 1e12,
        "share_of_matmul": 2 * batch * flops / clock.median("UNet") / rate,
    }


def verdicts(numbers: dict[str, float], device: str) -> list[str]:
    """A line per target: what was measured, the target, and whether it is met on this device."""
    lines = []
    for target in TARGETS:
        if target.key in numbers and target.device in (None, device):
            found = numbers[target.key]
            met = found >= target.value if target.least else found <= target.value
            side, scale = ("least" if target.least else "most"), 100 if target.unit == " %" else 1
            shown = f"{found * scale:.{target.digits}f}{target.unit}"
            wanted = f"at {side} {target.value * scale:g}{target.unit}"
            lines.append(f"{target.name}: {shown} (target: {wanted}; {'met' if met else 'missed'})")
    return lines


def report(numbers: dict[str, float], arguments: argparse.Namespace) -> None:
    """Print what was found."""
    on_gpu = arguments.device == "cuda"
    where = torch.cuda.get_device_name() if on_gpu else platform.processor() or platform.machine()
    cli.tell(
        f"{arguments.size}, batch {arguments.batch_size}, {arguments.dtype}, {where}, {arguments.threads} CPU threads,"
        f" torch {torch.__version__}, {arguments.clock} time, medians of {arguments.repeats}"
    )
    cli.tell(f"{numbers['seconds']:.2f} s an image (50 PLMS steps with guidance):")
    for name in ("masks", "noise", "text", "UNet", "sampler", "VAE", "JPEG"):
        seconds = numbers[f"seconds_{name}"]
        cli.tell(f"  {name:8} {seconds:10.4f} s {100 * seconds / numbers['seconds']:7.3f} %")
    cli.tell(
        f"the reference's way: {numbers['plain_seconds']:.2f} s an image; predictions differ by"
        f" {numbers['relative_difference']:.1e} of the largest"
    )
    cli.tell(
        f"UNet: {numbers['unet_tflop']:.3f} TFLOP a call and image, {100 * numbers['share_of_matmul']:.0f} % of the"
        f" measured {numbers['matmul_tflops']:.3f} TFLOP/s of matrix products"
    )
    for line in verdicts(numbers, arguments.device):
        cli.tell(line)


if __name__ == "__main__":
    main(options().parse_args())
