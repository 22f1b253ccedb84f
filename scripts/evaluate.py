"""Evaluate a trained segmentor: metrics.json (mIoU, mAcc, aAcc [%]) and per_class_iou.tsv (iou, acc [%])."""

import argparse
from pathlib import Path

from freemask import cli, files


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--config", type=Path, required=True, help="config.py of the training")
    parser.add_argument("--weights", type=Path, required=True, help="weights.pth of the training")
    parser.add_argument("--metrics", type=Path, required=True, help="output: metrics.json")
    parser.add_argument("--per-class-iou", type=Path, required=True, help="output: per_class_iou.tsv")
    parser.add_argument("--predictions", type=Path, help="folder to write predictions to, as PNGs of raw labels")
    parser.add_argument("--pictures", type=int, default=8, help="how many predictions to write")
    parser.add_argument("--threads", type=int, help="CPU threads (as torch likes if not given)")
    return parser


def main(arguments: argparse.Namespace) -> None:
    """Run the validation set through the model and write the results."""
    import pandas as pd
    import torch

    from freemask.labels import LabelSpace
    from freemask.segmentation.runner import evaluate, read_config

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    config = read_config(arguments.config)
    iterations = config.experiment.iterations
    data = config.test_dataloader.dataset
    labels = LabelSpace.read(data.classes, data.ignored)
    pictures = arguments.pictures if arguments.predictions else 0
    metrics, evaluator = evaluate(config, str(arguments.weights), pictures)
    for name, prediction in evaluator.kept.items():
        picture = files.png_bytes(labels.to_raw(prediction))
        files.write_atomic(arguments.predictions / f"{Path(name).stem}.png", picture)
    table = pd.DataFrame({"label": labels.ids, "name": labels.names, **evaluator.per_class})
    files.write_table(arguments.per_class_iou, table)
    files.write_json(arguments.metrics, {**metrics, "images": evaluator.images, "iterations": iterations})


if __name__ == "__main__":
    cli.run(main, options().parse_args(), gpus=1)
