"""Draw validation images beside their masks and predictions; see `plot_predictions`."""

from pathlib import Path

import numpy as np

from freemask import cli
from freemask.data.label_space import LabelSpace
from freemask.errors import InputError
from freemask.files import write_atomic
from freemask.images import png_bytes, read_image, read_mask
from freemask.reporting.pictures import read_prediction
from freemask.reporting.sheets import Row, draw_sheet, legend, tile, tile_size
from freemask.segmentation.outputs import spread
from freemask.tables import read_table


def plot_predictions(
    *,
    val: Path,
    baseline_predictions: list[Path],
    improved_predictions: list[Path],
    baseline: str,
    improved: str,
    label_space: Path,
    train_seed: cli.Whole,
    title: str,
    figure: Path,
) -> None:
    """Validation images, their masks, and what the segmentors trained on real images and on real and synthetic images
    predict, for the first train seed that both have. The images are spread evenly over the validation set, not
    hand-picked. Predictions aren't evaluated where the data set ignores pixels; the legend has their color.

    Args:
        val: Table of the validation split (index_dataset).
        baseline_predictions: Predictions of the baseline, written by evaluate.
        improved_predictions: Predictions of the improved segmentor for the same images.
        baseline: Name of the baseline.
        improved: Name of the improved segmentor.
        label_space: The data set's label space.
        train_seed: Train seed of both.
        title: Name of the data set.
        figure: Output, .png.
    """
    number = len(baseline_predictions)
    if len(improved_predictions) != number:
        given = f"{number} --baseline-predictions for {len(improved_predictions)} --improved-predictions"
        raise InputError(f"{given}; give as many")
    space = LabelSpace.read(label_space)
    table = read_table(val, ["image", "mask"])
    shown = table.iloc[spread(len(table), number, val)]
    rows, seen = [], set()
    predictions = zip(baseline_predictions, improved_predictions, strict=True)
    for image, mask, paths in zip(shown["image"], shown["mask"], predictions, strict=True):
        truth = read_mask(mask)
        labels = [truth, *(read_prediction(path, mask, truth) for path in paths)]
        size = tile_size(*truth.shape)
        colored = [tile(space.colorize(one), size, smooth=False) for one in labels]
        rows.append(Row([tile(read_image(image), size, smooth=True), *colored]))
        seen.update(*(np.unique(one).tolist() for one in labels))
    entries = [*legend(sorted(seen - {space.ignored}), space), (space.ignored_color, "ignored")]
    headings = ["validation image", "its mask", baseline, improved]
    sheet = draw_sheet(rows, headings, entries, f"{title}: predictions, train seed {train_seed}")
    write_atomic(figure, png_bytes(sheet))


if __name__ == "__main__":
    cli.run(plot_predictions)
