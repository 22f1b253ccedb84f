"""Plot how much of each class the filter removes; see `plot_filtered_share`."""

from pathlib import Path

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from freemask import cli
from freemask.data.label_space import LabelSpace
from freemask.reporting.figures import BLUE, GREY, by_name, class_panels, save
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
    tolerance margin (alpha times the class-wise mean loss), one point per synthetic set. Small bars show the set's
    shards, so that a shard unlike the others stands out. Mostly filtered are object boundaries, failed synthesis, and
    small or rare objects. The legend gives the share of all pixels.

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
    shards = {name: read_table(path, ["shard", "label", "share"]) for name, path in parts.items()}
    save(draw(shares, shards), figures)


def draw(shares: dict[str, pd.DataFrame], shards: dict[str, pd.DataFrame] | None = None) -> Figure:
    """Draw a point per class and synthetic set; the most filtered class of the first set comes first.

    Args:
        shares: Of each set: name, pixels, filtered, share.
        shards: Of each set: shard, label, share; drawn as a small bar each.
    """
    first = next(iter(shares.values()))
    order = first[first.pixels > 0].sort_values("share", ascending=False, kind="stable").index
    figure, panels, slices = class_panels(len(order), width=5.2)
    colors = sns.color_palette("viridis", len(shares) + 1)[:-1] if len(shares) > 1 else [BLUE]
    for axes, part in zip(panels, slices, strict=True):
        rows = order[part]
        for color, (name, table) in zip(colors, shares.items(), strict=True):
            total = table.filtered.sum() / max(table.pixels.sum(), 1)
            share = 100 * table.share[rows]
            axes.hlines(range(len(rows)), 0, share, color=GREY, linewidth=1.2, zorder=1)
            label = f"{name}: {total:.1%} of all pixels"
            axes.scatter(share, range(len(rows)), s=42, color=[color], zorder=3, clip_on=False, label=label)
            if shards and shards[name].shard.nunique() > 1:
                row_of = {label: row for row, label in enumerate(first.label[rows])}
                draw_shards(axes, shards[name], row_of, color)
        axes.set_yticks(range(len(rows)), first.name[rows])
        axes.set_xlim(0)
        axes.set_xlabel("filtered [% of the class's pixels]")
        axes.grid(visible=False, axis="y")
        sns.despine(ax=axes, left=True)
    panels[0].set_title("Synthetic pixels beyond the tolerance margin")
    handles = dict(zip(*reversed(panels[0].get_legend_handles_labels()), strict=True))
    handles["each shard"] = handles.pop("each shard", None)  # last, once
    shown = {label: handle for label, handle in handles.items() if handle}
    figure.legend(shown.values(), shown.keys(), loc="outside lower center", ncols=1, fontsize=10)
    return figure


def draw_shards(axes: Axes, shares: pd.DataFrame, row_of: dict[int, int], color: tuple[float, ...] | str) -> None:
    """Draw a small bar per shard and class.

    Args:
        axes: Where to draw.
        shares: shard, label, share.
        row_of: Row of each label that is shown.
        color: Color of the set.
    """
    parts = shares[shares.label.isin(row_of) & shares.share.notna()]
    rows = parts.label.map(row_of)
    axes.scatter(100 * parts.share, rows, s=60, marker="|", color=[color], alpha=0.5, zorder=2, label="each shard")


if __name__ == "__main__":
    cli.run(plot_filtered_share)
