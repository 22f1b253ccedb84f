"""Plot a confusion matrix; see `plot_confusion`."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from freemask import cli
from freemask.data.label_space import LabelSpace
from freemask.reporting.figures import GREY, new_figure, save
from freemask.segmentation.outputs import read_confusion

MOST = 30  # classes that the matrix shows


def plot_confusion(
    *, confusion: list[Path], improved: str, label_space: Path | None = None, figures: list[Path]
) -> None:
    """Confusion matrix of the improved segmentor: of the pixels that the validation masks give to a class (row), the
    share that is predicted as each class (column), in percent; rows add up to 100. All train seeds together. The
    diagonal is the accuracy of each class. The color grows with the root of the share, so that small confusions show; a
    grey row is a class that no validation mask holds. Of more than 30 classes, those with the largest confusions are
    shown; the last column adds up the others.

    Args:
        confusion: Tables made by evaluate; their counts are added.
        improved: Name of the segmentor.
        label_space: The data set's label space, for the names of classes (default: those of the tables).
        figures: Outputs, .png and .pdf.
    """
    names, counts = read_confusion(*confusion)
    if label_space:
        names = LabelSpace.read(label_space).names
    save(draw(names, counts, f"Confusion matrix of {improved}"), figures)


def draw(names: Sequence[str], counts: np.ndarray, title: str) -> Figure:
    """Draw the matrix, normalised by row, with whole percentages in its cells; of many classes a part.

    Args:
        names: Names of the K classes.
        counts: (K, K) pixels, rows: truth, columns: prediction.
        title: Line above the matrix.
    """
    share, rows, columns = shares(counts), list(names), list(names)
    if len(names) > MOST:
        kept = most_confused(share, MOST)
        share = np.column_stack([share[np.ix_(kept, kept)], np.delete(share[kept], kept, axis=1).sum(1)])
        rows = [names[place] for place in kept]
        columns = [*rows, f"{len(names) - MOST} others"]
        title += f": {MOST} of {len(names)} classes, those with the largest confusions"
    side = max(4.5, len(rows) * 0.52)
    figure = new_figure(side + 2.5, side + 2)
    axes = figure.subplots()
    axes.set_facecolor("#d9dce1")
    picture = axes.imshow(np.ma.masked_invalid(share), cmap="Blues", norm=PowerNorm(0.5, 0, 100), aspect="equal")
    axes.set_xticks(range(len(columns)), columns, rotation=90)
    axes.set_yticks(range(len(rows)), rows)
    axes.set(xlabel="predicted", ylabel="in the mask", title=title)
    axes.grid(visible=False)
    axes.set_xticks(np.arange(-0.5, len(columns)), minor=True)
    axes.set_yticks(np.arange(-0.5, len(rows)), minor=True)
    axes.grid(which="minor", color="#e6e9ee", linewidth=0.8)
    axes.tick_params(which="minor", length=0)
    write_numbers(axes, share)
    bar = figure.colorbar(picture, ax=axes, shrink=0.5, aspect=30, pad=0.02, ticks=[0, 1, 5, 10, 25, 50, 75, 100])
    bar.set_label("share of the class's pixels [%]", fontsize=11)
    bar.outline.set_edgecolor(GREY)
    sns.despine(ax=axes, left=True, bottom=True)
    return figure


def shares(counts: np.ndarray) -> np.ndarray:
    """Percentage of each true class (row) that is predicted as each class (column), (K, K); NaN without pixels."""
    total = counts.sum(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        return 100 * counts / np.where(total, total, np.nan)


def most_confused(share: np.ndarray, number: int) -> list[int]:
    """The classes of the largest confusions, both sides of each, in their own order; ties by class.

    Args:
        share: (K, K) [percent], NaN in rows without pixels.
        number: Of classes.
    """
    off = np.where(np.eye(len(share), dtype=bool) | np.isnan(share), 0, share)
    order = np.argsort(-off, axis=None, kind="stable")
    pairs = (divmod(int(place), len(share)) for place in order)
    return sorted(list(dict.fromkeys(place for pair in pairs for place in pair))[:number])


def write_numbers(axes: Axes, share: np.ndarray) -> None:
    """Write whole percentages into the cells; nothing up to 0.5 %."""
    for row, column in zip(*np.nonzero(np.nan_to_num(share) > 0.5), strict=True):
        color = "white" if share[row, column] > 40 else "#2b2f36"
        axes.text(column, row, f"{share[row, column]:.0f}", ha="center", va="center", fontsize=9, color=color)


if __name__ == "__main__":
    cli.run(plot_confusion)
