"""Plot how much of each class the filter removes; see `plot_filtered_share`."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from freemask import cli
from freemask.data.label_space import LabelSpace
from freemask.reporting.figures import BLUE, GREY, by_name, class_panels, name_rows, save
from freemask.tables import read_table


def plot_filtered_share(
    *,
    class_shares: list[Path],
    shard_shares: list[Path] | None = None,
    set_names: list[str],
    label_space: Path | None = None,
    figures: list[Path],
) -> None:
    """Share of each class's synthetic pixels that the filter removes from training because their loss exceeds the
    tolerance margin (alpha times the class-wise mean loss), one point per synthetic set. Mostly filtered are object
    boundaries, failed synthesis, and small or rare objects. Below: the share of all pixels in each shard of a set, a
    small bar each, so that a shard unlike the others stands out.

    Args:
        class_shares: Tables of each synthetic set by class, made by synthetic_set.
        shard_shares: Tables of each synthetic set by shard and class, made by synthetic_set.
        set_names: Name of each synthetic set, e.g. "alpha 1.25".
        label_space: The data set's label space, for the names of classes (default: those of the tables).
        figures: Outputs, .png and .pdf.
    """
    sets = by_name(set_names, class_shares, "--class-shares")
    parts = by_name(set_names, shard_shares, "--shard-shares") if shard_shares else {}
    columns = ["label", "name", "pixels", "filtered", "share"]
    shares = {name: read_table(path, columns) for name, path in sets.items()}
    if label_space:
        shares = {name: LabelSpace.read(label_space).named(table) for name, table in shares.items()}
    shards = {name: read_table(path, ["shard", "pixels", "filtered"]) for name, path in parts.items()}
    save(draw(shares, shards), figures)


def draw(shares: dict[str, pd.DataFrame], shards: dict[str, pd.DataFrame] | None = None) -> Figure:
    """Draw a point per class and synthetic set; the most filtered class of the first set comes first.

    Args:
        shares: Of each set: name, pixels, filtered, share.
        shards: Of each set: shard, pixels, filtered; a row per shard and class.
    """
    first = next(iter(shares.values()))
    shards = shards if shards and any(table.shard.nunique() > 1 for table in shards.values()) else {}
    order = first[first.pixels > 0].sort_values("share", ascending=False, kind="stable").index
    figure, panels, slices = class_panels(len(order), width=5.2, below=(0.9 + 0.3 * len(shares)) if shards else 0)
    colors = sns.color_palette("viridis", len(shares) + 1)[:-1] if len(shares) > 1 else [BLUE]
    for axes, part in zip(panels, slices, strict=True):
        rows = order[part]
        for color, (name, table) in zip(colors, shares.items(), strict=True):
            total = table.filtered.sum() / max(table.pixels.sum(), 1)
            share = 100 * table.share[rows]
            axes.hlines(range(len(rows)), 0, share, color=GREY, linewidth=1.2, zorder=1)
            label = f"{name}: {total:.1%} of all pixels"
            axes.scatter(share, range(len(rows)), s=42, color=[color], zorder=3, clip_on=False, label=label)
        name_rows(axes, first.name[rows])
        axes.set_xlim(0)
        axes.set_xlabel("filtered [% of the class's pixels]")
    panels[0].set_title("Synthetic pixels beyond the tolerance margin")
    if shards:
        draw_shards(figure.axes[-1], shards, colors)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=10)
    return figure


def draw_shards(axes: Axes, shards: dict[str, pd.DataFrame], colors: Sequence) -> None:
    """Draw a row per set with a small bar per shard: the share of all its pixels that is filtered."""
    for row, (color, table) in enumerate(zip(colors, shards.values(), strict=True)):
        sums = table.groupby("shard")[["pixels", "filtered"]].sum()
        share = 100 * sums.filtered / sums.pixels.clip(lower=1)
        axes.scatter(share, [row] * len(share), s=90, marker="|", color=[color])
    name_rows(axes, shards)
    axes.set_ylim(len(shards) - 0.4, -0.6)
    axes.set_xlim(0)
    axes.set(title="Each shard", xlabel="filtered [% of the shard's pixels]")


if __name__ == "__main__":
    cli.run(plot_filtered_share)
