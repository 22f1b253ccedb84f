"""Import an mmsegmentation checkpoint: its weights as a training leaves them (a state_dict), checked against the model.

Loading executes nothing that the file holds. Its names, shapes and, where it tells them, classes must be the config's.
"""

import argparse
from pathlib import Path

from freemask import cli, files


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help=".pth with a state_dict, or a state_dict itself")
    parser.add_argument("--sha256", help="SHA-256 of the file, or its first hex digits (default: not checked)")
    parser.add_argument("--config", type=Path, required=True, help="config.py of the row that it stands in for")
    parser.add_argument("--weights", type=Path, required=True, help="output: weights.pth")
    return parser


def main(arguments: argparse.Namespace) -> None:
    """Check and write."""
    import torch

    from freemask.data.label_space import LabelSpace
    from freemask.segmentation.checkpoints import import_weights
    from freemask.segmentation.runner import read_config

    config = read_config(arguments.config)
    data = config.test_dataloader.dataset
    names = LabelSpace.read(data.classes, data.ignored).names
    weights = import_weights(config, arguments.checkpoint, arguments.sha256, names)
    files.write_atomic(arguments.weights, lambda file: torch.save(weights, file))


if __name__ == "__main__":
    cli.run(main, options().parse_args())
