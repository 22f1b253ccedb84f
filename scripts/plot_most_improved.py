"""Plot the classes that gain most IoU; see `plot_most_improved`."""

from pathlib import Path

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from freemask import cli
from freemask.errors import InputError
from freemask.reporting.figures import GREY, INK, REGIME_COLORS, new_figure, save
from freemask.tables import read_table

NAMED = 8  # classes without an IoU that are named; the report page names all of them


def plot_most_improved(
    *,
    most_improved: Path,
    most_improved_over_control: list[Path] | None = None,
    top: cli.Positive = 10,
    title: str,
    figures: list[Path],
) -> None:
    """The classes whose IoU gains most when synthetic images are added. Bars: gain over training on real images at
    twice the schedule if there is such a control, else over real images; mean over train seeds, in points of IoU.
    Circles: each seed; ticks: gain over real images at the normal schedule, which longer training alone explains in
    part; diamonds: the authors' gains, over real images at the normal schedule, where they report one. Grey bars are
    losses. Where the circles of a class lie far apart, its gain is mostly chance: rare classes have few validation
    pixels. A class without an IoU in some seeds says in how many both trainings have one.

    Args:
        most_improved: Table made by most_improved, over real images at the normal schedule.
        most_improved_over_control: The same over the control; none without one.
        top: Number of classes.
        title: Name of the data set.
        figures: Outputs, .png and .pdf.
    """
    first, *control = [
        read_table(path, ["label", "name", "real", "joint", "gain", "seeds"])
        for path in (most_improved, *(most_improved_over_control or []))
    ]
    if first.gain.isna().all():
        raise InputError(f"{most_improved}: no class has a gain; is the validation set empty?")
    if not control:
        save(draw(first, top, f"Most improved classes, {title}"), figures)
        return
    table = control[0].merge(first[["label", "gain"]].rename(columns={"gain": "normal"}), on="label")
    save(
        draw(table, top, f"Most improved classes over real images at twice the schedule, {title}", "real, 2x"), figures
    )


def draw(table: pd.DataFrame, top: int, title: str, over: str = "real") -> Figure:
    """Draw bars of gains, largest first, a point per train seed, and a diamond where the authors report a gain.

    Args:
        table: name, real, joint, gain, seeds, gain_seed_<s>, perhaps reported_gain, and normal (gain over real images
            at the normal schedule, where `gain` is over another control); sorted by gain.
        top: Number of classes.
        title: Line above the plot.
        over: What the gains are over.
    """
    shown = table[table.gain.notna()].head(top).reset_index(drop=True)
    rows = np.arange(len(shown))
    height = 2.1 + 0.36 * len(shown)
    figure = new_figure(8.2, height, layout=None)
    axes = figure.subplots()
    figure.subplots_adjust(top=1 - 0.62 / height, bottom=1.3 / height, right=0.78)
    bars = pd.DataFrame({"gain": shown.gain, "row": [f"row {row}" for row in rows], "up": shown.gain >= 0})
    colors = {True: REGIME_COLORS["joint", 2], False: GREY}
    sns.barplot(bars, x="gain", y="row", hue="up", palette=colors, saturation=1, width=0.68, legend=False, ax=axes)
    seeds = [column for column in shown if column.startswith("gain_seed_")]
    fewer = shown.seeds < len(seeds)
    axes.set_yticks(
        rows, shown.name.where(~fewer, shown.name + " (" + shown.seeds.astype(str) + f" of {len(seeds)} seeds)")
    )
    for seed in seeds if len(seeds) > 1 else []:
        label = f"each of {len(seeds)} train seeds" if seed == seeds[0] else None
        axes.scatter(shown[seed], rows, s=24, color="white", edgecolor=INK, linewidth=1, zorder=3, label=label)
    if "normal" in shown:
        axes.scatter(shown.normal, rows, s=90, marker="|", color=INK, linewidth=2, zorder=3, label="over real, 1x")
    if "reported_gain" in shown and shown.reported_gain.notna().any():
        axes.scatter(
            shown.reported_gain, rows, s=46, marker="D", color=INK, zorder=4, label="the authors, over real, 1x"
        )
    write_gains(axes, shown, over)
    axes.axvline(0, color=INK, linewidth=1)
    left = table[table.gain.notna()].iloc[len(shown) :]
    hidden = f"; {len(left)} more classes aren't shown, gains {left.gain.max():+.1f} to {left.gain.min():+.1f}"
    lines = [f"gain in IoU over {over} [points]{hidden if len(left) else ''}"]
    if without := table.name[table.gain.isna()].tolist():
        more = f" and {len(without) - NAMED} more" if len(without) > NAMED else ""
        lines.append(f"no IoU: {', '.join(without[:NAMED])}{more}")
    axes.set(xlabel="\n".join(lines), ylabel="")
    figure.text(0.02, 1 - 0.2 / height, title, size=13, va="top")
    if axes.get_legend_handles_labels()[0]:
        figure.legend(loc="lower center", bbox_to_anchor=(0.5, 0.02), ncols=3, fontsize=10)
    sns.despine(ax=axes, left=True)
    return figure


def write_gains(axes: Axes, shown: pd.DataFrame, over: str) -> None:
    """Write each row's gain and its IoU before and after to the right of the bars, and set the x axis's limits."""
    reach = shown.filter(regex="^(gain|normal|reported_gain)").to_numpy()
    low, high = min(0.0, np.nanmin(reach)), max(0.0, np.nanmax(reach))
    margin = 0.03 * max(high - low, 1.0)
    axes.set_xlim(low - margin if low < 0 else 0, high + margin)
    beside = axes.get_yaxis_transform()
    axes.text(1.11, -0.85, "gain", transform=beside, ha="right", fontsize=9.5)
    axes.text(1.15, -0.85, f"{over} → joint", transform=beside, fontsize=9.5)
    for row in shown.itertuples():
        gain = f"{row.gain:+.1f}".replace("-", "−")
        axes.text(1.11, row.Index, gain, transform=beside, va="center", ha="right", fontsize=10, weight="bold")
        axes.text(1.15, row.Index, f"{row.real:.1f} → {row.joint:.1f}", transform=beside, va="center", fontsize=9.5)


if __name__ == "__main__":
    cli.run(plot_most_improved)
