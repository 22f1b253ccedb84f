"""Charts of the page, as inline SVG: text stays text, so it can be searched, copied and scaled."""

import io
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from freemask.reporting.figures import GREY, INK, REGIME_COLORS, name_rows, new_figure, regime_colors
from freemask.reporting.layout import name_of
from freemask.segmentation.outputs import read_scalars, read_validations

JOINT, REAL = REGIME_COLORS["joint", 2], REGIME_COLORS["real", 1]
POINTS = 120  # of a curve
STYLES = ["-", "--", ":", "-."]  # of lines
LABELLED = 8  # classes named in the plot of gain against frequency: so many at either end


def svg(figure: Figure, name: str, title: str) -> str:
    """A figure as an <svg> element; the same bytes for the same figure.

    Args:
        figure: The figure.
        name: Unique on the page; begins the ids in the element.
        title: What it shows, for readers who don't see it.
    """
    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        unnamed = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        tight = "tight" if figure.get_layout_engine() else None
        figure.savefig(buffer, format="svg", bbox_inches=tight, metadata=unnamed)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", text)
    width = float(re.search(r'\bwidth="([\d.]+)pt"', text)[1]) * 4 / 3  # CSS pixels
    narrowest = min(width, max(480, 0.72 * width))
    size = f"width:100%;max-width:{width:.0f}px;min-width:{narrowest:.0f}px"
    text = re.sub(r' (width|height)="[\d.]+pt"', "", text, count=2)
    return text.replace("<svg ", f'<svg role="img" aria-label="{escape(title)}" style="{size}" ', 1)


def dumbbells(summary: pd.DataFrame) -> Figure:
    """MIoU of each model: a point per regime, a line from real images at twice the schedule to joint training.

    Args:
        summary: title (of the data set), row (label of a line), regime, schedule, mIoU; authors_real, authors_joint.
    """
    groups = list(summary.groupby("title", sort=False))
    heights = [table.row.nunique() for _, table in groups]
    figure = new_figure(9.5, 1.5 + 0.36 * sum(heights) + 0.8 * len(groups))
    grid = figure.subplots(len(groups), 1, squeeze=False, height_ratios=[height + 1.2 for height in heights])[:, 0]
    colors = regime_colors(zip(summary.regime, summary.schedule, strict=True))
    for axes, (title, table) in zip(grid, groups, strict=True):
        names = list(dict.fromkeys(table.row))
        for place, name in enumerate(names):
            _dumbbell(axes, place, table[table.row == name], colors)
        name_rows(axes, names)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.set(title=title, xlabel="mIoU [%]")
    used = dict.fromkeys(zip(summary.regime, summary.schedule, strict=True))
    dot = {"marker": "o", "linestyle": "", "markersize": 8}
    handles = [Line2D([], [], color=colors[one], label=name_of(*one), **dot) for one in used]
    if summary.authors_joint.notna().any():
        open_dot = {**dot, "marker": "D", "markerfacecolor": "white", "markersize": 6}
        handles += [Line2D([], [], color=REAL, label="paper: real", **open_dot)]
        handles += [Line2D([], [], color=JOINT, label="paper: joint", **open_dot)]
    figure.legend(handles=handles, loc="outside lower center", ncols=5, fontsize=10)
    return figure


def _dumbbell(axes: Axes, place: int, table: pd.DataFrame, colors: dict[tuple[str, int], str]) -> None:
    """Draw one model's line."""
    ends = [table.mIoU[(table.regime == regime) & (table.schedule == 2)] for regime in ("real", "joint")]
    if all(len(end) for end in ends):
        axes.plot([ends[0].iloc[0], ends[1].iloc[0]], [place, place], color=GREY, linewidth=4, zorder=1)
    for row in table.itertuples():
        axes.scatter(row.mIoU, place, s=64, color=colors[row.regime, row.schedule], zorder=3, clip_on=False)
    for value, color in ((table.authors_real.iloc[0], REAL), (table.authors_joint.iloc[0], JOINT)):
        axes.scatter(value, place, s=36, marker="D", facecolor="white", edgecolor=color, linewidth=1.6, zorder=4)


