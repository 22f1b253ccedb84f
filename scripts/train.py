"""Train a segmentor from a resolved config; see `train`."""

import os
from pathlib import Path
from typing import Any, Literal

from freemask import cli, segmentation

RANK = {"pytorch": "RANK", "slurm": "SLURM_PROCID"}  # where torchrun and srun tell a process its number


def train(
    *,
    config: Path,
    work_dir: Path | None = None,
    weights: Path,
    launcher: Literal["auto", "none", "pytorch", "slurm"] = "auto",
    threads: cli.Positive | None = None,
) -> None:
    """Train a segmentor from a resolved config; writes its weights (a state_dict, loadable with weights_only).

    If the config validates during training, the best weights by mIoU are written beside them: best.pth, best.json.
    Training resumes from the last readable checkpoint in the work folder that was made from the same config, tables and
    initial weights. On one core, the same inputs give the same weights. Several GPUs: srun with --launcher slurm, or
    python -m freemask.devices --gpus N -- torchrun --standalone --nproc-per-node N scripts/train.py ... (N free ones).

    Args:
        config: Config from training_config.
        work_dir: Folder of checkpoints and logs (default: the config's).
        weights: Output, a state_dict.
        launcher: How the processes are started; auto recognises torchrun.
        threads: CPU threads of torch (default: torch's choice).
    """
    from freemask.segmentation import checkpoints, runner
    from freemask.segmentation.interruptions import remove_checkpoints
    from freemask.stopping import Stop

    runner.pick_device("auto", threads)
    settings = runner.read_config(config)
    settings.work_dir = str(work_dir or settings.work_dir)
    state = runner.train(settings, chosen(launcher))
    if rank(launcher) == 0:
        with Stop() as stop:  # what is left takes seconds: SIGTERM waits for it
            steps = settings.train_cfg.max_iters // settings.experiment.iterations
            checkpoints.hand_out_best(settings.work_dir, weights.with_name("best.pth"), steps)
            checkpoints.write_weights(weights, state)
            if not stop.requested:  # else this job may still count as failed, and its next attempt ends at once
                remove_checkpoints(settings.work_dir)


def chosen(launcher: str) -> str:
    """How the processes were started: auto is resolved by what torchrun sets."""
    if launcher == "auto":
        return "pytorch" if "TORCHELASTIC_RUN_ID" in os.environ else "none"
    return launcher


def rank(launcher: str) -> int:
    """Number of this process among those of the training."""
    return int(os.environ.get(RANK.get(chosen(launcher), ""), "0"))


def gpus(options: dict[str, Any]) -> int:
    """GPUs to take: none under srun, whose processes share out the node's."""
    return 0 if options.get("launcher") == "slurm" else 1


if __name__ == "__main__":
    cli.run(train, gpus=gpus, hidden=segmentation.HIDDEN)
