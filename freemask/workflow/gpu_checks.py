"""Checks of a node's GPU with the torch and the compiled ops of one environment; see workflow.preflight."""

import importlib
import os
import re
from pathlib import Path

from freemask.devices import VISIBLE
from freemask.errors import InputError
from freemask.weights import refuse_emulated_bfloat16
from freemask.workflow.preflight import Findings

# GB of GPU memory that a batch takes for each million pixels, in 16 bits; a low estimate, to find cards far too small.
GIGABYTES_PER_MEGAPIXEL = 1.0


def check(findings: Findings, gpus: int, dtypes: list[str], environment: str) -> bool:
    """Check that torch finds a GPU, has kernels for it, and computes right in each dtype.

    Args: gpus: training_gpus; 0: the CPU, unless there is a GPU; dtypes: float32, float16, bfloat16: those that jobs
        compute in; environment: name of its file.
    Returns: whether jobs of this kind would compute on a GPU here.
    """
    import torch

    if not found(findings, gpus, environment):
        computes(findings, "cpu", [dtype for dtype in dtypes if dtype != "float16"])
        return False
    name, capability = torch.cuda.get_device_name(), torch.cuda.get_device_capability()
    memory = torch.cuda.get_device_properties(0).total_memory
    findings.facts |= {"gpu": name, "compute_capability": ".".join(map(str, capability)), "gpu_memory": memory}
    if not has_kernels(capability, torch.cuda.get_arch_list()):
        findings.errors.append(
            f"{name} has compute capability {'.'.join(map(str, capability))}, torch {torch.__version__} has kernels "
            f"only for {' '.join(torch.cuda.get_arch_list())}; {environment} pins a torch with kernels from V100 "
            "(sm_70) to H200 (sm_90): use --software-deployment-method conda, or install that version"
        )
        return True
    if "bfloat16" in dtypes:
        try:
            refuse_emulated_bfloat16()
        except InputError as error:
            findings.errors.append(f"{error} (training_precision, precision of a model, dtype of a generator)")
            dtypes = [dtype for dtype in dtypes if dtype != "bfloat16"]
    computes(findings, "cuda", dtypes)
    return True


def found(findings: Findings, gpus: int, environment: str) -> bool:
    """Whether torch finds the GPUs that this job was given; says why not, and whether the run needs them."""
    import torch

    listed = [name for name in os.environ.get(VISIBLE, "").split(",") if name.strip() not in ("", "-1", "NoDevFiles")]
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count and count < len(listed):
        findings.errors.append(
            f"torch sees {count} GPUs, {VISIBLE} names {len(listed)} ({','.join(listed)}); is one broken (nvidia-smi)?"
        )
    if count:
        return True
    findings.facts["gpu"] = "none"
    if torch.version.cuda is None:
        why = (
            f"torch {torch.__version__} is built without CUDA; install the one of {environment}, or use "
            "--software-deployment-method conda"
        )
    else:
        why = "CUDA finds no device"
        try:
            torch.cuda.init()
        except (RuntimeError, AssertionError) as error:
            why = re.split(r"\. |\n| Please", " ".join(str(error).split()))[0]
        why = f"{why}; torch {torch.__version__} wants a driver for CUDA {torch.version.cuda} (nvidia-smi shows yours)"
    if gpus:
        findings.errors.append(f"no GPU: {why}. On a machine without GPUs set training_gpus: 0")
    elif listed:
        findings.warnings.append(f"GPU {','.join(listed)} is given to this job, but isn't used: {why}")
    return False


def has_kernels(capability: tuple[int, int], architectures: list[str]) -> bool:
    """Whether kernels for these architectures (sm_70, compute_90, ...) run on a GPU of this compute capability.

    Machine code (sm) runs on the same major version with an equal or higher minor one; intermediate code (compute) on
    every later GPU.
    """
    named = re.findall(r"\b(sm|compute)_(\d+)(\d)\b", " ".join(architectures))
    made_for = [(kind, (int(major), int(minor))) for kind, major, minor in named]
    return any(one <= capability and (kind == "compute" or one[0] == capability[0]) for kind, one in made_for)