def ablations(panels: dict[str, pd.DataFrame], lines: dict[str, tuple[float, str]]) -> Figure:
    """A panel per factor that was changed: mIoU of each value, all on one scale.

    Args:
        panels: Of each factor: value (text), mIoU, seeds, own (bool: the setting of the main experiment).
        lines: Of each main experiment that is drawn as a line: mIoU and color.
    """
    figure = new_figure(3.1 * len(panels) + 1, 4.0)
    grid = figure.subplots(
        1, len(panels), sharey=True, squeeze=False, width_ratios=[len(t) + 1 for t in panels.values()]
    )[0]
    for axes, (factor, table) in zip(grid, panels.items(), strict=True):
        for label, (value, color) in lines.items():
            axes.axhline(value, color=color, linewidth=1.5, linestyle="--", label=label)
        places = np.arange(len(table))
        axes.plot(places, table.mIoU, color=JOINT, linewidth=1.2, alpha=0.5, zorder=2)
        axes.scatter(places, table.mIoU, s=np.where(table.own, 90, 45), color=JOINT, zorder=3)
        for place, row in enumerate(table.itertuples()):
            axes.annotate(
                f"{row.mIoU:.1f}", (place, row.mIoU), (0, 8), textcoords="offset points", ha="center", fontsize=9.5
            )
        longest = max(map(len, table.value))
        axes.set_xticks(places, table.value, rotation=0 if longest < 7 else 20, ha="center" if longest < 7 else "right")
        axes.set_xlim(-0.6, len(table) - 0.4)
        axes.set_title(factor)
        axes.margins(y=0.15)
        sns.despine(ax=axes)
    grid[0].set_ylabel("mIoU [%]")
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=10)
    return figure


def gains(table: pd.DataFrame, over: str) -> Figure:
    """The classes that gain most, and those that lose most, with the authors' gains where there are any.

    Args:
        table: name, gain, and perhaps gain_low, gain_high, gain_first (over real images at the normal schedule) and
            reported_gain; sorted, largest gain first.
        over: What the gains are over.
    """
    figure = new_figure(7.6, 1.5 + 0.3 * len(table))
    axes = figure.subplots()
    rows = np.arange(len(table))
    axes.barh(rows, table.gain, height=0.66, color=np.where(table.gain >= 0, JOINT, GREY), label=f"over {over}")
    if "gain_low" in table:
        axes.hlines(rows, table.gain_low, table.gain_high, color=INK, linewidth=1.2, zorder=2, label="95 % interval")
    if "gain_first" in table:
        axes.scatter(table.gain_first, rows, s=34, color="white", edgecolor=INK, zorder=3, label="over real, 1x")
    if "reported_gain" in table and table.reported_gain.notna().any():
        axes.scatter(
            table.reported_gain, rows, s=44, marker="D", color=INK, zorder=4, label="the authors, over real, 1x"
        )
    axes.axvline(0, color=INK, linewidth=1)
    name_rows(axes, table.name)
    axes.set_ylim(len(table) - 0.4, -0.6)
    axes.set_xlabel("gain in IoU [points]")
    if len(axes.collections):
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9.5)
    return figure


def gain_and_frequency(table: pd.DataFrame, over: str) -> Figure:
    """Gain of each class against its share of the training pixels; the classes at either end are named.

    Args:
        table: name, pixels, gain; sorted, largest gain first.
        over: What the gains are over.
    """
    shown = table[table.gain.notna() & (table.pixels > 0)]
    share = 100 * shown.pixels / table.pixels.sum()
    figure = new_figure(7.6, 4.6)
    axes = figure.subplots()
    axes.axhline(0, color=INK, linewidth=1)
    axes.scatter(share, shown.gain, s=30, color=np.where(shown.gain >= 0, JOINT, "#8a8f98"), alpha=0.8)
    named = (
        range(len(shown))
        if len(shown) <= 2 * LABELLED
        else [*range(LABELLED), *range(len(shown) - LABELLED, len(shown))]
    )
    for place in named:
        spot = (share.iloc[place], shown.gain.iloc[place])
        axes.annotate(shown.name.iloc[place], spot, (5, 3), textcoords="offset points", fontsize=8.5)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set(xlabel="share of the labelled training pixels [%]", ylabel=f"gain over {over} [points]")
    axes.margins(x=0.12)
    sns.despine(ax=axes)
    return figure


