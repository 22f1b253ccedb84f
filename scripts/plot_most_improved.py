"""Plot the classes that gain most IoU; see `plot_most_improved`."""

from pathlib import Path

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from freemask import cli
from freemask.errors import InputError
from freemask.reporting.class_gains import over_control
from freemask.reporting.figures import GREY, INK, REGIME_COLORS, new_figure, save
from freemask.tables import read_table

NAMED = 8  # classes without an IoU that the figure names


def plot_most_improved(*, most_improved: Path, top: cli.Positive = 10, title: str, figures: list[Path]) -> None:
    """The classes whose IoU gains most when synthetic images are added. Bars: gain over the control, real images for
    twice the schedule (without a control: over real images), mean over train seeds, in points of IoU; lines: its 95 %
    interval, where images of the class are enough; circles: each seed; crosses: gain over real images for the normal
    schedule; diamonds: the authors' gains over those, where they report one. Grey bars are losses. Where the circles of
    a class lie far apart, its gain is mostly chance: rare classes have few validation pixels. A class without an IoU
    in some seeds says in how many both trainings have one.

    Args:
        most_improved: Table made by most_improved.
        top: Number of classes.
        title: Name of the data set.
        figures: Outputs, .png and .pdf.
    """
    table = over_control(read_table(most_improved, ["label", "name", "real", "joint", "gain", "seeds"]))
    if table.gain.isna().all():
        raise InputError(f"{most_improved}: no class has a gain; is the validation set empty?")
    save(draw(table, top, f"Most improved classes, {title}"), figures)


def draw(table: pd.DataFrame, top: int, title: str) -> Figure:
    """Draw bars of gains, largest first, a point per train seed, and a diamond where the authors report a gain.

    Args:
        table: Made by `over_control`: name, before, joint, gain, seeds, gain_seed_<s>, perhaps gain_low, gain_high,
            gain_first and reported_gain, sorted by gain.
        top: Number of classes.
        title: Line above the plot.
    """
    shown = table[table.gain.notna()].head(top).reset_index(drop=True)
    rows = np.arange(len(shown))
    height = 2.3 + 0.36 * len(shown)
    figure = new_figure(8.2, height, layout=None)
    axes = figure.subplots()
    figure.subplots_adjust(top=1 - 0.62 / height, bottom=1.5 / height, right=0.78)
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
    if "gain_low" in shown:
        limits = {"xmin": shown.gain_low, "xmax": shown.gain_high}
        axes.hlines(rows, **limits, color=INK, linewidth=1.4, zorder=2, label="95 % interval")
    if "gain_first" in shown:
        axes.scatter(shown.gain_first, rows, s=34, marker="x", color=INK, zorder=5, label="over real, normal schedule")
    if "reported_gain" in shown and shown.reported_gain.notna().any():
        axes.scatter(shown.reported_gain, rows, s=46, marker="D", color=INK, zorder=4, label="the authors")
    write_gains(axes, shown)
    axes.axvline(0, color=INK, linewidth=1)
    axes.set(xlabel=describe(table, len(shown), len(seeds)), ylabel="")
    figure.text(0.02, 1 - 0.2 / height, title, size=13, va="top")
    if axes.get_legend_handles_labels()[0]:
        figure.legend(loc="lower center", bbox_to_anchor=(0.5, 0.02), ncols=3, fontsize=10)
    sns.despine(ax=axes, left=True)
    return figure


def describe(table: pd.DataFrame, shown: int, seeds: int) -> str:
    """The x axis's label: the unit, the number of train seeds, and what isn't shown; classes without an IoU by name."""
    over = "real at twice the schedule" if "gain_first" in table else "real"
    text = f"gain in IoU over {over} [points], n = {seeds} train seed{'s' if seeds > 1 else ''}"
    left = table[table.gain.notna()].iloc[shown:]
    if len(left):
        text += f"\n{len(left)} more classes aren't shown, gains {left.gain.max():+.1f} to {left.gain.min():+.1f}"
    absent = table.name[table.gain.isna()].tolist()
    more = f" and {len(absent) - NAMED} more" if len(absent) > NAMED else ""
    return text + (f"\nno IoU: {', '.join(absent[:NAMED])}{more}" if absent else "")


def write_gains(axes: Axes, shown: pd.DataFrame) -> None:
    """Write each row's gain and its IoU before and after to the right of the bars, and set the x axis's limits."""
    reach = shown.filter(regex="^(gain|reported_gain)").select_dtypes("number").to_numpy()
    low, high = min(0.0, np.nanmin(reach)), max(0.0, np.nanmax(reach))
    margin = 0.03 * max(high - low, 1.0)
    axes.set_xlim(low - margin if low < 0 else 0, high + margin)
    beside = axes.get_yaxis_transform()
    axes.text(1.11, -0.85, "gain", transform=beside, ha="right", fontsize=9.5)
    sides = "real 2x → joint" if "gain_first" in shown else "real → joint"
    axes.text(1.15, -0.85, sides, transform=beside, fontsize=9.5)
    for row in shown.itertuples():
        gain = f"{row.gain:+.1f}".replace("-", "−")
        axes.text(1.11, row.Index, gain, transform=beside, va="center", ha="right", fontsize=10, weight="bold")
        axes.text(1.15, row.Index, f"{row.before:.1f} → {row.joint:.1f}", transform=beside, va="center", fontsize=9.5)


if __name__ == "__main__":
    cli.run(plot_most_improved)
