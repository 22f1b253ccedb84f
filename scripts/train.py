"""Train a segmentor from a resolved config; writes its weights (a state_dict, loadable with weights_only).

Where the config validates during training, the best weights by mIoU are written beside them: best.pth, best.json.

Resumes from the last readable checkpoint in the work folder if that was made from the same config, tables and initial
weights. On one core, the same inputs give the same weights. Several GPUs: srun with --launcher slurm, or
python -m freemask.devices --gpus N -- torchrun --standalone --nproc-per-node N scripts/train.py ... (N free ones).
"""

import argparse
import os
from pathlib import Path

from freemask import cli, files


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--config", type=Path, required=True, help="config.py from training_config.py")
    parser.add_argument("--work-dir", help="mmengine's folder: checkpoints, logs (default: the config's)")
    parser.add_argument("--weights", type=Path, required=True, help="output: weights.pth")
    parser.add_argument(
        "--launcher", choices=["auto", "none", "pytorch", "slurm"], default="auto", help="auto: torchrun"
    )
    parser.add_argument("--threads", type=int, help="CPU threads (as torch likes if not given)")
    return parser


def main(arguments: argparse.Namespace) -> None:
    """Train, then write weights."""
    import torch

    from freemask.segmentation import best
    from freemask.segmentation.runner import pick_device, read_config, remove_checkpoints, train

    pick_device("auto", arguments.threads)
    config = read_config(arguments.config)
    config.work_dir = arguments.work_dir or config.work_dir
    weights = train(config, launcher(arguments))
    if rank(arguments) == 0:
        steps = config.train_cfg.max_iters // config.experiment.iterations
        best.hand_out(config.work_dir, arguments.weights.with_name("best.pth"), steps)
        files.write_atomic(arguments.weights, lambda file: torch.save(weights, file))
        remove_checkpoints(config.work_dir)


def launcher(arguments: argparse.Namespace) -> str:
    """How processes were started; torchrun is recognised by what it sets."""
    if arguments.launcher == "auto":
        return "pytorch" if "TORCHELASTIC_RUN_ID" in os.environ else "none"
    return arguments.launcher


def rank(arguments: argparse.Namespace) -> int:
    """Which of the processes this is."""
    variable = {"none": "", "pytorch": "RANK", "slurm": "SLURM_PROCID"}[launcher(arguments)]
    return int(os.environ.get(variable, "0"))


if __name__ == "__main__":
    given = options().parse_args()
    if rank(given) > 0:
        given.log = None  # the log is the first process's
    cli.run(main, given, gpus=0 if launcher(given) == "slurm" else 1)  # srun's processes share out the node's
