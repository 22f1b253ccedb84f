"""Evaluate a trained segmentor on the validation set.

Makes metrics.json (mIoU, mAcc, aAcc [%]; of which checkpoint, how), per_class_iou.tsv (iou, acc [%]), a confusion
matrix (pixels; rows: classes of the masks, columns: labels of the predictions) and predictions of a few images as
palette PNGs of raw labels. The images are spread evenly over the validation table, the same ones for every segmentor.
"""

import argparse
from pathlib import Path

from freemask import cli, files, tables
from freemask.errors import InputError


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--config", type=Path, required=True, help="config.py of the training")
    parser.add_argument("--weights", type=Path, required=True, help="weights.pth of the training, or best.pth")
    parser.add_argument(
        "--checkpoint",
        choices=["last", "best", "imported"],
        default="last",
        help="what the weights are (default: last)",
    )
    parser.add_argument("--scales", type=float, nargs="+", default=[1.0], help="average over these scales (default: 1)")
    parser.add_argument("--flip", action="store_true", help="average over each image and its mirror image")
    parser.add_argument("--metrics", type=Path, required=True, help="output: metrics.json")
    parser.add_argument("--per-class-iou", type=Path, required=True, help="output: per_class_iou.tsv")
    parser.add_argument("--confusion", type=Path, help="output: confusion.tsv")
    parser.add_argument("--predictions", type=Path, nargs="+", default=[], help="outputs: .png, one per image to show")
    parser.add_argument("--threads", type=int, help="CPU threads (as torch likes if not given)")
    return parser


def main(arguments: argparse.Namespace) -> None:
    """Run the validation set through the model and write the results."""
    import pandas as pd
    import torch

    from freemask.data.label_space import LabelSpace
    from freemask.segmentation.evaluation import evaluate
    from freemask.segmentation.outputs import write_confusion
    from freemask.segmentation.runner import read_config

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    config = read_config(arguments.config)
    how = {"checkpoint": arguments.checkpoint, "scales": arguments.scales, "flip": arguments.flip}
    how["iterations"] = iterations(arguments, config)
    data = config.test_dataloader.dataset
    labels = LabelSpace.read(data.classes, data.ignored)
    images = tables.read_table(data.lists[0], ["image", "mask"])["image"].tolist()
    shown = pictures(images, len(arguments.predictions), data.lists[0])
    if config.test_dataloader.batch_size > 1 and not same_size(images):
        config.test_dataloader.batch_size = 1  # a batch is one array
    metrics, evaluator = evaluate(config, str(arguments.weights), shown, arguments.scales, arguments.flip)
    for path, image in zip(arguments.predictions, shown, strict=True):
        files.write_atomic(path, images.png_bytes(labels.to_raw(evaluator.kept[image]), labels.palette()))
    if arguments.confusion:
        write_confusion(arguments.confusion, evaluator.confusion, labels)
    table = pd.DataFrame({"label": labels.ids, "name": labels.names, **evaluator.per_class})
    tables.write_table(arguments.per_class_iou, table)
    files.write_json(arguments.metrics, {**metrics, "images": evaluator.images, **how})


def iterations(arguments: argparse.Namespace, config) -> int:
    """Iterations that the weights were trained for."""
    if arguments.checkpoint != "best":
        return config.experiment.iterations
    if not arguments.weights.exists():
        raise InputError(f"{arguments.weights}: the training left no best checkpoint; train again (-R train)")
    return files.read_json(arguments.weights.with_suffix(".json"))["iterations"]


def pictures(images: list[str], number: int, table: str) -> list[str]:
    """Paths of `number` images, spread evenly over those of a table."""
    from freemask.segmentation.outputs import spread

    return [images[position] for position in spread(len(images), number, table)]


def same_size(images: list[str]) -> bool:
    """Whether all images are shown at one width and height (their headers are read)."""
    from PIL import Image

    from freemask.data.probe import ORIENTATION, TURNED
    from freemask.errors import InputError
    from freemask.images import DAMAGED

    seen = set()
    for path in images:
        try:
            with Image.open(path) as image:
                seen.add((image.size, image.getexif().get(ORIENTATION) in TURNED))
        except DAMAGED as error:
            raise InputError(
                f"{path}: missing or no image ({error}); fetch it again, or take it off the list"
            ) from None
        if len(seen) > 1:
            return False
    return True


if __name__ == "__main__":
    cli.run(main, options().parse_args(), gpus=1)