Curves = dict[tuple[str, str], dict[tuple[str, float], list[tuple[str, pd.DataFrame]]]]  # see `curves`


def add_curves(found: Curves, model: str, regime: tuple[str, float], experiment: str, work: Path) -> None:
    """Add what a training logged in its work folder: its loss, smoothed, and its validations."""
    loss, validations = smooth(read_scalars(work), "loss"), read_validations(work)
    for value, curve in (("loss", loss), ("mIoU", validations)):
        if value == "loss" or len(curve):
            found.setdefault((model, value), {}).setdefault(regime, []).append((experiment, curve))


def curves(found: Curves) -> Figure:
    """Small multiples: a row per model and value (loss or mIoU), a column per regime, a line per training.

    A panel of several experiments gives each a line style and names them, unless there are more than STYLES.

    Args:
        found: Of each (model, value) the curves of each (regime, schedule): experiment; step and the value.
    """
    regimes = [*dict.fromkeys(regime for row in found.values() for regime in row)]
    colors = regime_colors(regimes)
    width, height = 2.3 * len(regimes) + 1, 1.75 * len(found) + 0.65
    figure = new_figure(width, height, layout=None)  # a layout that is solved for takes seconds for 35 panels
    grid = figure.subplots(len(found), len(regimes), sharey="row", squeeze=False)
    figure.subplots_adjust(
        left=0.9 / width, right=1 - 0.1 / width, bottom=0.5 / height, top=1 - 0.3 / height, hspace=0.3, wspace=0.12
    )
    for line, ((model, value), row) in zip(grid, found.items(), strict=True):
        for axes, regime in zip(line, regimes, strict=True):
            drawn = row.get(regime, [])
            line_of = {"color": colors[regime], "linewidth": 1.4}
            names = list(dict.fromkeys(name for name, _ in drawn))
            style_of = dict(zip(names, STYLES, strict=False)) if 1 < len(names) <= len(STYLES) else {}
            for name, curve in drawn:
                axes.plot(curve.step, curve[value], linestyle=style_of.get(name, "-"), **line_of)
            if style_of:
                handles = [Line2D([], [], label=name, linestyle=style, **line_of) for name, style in style_of.items()]
                corner = "upper right" if value == "loss" else "lower right"
                axes.legend(handles=handles, loc=corner, fontsize=7.5, borderpad=0)
            axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(2))
            axes.xaxis.set_major_formatter(lambda step, _: f"{step / 1000:g}k" if step >= 1000 else f"{step:g}")
            axes.tick_params(labelsize=8.5)
            if not drawn:
                axes.set_axis_off()
        line[0].set_axis_on()
        line[0].set_ylabel(f"{model}\n{value}{' [%]' * (value == 'mIoU')}", fontsize=9)
    for axes, regime in zip(grid[0], regimes, strict=True):
        axes.set_title(name_of(*regime), fontsize=10)
    figure.supxlabel("iteration; a line per training", fontsize=9, y=0.02)
    sns.despine(figure)
    return figure


def smooth(curve: pd.DataFrame, value: str) -> pd.DataFrame:
    """A curve's running mean at no more than POINTS steps: step and `value`."""
    window = max(1, len(curve) // 20)
    mean = curve[value].rolling(window, min_periods=1).mean()
    kept: Sequence[int] = np.unique(np.linspace(0, len(curve) - 1, POINTS).round().astype(int))
    return pd.DataFrame({"step": curve.step.iloc[kept], value: mean.iloc[kept]})
