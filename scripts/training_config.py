"""Resolve one training into an mmengine config (config.py): model, data, regime, schedule, seeds.

Needs no data: the tables are named in the config, not read. Paths stand in it as given; give relative ones.
"""

import argparse
import json
from pathlib import Path

from freemask import cli, files
from freemask.errors import InputError


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--settings", type=json.loads, help="JSON: the model's entry of the models file")
    parser.add_argument("--models", help="instead of --settings: the models file, and with --model its entry")
    parser.add_argument("--model", help="entry of --models")
    parser.add_argument("--dataset", required=True, help="data set id: picks the entry's iterations")
    parser.add_argument("--classes", required=True, help="class table: label, name, word, color")
    parser.add_argument("--ignored-label", required=True, type=int, help="raw label that means 'ignored'")
    parser.add_argument("--regime", required=True, choices=["real", "synthetic", "finetune", "joint"])
    parser.add_argument("--schedule", type=int, default=1, help="multiple of the real-image iterations (default: 1)")
    parser.add_argument("--train", help="table of real training pairs: image, mask")
    parser.add_argument("--synthetic", help="table of synthetic training pairs: image, mask")
    parser.add_argument("--val", required=True, help="table of validation pairs: image, mask")
    parser.add_argument("--train-seed", type=int, required=True, help="seed of initialisation, order and augmentation")
    parser.add_argument("--initial", help="pre-trained weights that finetune starts from")
    parser.add_argument("--initial-weights", help="local copy of the model entry's initial weights (default: its url)")
    parser.add_argument("--gpus", type=int, default=0, help="divisor of the entry's number; 0: the CPU (default)")
    parser.add_argument("--precision", choices=["fp32", "fp16", "bf16"], default="fp32")
    parser.add_argument(
        "--balance", choices=["exact", "repeat"], default="exact", help="joint batches (default: exact)"
    )
    parser.add_argument("--config", type=Path, required=True, help="output: config.py; work/ will lie beside it")
    return parser


def main(arguments: argparse.Namespace) -> None:
    """Write the config."""
    from freemask.segmentation.config import Experiment, config_text, read_model, resolve

    paths = ("classes", "train", "synthetic", "val", "initial", "initial_weights", "config")
    for name in paths:
        if Path(getattr(arguments, name) or "").is_absolute():
            raise InputError(
                f"--{name} {getattr(arguments, name)}: absolute; want it relative to the working directory"
            )
    if not arguments.settings and not (arguments.models and arguments.model):
        raise InputError("the model is missing: give --settings, or --models and --model")
    entry = arguments.settings or read_model(arguments.models, arguments.model)
    experiment = Experiment(
        name=arguments.config.parent.parent.name,
        dataset=arguments.dataset,
        classes=arguments.classes,
        ignored=arguments.ignored_label,
        regime=arguments.regime,
        schedule=arguments.schedule,
        real=arguments.train,
        synthetic=arguments.synthetic,
        validation=arguments.val,
        train_seed=arguments.train_seed,
        work_dir=str(arguments.config.parent / "work"),
        initial=arguments.initial or None,
        initial_weights=arguments.initial_weights or None,
        gpus=arguments.gpus,
        precision=arguments.precision,
        balance=arguments.balance,
    )
    files.write_atomic(arguments.config, config_text(resolve(entry, experiment)).encode())


if __name__ == "__main__":
    cli.run(main, options().parse_args())
