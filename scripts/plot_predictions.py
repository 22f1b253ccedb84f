"""Draw rows of a validation image, its mask, and the predictions of a baseline and an improved segmentor (PNG)."""

import argparse
from pathlib import Path

from freemask import cli, files, images, tables


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--val", type=Path, required=True, help="table of validation pairs: image, mask")
    parser.add_argument("--baseline", type=Path, nargs="+", required=True, help="predictions, as evaluate wrote them")
    parser.add_argument("--improved", type=Path, nargs="+", required=True, help="predictions of the same images")
    parser.add_argument("--names", nargs=2, required=True, help="what to call the two segmentors")
    parser.add_argument("--classes", type=Path, required=True, help="class table: label, name, word, color")
    parser.add_argument("--ignored-label", type=int, required=True, help="raw label that means 'ignored'")
    parser.add_argument("--title", default="Predictions", help="line above the sheet")
    parser.add_argument("--figure", type=Path, required=True, help="output: .png path")
    return parser


def main(arguments: argparse.Namespace) -> None:
    """Read the pictures, draw."""
    from freemask.data.label_space import LabelSpace
    from freemask.errors import InputError
    from freemask.reporting import predictions

    number = len(arguments.baseline)
    if len(arguments.improved) != number:
        raise InputError(f"{number} --baseline for {len(arguments.improved)} --improved; want as many")
    space = LabelSpace.read(arguments.classes, arguments.ignored_label)
    table = tables.read_table(arguments.val, ["image", "mask"])
    shown = table.iloc[predictions.spread(len(table), number, arguments.val)]
    rows = []
    for image, mask, *paths in zip(shown["image"], shown["mask"], arguments.baseline, arguments.improved, strict=True):
        truth, predicted = images.read_mask(mask), [images.read_mask(path) for path in paths]
        for path, one in zip(paths, predicted, strict=True):
            if one.shape != truth.shape:
                raise InputError(f"{path}: {one.shape} pixels, but {mask} has {truth.shape}; evaluate again")
        rows.append(predictions.Row(images.read_image(image), truth, tuple(predicted)))
    sheet = predictions.compose(rows, arguments.names, space, arguments.title)
    files.write_atomic(arguments.figure, images.png_bytes(sheet))


if __name__ == "__main__":
    cli.run(main, options().parse_args())
