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
from freemask.errors import InputError
from freemask.reporting.figures import GREY, new_figure, save
from freemask.segmentation.outputs import read_confusion

WITH_NUMBERS = 30  # classes up to which each cell shows its number
MOST = 30  # largest confusions that are listed beside a matrix without numbers


def plot_confusion(
    *, confusion: list[Path], improved: str, label_space: Path | None = None, figures: list[Path]
) -> None:
    """Confusion matrix of the improved segmentor: of the pixels that the validation masks give to a class (row), the
    share that is predicted as each class (column), in percent; rows add up to 100. All train seeds together. The
    diagonal is the accuracy of each class. The color grows with the root of the share, so that small confusions show; a
    grey row is a class that no validation mask holds.

    Args:
        confusion: Tables made by evaluate; their counts are added.
        improved: Name of the segmentor.
        label_space: The data set's label space, for the names of classes (default: those of the tables).
        figures: Outputs, .png and .pdf.
    """
    names, counts = read_confusion(confusion[0])
    for path in confusion[1:]:
        other, more = read_confusion(path)
        if other != names:
            raise InputError(f"{path}: other classes than {confusion[0]}; evaluate again")
        counts = counts + more
    if label_space:
        names = LabelSpace.read(label_space).names
    save(draw(names, counts, f"Confusion matrix of {improved}"), figures)


def draw(names: Sequence[str], counts: np.ndarray, title: str) -> Figure:
    """Draw the matrix, normalised by row; readable at a dozen classes and at 171.

    Up to WITH_NUMBERS classes, cells hold their percentage; beyond, the largest confusions are listed beside.

    Args:
        names: Names of the K classes.
        counts: (K, K) pixels, rows: truth, columns: prediction.
        title: Line above the matrix.
    """
    share = shares(counts)
    classes = len(names)
    small = classes <= WITH_NUMBERS
    side = max(4.5, classes * (0.52 if small else 0.15))
    figure = new_figure(side + (2.5 if small else 9), side + 2)
    axes = figure.subplots()
    axes.set_facecolor("#d9dce1")
    picture = axes.imshow(np.ma.masked_invalid(share), cmap="Blues", norm=PowerNorm(0.5, 0, 100), aspect="equal")
    size = 10 if small else 6.5
    axes.set_xticks(range(classes), names, rotation=90, fontsize=size)
    axes.set_yticks(range(classes), names, fontsize=size)
    axes.set_xlabel("predicted", fontsize=11 if small else 20)
    axes.set_ylabel("in the mask", fontsize=11 if small else 20)
    axes.set_title(title, fontsize=13 if small else 26)
    axes.grid(visible=False)
    axes.set_xticks(np.arange(-0.5, classes), minor=True)
    axes.set_yticks(np.arange(-0.5, classes), minor=True)
    axes.grid(which="minor", color="#e6e9ee", linewidth=0.8 if small else 0.3)
    axes.tick_params(which="minor", length=0)
    if small:
        write_numbers(axes, share)
    bar = figure.colorbar(picture, ax=axes, shrink=0.5, aspect=30, pad=0.02, ticks=[0, 1, 5, 10, 25, 50, 75, 100])
    bar.set_label("share of the class's pixels [%]", fontsize=11 if small else 18)
    bar.ax.tick_params(labelsize=10 if small else 16)
    bar.outline.set_edgecolor(GREY)
    if not small:
        listed = "\n".join(["Largest confusions", "(in the mask → predicted)", "", *largest(names, share, MOST)])
        bar.ax.text(7.5, 0.5, listed, transform=bar.ax.transAxes, fontsize=18, va="center", linespacing=1.5)
    sns.despine(ax=axes, left=True, bottom=True)
    return figure


def shares(counts: np.ndarray) -> np.ndarray:
    """Percentage of each true class (row) that is predicted as each class (column), (K, K); NaN without pixels."""
    total = counts.sum(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        return 100 * counts / np.where(total, total, np.nan)


def largest(names: Sequence[str], share: np.ndarray, number: int) -> list[str]:
    """The largest confusions as text, e.g. 'tree → grass  12 %'; ties by class."""
    off = np.where(np.eye(len(names), dtype=bool) | np.isnan(share), 0, share)
    order = np.argsort(-off, axis=None, kind="stable")[:number]
    pairs = [divmod(int(place), len(names)) for place in order]
    return [
        f"{names[row]} → {names[column]}  {off[row, column]:.0f} %" for row, column in pairs if off[row, column] > 0
    ]


def write_numbers(axes: Axes, share: np.ndarray) -> None:
    """Write whole percentages into the cells; nothing up to 0.5 %."""
    for row, column in zip(*np.nonzero(np.nan_to_num(share) > 0.5), strict=True):
        color = "white" if share[row, column] > 40 else "#2b2f36"
        axes.text(column, row, f"{share[row, column]:.0f}", ha="center", va="center", fontsize=9, color=color)


if __name__ == "__main__":
    cli.run(plot_confusion)
