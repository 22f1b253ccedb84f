"""Time synthesis at Stable Diffusion 1.4's size (random weights), against the reference's way, in one run.

Prints seconds per image and the shares of masks, text, UNet, sampler, VAE and JPEG; what rectification costs over plain
cross-attention; the UNet's share of the machine's measured matrix-multiply rate; and the same images made as the
original code makes them: masks rebuilt in Python in every layer of every step, unfused attention, and one pass for
each half of the guidance. Both must give the same latents. UNet calls are timed over --steps steps of DDIM (one call
a step) and multiplied to the 51 calls of 50 PLMS steps. CPU: --dtype float32; --size sd14 takes minutes on two cores.
"""

import argparse
import platform
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPTextConfig, CLIPTextModel

from freemask import cli, files
from freemask.freestyle.attention import RectifiedAttnProcessor, rectify
from freemask.freestyle.pipeline import FreestylePipeline, make_scheduler
from freemask.freestyle.prompt import Prompt, clip_tokenizer
from freemask.labels import LabelSpace

CLASSES = Path(__file__).parents[1] / "config" / "datasets" / "ade20k.tsv"
IGNORED = 0
GUIDANCE = 2.0
CALLS = 51  # of the UNet in 50 steps of PLMS
SIZES = {  # UNet's and VAE's channels, UNet's and VAE's blocks per level, text width and layers, image side [pixels]
    "sd14": {"unet": (320, 640, 1280, 1280), "vae": (128, 256, 512, 512), "blocks": 2, "text": (768, 12), "side": 512},
    "small": {"unet": (64, 128, 256, 256), "vae": (32, 64, 64, 64), "blocks": 1, "text": (128, 2), "side": 256},
}


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="sd14", help="of the networks and images (default: sd14)")
    parser.add_argument("--steps", type=int, default=2, help="timed UNet calls per repeat (default: 2)")
    parser.add_argument("--repeats", type=int, default=3, help="medians are printed; the first warms up (default: 3)")
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
    pipeline = FreestylePipeline(*parts, make_scheduler("ddim"))
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


class ReferenceAttnProcessor(RectifiedAttnProcessor):
    """Attention as the original computes it: scores in full, masks made anew from the layout at every call."""

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, temb=None, layout=None):
        """Attend from (B, h * w, C) to text or to itself; layout: labels (B, H, W) and each image's prompt."""
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query = self._heads(attn.to_q(hidden_states), attn.heads)
        key, value = (self._heads(layer(context), attn.heads) for layer in (attn.to_k, attn.to_v))
        scores = query @ key.transpose(-1, -2) * attn.scale
        if encoder_hidden_states is not None and layout is not None:
            seen = rebuilt_masks(*layout, hidden_states.shape[1]).to(scores.device)
            scores = scores.masked_fill(~seen[:, None], -torch.finfo(scores.dtype).max)
        attended = (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)
        return attn.to_out[1](attn.to_out[0](attended))


def rebuilt_masks(labels: torch.Tensor, prompts: list[Prompt], pixels: int) -> torch.Tensor:
    """(B, pixels, 77) bool, image by image and token by token."""
    side = round(pixels**0.5)
    masks = torch.ones(len(prompts), pixels, 77, dtype=torch.bool)
    for image, prompt in enumerate(prompts):
        small = torch.nn.functional.interpolate(labels[image][None, None].float(), (side, side), mode="nearest")
        for token, label in enumerate(prompt.token_labels.tolist()):
            if label >= 0:
                masks[image, :, token] = (small == label).flatten()
    return masks


@torch.no_grad()
def denoise_plainly(pipeline, labels, prompts, noise, steps) -> torch.Tensor:
    """The reference's sampling: a pass without text, a pass with it, and the layout handed to every layer."""
    empty, full = pipeline.encode_prompts([pipeline.empty_prompt()] * len(prompts)), pipeline.encode_prompts(prompts)
    layout, latents = (torch.from_numpy(labels), prompts), noise
    pipeline.scheduler.set_timesteps(steps)
    for t in pipeline.scheduler.timesteps:
        sample = latents.to(pipeline.unet.dtype)
        unconditional = pipeline.unet(sample, t, empty).sample.float()
        given = {"layout": layout}
        conditional = pipeline.unet(sample, t, full, cross_attention_kwargs=given).sample.float()
        guided = unconditional + GUIDANCE * (conditional - unconditional)
        latents = pipeline.scheduler.step(guided, t, latents, return_dict=False)[0]
    return latents


@torch.no_grad()
def paint(pipeline: FreestylePipeline, words, labels, steps: int, clock: Clock) -> torch.Tensor:
    """One batch our way, by the pipeline's own parts, each timed; returns the latents."""
    names = [f"mask-{number}" for number in range(len(labels))]
    pipeline.forget_contexts()  # so that every caption is encoded, as for masks never seen before
    each = zip(labels, names, strict=True)
    prompts = [clock.timed("prompt", pipeline.prompt, mask, words, IGNORED, name) for mask, name in each]
    both = [pipeline.empty_prompt()] * len(prompts) + prompts
    context = clock.timed("text", pipeline.encode_prompts, both)
    masks = clock.timed("masks", pipeline.visibility, np.concatenate([labels, labels]), both)
    noise = pipeline.initial_noise(names, [0] * len(names), labels.shape[1:])
    latents = clock.timed("denoise", pipeline.denoise, noise, context, masks, steps, GUIDANCE)
    images = clock.timed("VAE", pipeline.decode_latents, latents)
    clock.timed("JPEG", lambda: [files.jpeg_bytes(image, 95) for image in images])
    sample = torch.cat([noise, noise]).to(pipeline.unet.dtype)
    for name, given in (("UNet", masks), ("UNet without masks", None)):
        clock.timed(name, pipeline.unet, sample, 981, context, cross_attention_kwargs={"visibility": given})
    return latents


