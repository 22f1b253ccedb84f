"""Train a segmentor from a resolved config; writes its weights (a state_dict, loadable with weights_only).

Resumes from the last readable checkpoint in the config's work folder. On one core, the same config gives the same
weights. Several GPUs: torchrun --nproc-per-node N scripts/train.py --launcher pytorch, or srun with --launcher slurm.
"""

import argparse
import os
from pathlib import Path

from freemask import cli, files


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--config", type=Path, required=True, help="config.py from training_config.py")
    parser.add_argument("--weights", type=Path, required=True, help="output: weights.pth")
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm"], default="none")
    parser.add_argument("--threads", type=int, help="CPU threads (as torch likes if not given)")
    return parser


def main(arguments: argparse.Namespace) -> None:
    """Train, then write weights."""
    import torch

    from freemask.segmentation.runner import read_config, train

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    weights = train(read_config(arguments.config), arguments.launcher)
    if _rank() == 0:
        files.write_atomic(arguments.weights, lambda file: torch.save(weights, file))


def _rank() -> int:
    return int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")))


if __name__ == "__main__":
    given = options().parse_args()
    if given.launcher != "none" and _rank() > 0:
        given.log = None  # the log is the first process's
    cli.run(main, given)
