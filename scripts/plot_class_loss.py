"""Plot the class-wise mean loss; see `plot_class_loss`."""

from pathlib import Path

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from freemask import cli
from freemask.data.label_space import LabelSpace
from freemask.reporting.figures import BLUE, INK, ORANGE, class_panels, name_rows, save
from freemask.tables import read_table


def plot_class_loss(*, class_loss: Path, label_space: Path | None = None, figures: list[Path]) -> None:
    """Class-wise mean loss: cross-entropy [nats] of a segmentor trained on real images, averaged over all real training
    pixels of a class. Hard classes are on top; the line is the mean over all pixels. Below: how many classes have which
    loss. The filter compares every synthetic pixel with alpha times its class's value, and a mask's hardness is the
    mean of these values over its pixels.

    Args:
        class_loss: Table made by gather_class_loss.
        label_space: The data set's label space, for the names of classes (default: those of the table).
        figures: Outputs, .png and .pdf.
    """
    table = read_table(class_loss, ["label", "name", "pixels", "class_loss"])
    save(draw(LabelSpace.read(label_space).named(table) if label_space else table), figures)


def draw(table: pd.DataFrame) -> Figure:
    """Draw bars of the mean loss, hardest class first, and below them its histogram over classes.

    Args:
        table: name, pixels, class_loss [nats]; classes without pixels are left out.
    """
    shown = table[table.pixels > 0].sort_values("class_loss", ascending=False, kind="stable")
    figure, panels, slices = class_panels(len(shown), width=5.2, below=3.0)
    below = figure.axes[-1]
    sns.histplot(shown.class_loss, bins=min(40, max(6, len(shown) // 4)), color=BLUE, alpha=1, ax=below)
    median = shown.class_loss.median()
    below.axvline(median, color=INK, linewidth=1.5, label=f"median class: {median:.2f}")
    below.set(title=f"Histogram of the {len(shown)} classes", xlabel="mean loss [nats]", ylabel="classes")
    below.yaxis.set_major_locator(MaxNLocator(integer=True))
    sns.despine(ax=below)
    mean = shown.class_loss @ shown.pixels / shown.pixels.sum()
    mean_line = {"color": ORANGE, "linewidth": 1.5, "label": f"mean over pixels: {mean:.2f}"}
    below.axvline(mean, **mean_line)
    for axes, part in zip(panels, slices, strict=True):
        rows = shown.iloc[part]
        axes.barh(range(len(rows)), rows.class_loss, height=0.68, color=BLUE)
        axes.axvline(mean, **mean_line)
        name_rows(axes, rows.name)
        axes.set_xlabel("mean loss [nats]")
    panels[0].set_title("Class-wise mean loss on real images")
    figure.legend(*below.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=10)
    return figure


if __name__ == "__main__":
    cli.run(plot_class_loss)