def computes(findings: Findings, device: str, dtypes: list[str]) -> None:
    """Check a small convolution and matrix product in each dtype against float64 on the CPU."""
    import torch

    generator = torch.Generator().manual_seed(0)
    image = torch.randn(2, 8, 16, 16, generator=generator, dtype=torch.float64)
    kernel = torch.randn(8, 8, 3, 3, generator=generator, dtype=torch.float64) / 8

    def work(dtype: torch.dtype, where: str) -> torch.Tensor:
        made = torch.nn.functional.conv2d(image.to(where, dtype), kernel.to(where, dtype), padding=1).flatten(2)
        return (made @ made.transpose(1, 2) / 256).to("cpu", torch.float64)

    expected = work(torch.float64, "cpu")
    for dtype in dtypes:
        try:
            difference = (work(getattr(torch, dtype), device) - expected).abs().max().item()
        except RuntimeError as error:
            findings.errors.append(f"a convolution in {dtype} fails on {device}: {' '.join(str(error).split())[:300]}")
            continue
        if not difference < 0.1 * expected.abs().max().item():
            findings.errors.append(
                f"a convolution in {dtype} on {device} is wrong by {difference:.3g}; take this node out of the run "
                "(slurm_extra: --exclude=<node>) and tell its administrators"
            )


def fits(findings: Findings, batch_size: int, side: int, dtype: str, weights: list[Path]) -> None:
    """Warn where a batch can't fit into the GPU's memory, or where another process holds most of it.

    Args: batch_size, side: of a batch of generated images [images, pixels]; weights: files of the generator.
    """
    import torch

    free, total = torch.cuda.mem_get_info()
    wide = 2 if dtype == "float32" else 1
    batch = batch_size * side**2 / 1e6 * GIGABYTES_PER_MEGAPIXEL * 1e9 * wide
    stored = sum(path.stat().st_size for path in weights if path.is_file()) / (2 / wide)  # checkpoints are float32
    if total < batch + stored:
        findings.warnings.append(
            f"{total / 1e9:.1f} GB of GPU memory, a batch of {batch_size} images needs {(batch + stored) / 1e9:.1f} GB "
            f"or more (an estimate); lower batch_size of the generator (now {batch_size})"
        )
    if free < 0.8 * total:
        findings.warnings.append(
            f"{(total - free) / 1e9:.1f} of {total / 1e9:.1f} GB of GPU memory is in use before a job starts; "
            "nvidia-smi shows by whom"
        )


def runs_ops(findings: Findings, device: str) -> None:
    """Check that mmcv's compiled ops, which Mask2Former needs, run here: IoU of two squares that share half is 1/3."""
    import torch

    try:
        ops = importlib.import_module("mmcv.ops")
        squares = torch.tensor([[0.5, 0.5, 1, 1, 0.0]]), torch.tensor([[1.0, 0.5, 1, 1, 0.0]])
        result = ops.box_iou_rotated(*(square.to(device) for square in squares)).item()
    except (ImportError, RuntimeError, AttributeError) as error:
        said = " ".join(str(error).split())[:200]
        if "no kernel image" in said or "not compiled with GPU" in said:
            capability = findings.facts.get("compute_capability", "?")
            findings.errors.append(
                f"mmcv's ops aren't compiled for this GPU ({said}); set TORCH_CUDA_ARCH_LIST={capability} (several: "
                '"7.0;9.0"), remove the environment below .snakemake/conda, and start again: it is built anew'
            )
        else:
            findings.errors.append(
                f"mmcv's compiled ops, which Mask2Former needs, don't load ({said}); envs/segmentation.post-deploy.sh "
                "builds them for conda, envs/mmcv_ops.sh for another environment"
            )
        return
    if abs(result - 1 / 3) > 1e-4:
        findings.errors.append(f"mmcv's op box_iou_rotated gives {result}, want 1/3; build mmcv's ops again")
