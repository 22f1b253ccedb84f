"""Report of benchmarks/synthesis.py, with targets."""

import argparse
import platform
from typing import NamedTuple

import torch

from freemask import cli


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


def verdicts(numbers: dict[str, float], device: str) -> list[str]:
    """A line per target: what was measured, the target, and whether it is met on this device."""
    lines = []
    for target in TARGETS:
        if target.key in numbers and target.device in (None, device):
            found = numbers[target.key]
            met = found >= target.value if target.least else found <= target.value
            side, scale = ("least" if target.least else "most"), 100 if target.unit == " %" else 1
            shown = f"{found * scale:.{target.digits}f}{target.unit}"
            bound = f"at {side} {target.value * scale:g}{target.unit}"
            lines.append(f"{target.name}: {shown} (target: {bound}; {'met' if met else 'missed'})")
    return lines


def report(numbers: dict[str, float], arguments: argparse.Namespace) -> None:
    """Print the numbers."""
    on_gpu = arguments.device == "cuda"
    where = torch.cuda.get_device_name() if on_gpu else platform.processor() or platform.machine()
    cli.tell(
        f"{arguments.size}, batch {arguments.batch_size}, {arguments.dtype}, {where}, {arguments.threads} CPU threads,"
        f" torch {torch.__version__}, {arguments.clock} time, best of {arguments.repeats}"
    )
    cli.tell(f"slowest call of the UNet to the quickest: {numbers['spread']:.2f} (far from 1: the machine was busy)")
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
    if "compile_seconds" in numbers:
        cli.tell(
            f"torch.compile: {numbers['compile_seconds']:.1f} s, then the UNet {numbers['compile_speed']:.2f} times as"
            f" fast; paid after {numbers['compile_pays_after']:.0f} images"
        )
    for line in verdicts(numbers, arguments.device):
        cli.tell(line)
