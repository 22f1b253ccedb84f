"""Resolve one training into an mmengine config (config.py): model, data, regime, schedule, seeds.

Needs no data: the tables are named in the config, not read. Paths stand in it as given; give relative ones.
"""

import argparse
from pathlib import Path

from freemask import cli, files
from freemask.errors import InputError


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--models", required=True, help="models.yaml")
    parser.add_argument("--model", required=True, help="entry of models.yaml")
    parser.add_argument("--dataset", required=True, help="data set id: picks the entry's iterations")
    parser.add_argument("--classes", required=True, help="class table of the data set")
    parser.add_argument("--ignored-label", dest="ignored", required=True, type=int, help="raw label that no loss sees")
    parser.add_argument("--regime", required=True, choices=["real", "synthetic", "finetune", "joint"])
    parser.add_argument("--schedule", type=int, default=1, help="multiple of the real-image iterations")
    parser.add_argument("--real", help="table of real training pairs: image, mask")
    parser.add_argument("--synthetic", help="table of synthetic training pairs: image, mask")
    parser.add_argument("--validation", required=True, help="table of validation pairs: image, mask")
    parser.add_argument("--train-seed", type=int, required=True)
    parser.add_argument("--load-from", help="pre-trained weights that finetune starts from")
    parser.add_argument("--initial-weights", help="local copy of the model entry's initial weights")
    parser.add_argument("--gpus", type=int, help="processes per step; a divisor of the model entry's number")
    parser.add_argument("--precision", choices=["fp32", "fp16", "bf16"], default="fp32")
    parser.add_argument("--balance", choices=["exact", "repeat"], default="exact", help="joint batches")
    parser.add_argument("--config", type=Path, required=True, help="output: config.py; work/ will lie beside it")
    return parser


def main(arguments: argparse.Namespace) -> None:
    """Write the config."""
    from freemask.training import Experiment, config_text, read_model, resolve

    options = {key: value for key, value in vars(arguments).items() if key not in ("log", "models", "config")}
    for key, value in options.items():
        if isinstance(value, str) and Path(value).is_absolute():
            raise InputError(f"--{key.replace('_', '-')} {value}: absolute; want it relative to the working directory")
    experiment = Experiment(work_dir=str(arguments.config.parent / "work"), **options)
    config = resolve(read_model(arguments.models, arguments.model), experiment)
    files.write_atomic(arguments.config, config_text(config).encode())


if __name__ == "__main__":
    cli.run(main, options().parse_args())