def paint_plainly(pipeline: FreestylePipeline, words, labels, steps: int, clock: Clock) -> torch.Tensor:
    """The same batch the reference's way; returns the latents."""
    names = [f"mask-{number}" for number in range(len(labels))]
    prompts = [pipeline.prompt(mask, words, IGNORED, name) for mask, name in zip(labels, names, strict=True)]
    noise = pipeline.initial_noise(names, [0] * len(names), labels.shape[1:])
    pipeline.encode_prompts([pipeline.empty_prompt(), *prompts])  # timed above already
    pipeline.unet.set_attn_processor(ReferenceAttnProcessor())
    try:
        return clock.timed("plain denoise", denoise_plainly, pipeline, labels, prompts, noise, steps)
    finally:
        rectify(pipeline.unet)


def unet_flops(sizes: dict) -> float:
    """Floating-point operations of one UNet call for one image, counted on tensors without content."""
    with torch.device("meta"):
        unet = build_unet(sizes)
        unet.set_attn_processor(ReferenceAttnProcessor())
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
    clock = Clock(arguments.device, arguments.clock)
    for _ in range(arguments.repeats):
        ours = paint(pipeline, words, labels, arguments.steps, clock)
        plain = paint_plainly(pipeline, words, labels, arguments.steps, clock)
    error = float((ours - plain).abs().max() / plain.abs().max())
    if dtype is torch.float32:
        assert error < 1e-3, f"both ways differ by {error:.1e} of the largest latent"
    numbers = summary(clock, arguments, unet_flops(sizes), matmul_rate(clock, dtype))
    numbers["relative_difference_of_latents"] = error
    report(numbers, arguments)
    if arguments.json:
        files.write_json(arguments.json, numbers)


def summary(clock: Clock, arguments: argparse.Namespace, flops: float, rate: float) -> dict[str, float]:
    """Seconds per image at 50 PLMS steps, and the ratios."""
    batch, steps = arguments.batch_size, arguments.steps
    unet = clock.median("UNet") * CALLS / batch
    seconds = {name: clock.median(name) / batch for name in ("masks", "text", "VAE", "JPEG")}
    seconds["text"] += clock.median("prompt")
    seconds["UNet"] = unet
    seconds["sampler"] = max(clock.median("denoise") * CALLS / steps / batch - unet, 0.0)
    total, common = sum(seconds.values()), seconds["text"] + seconds["VAE"] + seconds["JPEG"]
    plain = clock.median("plain denoise") * CALLS / steps / batch + common
    pairs = zip(clock.seconds["UNet"], clock.seconds["UNet without masks"], strict=True)
    return {
        **{f"seconds_{name}": value for name, value in seconds.items()},
        "seconds": total,
        "plain_seconds": plain,
        "plain_ratio": plain / total,
        "rectification_cost": statistics.median(masked / unmasked for masked, unmasked in pairs) - 1,
        "unet_tflop": flops / 1e12,
        "matmul_tflops": rate / 1e12,
        "share_of_matmul": 2 * batch * flops / clock.median("UNet") / rate,
    }


def report(numbers: dict[str, float], arguments: argparse.Namespace) -> None:
    """Print what was found."""
    where = torch.cuda.get_device_name() if arguments.device == "cuda" else platform.processor() or platform.machine()
    cli.tell(
        f"{arguments.size}, batch {arguments.batch_size}, {arguments.dtype}, {where}, torch {torch.__version__},"
        f" {arguments.clock} time"
    )
    cli.tell(f"{numbers['seconds']:.2f} s an image (50 PLMS steps with guidance, {arguments.steps} timed steps):")
    for name in ("masks", "text", "UNet", "sampler", "VAE", "JPEG"):
        seconds = numbers[f"seconds_{name}"]
        cli.tell(f"  {name:8} {seconds:10.4f} s {100 * seconds / numbers['seconds']:7.3f} %")
    cli.tell(f"the reference's way: {numbers['plain_seconds']:.2f} s an image, ratio {numbers['plain_ratio']:.2f}")
    cli.tell(f"  latents differ by {numbers['relative_difference_of_latents']:.1e} of the largest")
    cli.tell(
        f"rectification over plain cross-attention: {100 * numbers['rectification_cost']:+.1f} % of the UNet's time"
    )
    cli.tell(
        f"UNet: {numbers['unet_tflop']:.3f} TFLOP a call and image, {100 * numbers['share_of_matmul']:.0f} % of the"
        f" measured {numbers['matmul_tflops']:.3f} TFLOP/s of matrix products"
    )


if __name__ == "__main__":
    main(options().parse_args())
