"""Check a node with a GPU before a run; see `preflight_gpu`."""

from pathlib import Path
from typing import Literal

from freemask import cli


def preflight_gpu(
    *,
    kind: Literal["synthesis", "segmentation"],
    submitting: Path,
    gpus: cli.NotNegative,
    dtypes: list[Literal["float32", "float16", "bfloat16"]],
    compiled_ops: bool = False,
    batch_size: cli.Positive | None = None,
    image_size: cli.Positive = 512,
    weights: list[Path] | None = None,
    result: Path,
) -> None:
    """Check GPU, driver, torch, compiled ops, files, clocks and shared memory of a node; ends with all that is wrong.

    A machine without a GPU passes if the configuration asks for none (training_gpus: 0).

    Args:
        kind: The environment that this runs in.
        submitting: What the submitting machine found (preflight); nothing is compared with an empty file.
        gpus: training_gpus.
        dtypes: Arithmetic of the jobs.
        compiled_ops: A model needs mmcv's compiled ops.
        batch_size: Images of a batch of synthesis.
        image_size: Their side [pixels].
        weights: Files of the generator.
        result: Output: what was found, JSON.
    """
    from freemask.files import read_json
    from freemask.workflow import gpu_checks
    from freemask.workflow import preflight as checks

    findings = checks.Findings()
    checks.versions(findings)
    if submitting.stat().st_size:
        noted = read_json(submitting)
        checks.same_versions(findings, noted)
        checks.same_files(findings, noted)
    checks.writable(findings, result.parent)
    checks.local_room(findings, shared=gpus > 0 and kind == "segmentation")
    on_gpu = gpu_checks.check(findings, gpus, dtypes, f"envs/{kind}.yaml")
    usable = on_gpu and not findings.errors
    if usable and batch_size:
        gpu_checks.fits(
            findings, batch_size, image_size, "float32" if dtypes == ["float32"] else "float16", weights or []
        )
    if compiled_ops and (usable or not on_gpu):
        gpu_checks.runs_ops(findings, "cuda" if on_gpu else "cpu")
    gpu = findings.facts.get("gpu")
    cli.tell(findings.write(result, f"{kind} on {'the CPU, without a GPU' if gpu == 'none' else gpu}"))


if __name__ == "__main__":
    cli.run(preflight_gpu, gpus=1)
