"""Figures of results: one function per figure, each from a table; and one way to save them, byte for byte the same."""

import io
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from freemask.errors import InputError
from freemask.files import write_atomic

BLUE, ORANGE, GREY, INK = "#3b6fa5", "#d9772b", "#c9ced6", "#2b2f36"
ROWS_PER_PANEL = 44  # classes in one column; more go into the next: 150 or 171 classes make four columns


def style() -> None:
    """Set fonts, grid and colors of every figure; no display is needed."""
    mpl.use("Agg")
    for chatty in ("fontTools", "matplotlib"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    sns.set_theme(context="notebook", style="whitegrid", font="DejaVu Sans")
    mpl.rcParams |= {
        "axes.edgecolor": GREY,
        "axes.labelcolor": INK,
        "axes.titlecolor": INK,
        "axes.titlesize": 13,
        "axes.titlelocation": "left",
        "axes.titlepad": 12,
        "axes.labelsize": 11,
        "grid.color": "#e6e9ee",
        "legend.frameon": False,
        "pdf.fonttype": 42,  # text stays text
        "text.color": INK,
        "xtick.color": INK,
        "xtick.labelsize": 10,
        "ytick.color": INK,
        "ytick.labelsize": 10,
    }


def save(figure: Figure, paths: Sequence[Path]) -> None:
    """Write a figure as each path's suffix says: .png (160 dpi) or .pdf.

    No date is written, so that the same figure is the same bytes.
    Raises: InputError for another suffix.
    """
    for path in paths:
        if path.suffix not in (".png", ".pdf"):
            raise InputError(f"{path}: figures are written as .png or .pdf")
        buffer = io.BytesIO()
        metadata = {"CreationDate": None} if path.suffix == ".pdf" else {"Software": None}
        figure.savefig(buffer, format=path.suffix[1:], dpi=160, bbox_inches="tight", metadata=metadata)
        write_atomic(path, buffer.getvalue())


def plot_most_improved(table: pd.DataFrame, top: int, title: str) -> Figure:
    """Bars of IoU gains, largest first; a point per train seed, a diamond where the authors report a gain.

    Args: table: name, real, joint, gain, gain_seed_<s>, perhaps reported_gain, sorted by gain; top: how many classes.
    """
    style()
    shown = table[table.gain.notna()].head(top).reset_index(drop=True)
    rows = np.arange(len(shown))
    figure = Figure(figsize=(8.2, 1.9 + 0.36 * len(shown)))
    axes = figure.subplots()
    figure.subplots_adjust(top=1 - 0.62 / figure.get_figheight(), bottom=1.1 / figure.get_figheight(), right=0.78)
    bars = pd.DataFrame({"gain": shown.gain, "row": [f"row {row}" for row in rows], "up": shown.gain >= 0})
    sns.barplot(bars, x="gain", y="row", hue="up", palette={True: BLUE, False: GREY}, saturation=1, width=0.68,
                legend=False, ax=axes)  # fmt: skip
    axes.set_yticks(rows, shown.name)
    seeds = [column for column in shown if column.startswith("gain_seed_")]
    for seed in seeds if len(seeds) > 1 else []:
        label = f"each of {len(seeds)} train seeds" if seed == seeds[0] else None
        axes.scatter(shown[seed], rows, s=24, color="white", edgecolor=INK, linewidth=1, zorder=3, label=label)
    if "reported_gain" in shown and shown.reported_gain.notna().any():
        axes.scatter(shown.reported_gain, rows, s=46, marker="D", color=ORANGE, zorder=4, label="the authors")
    write_gains(axes, shown)
    axes.axvline(0, color=INK, linewidth=1)
    axes.set(xlabel="gain in IoU [points]", ylabel="")
    figure.text(0.02, 1 - 0.2 / figure.get_figheight(), title, size=13, va="top")
    if axes.get_legend_handles_labels()[0]:
        figure.legend(loc="lower center", bbox_to_anchor=(0.5, 0.02), ncols=2, fontsize=10)
    sns.despine(ax=axes, left=True)
    return figure


def write_gains(axes: Axes, shown: pd.DataFrame) -> None:
    """Write each row's gain and its IoU before and after to the right of the bars, and set the reach of the x axis."""
    reach = shown.filter(regex="^(gain|reported_gain)").to_numpy()
    low, high = min(0.0, np.nanmin(reach)), max(0.0, np.nanmax(reach))
    margin = 0.03 * max(high - low, 1.0)
    axes.set_xlim(low - margin if low < 0 else 0, high + margin)
    beside = axes.get_yaxis_transform()
    axes.text(1.11, -0.85, "gain", transform=beside, ha="right", fontsize=9.5)
    axes.text(1.15, -0.85, "real → joint", transform=beside, fontsize=9.5)
    for row in shown.itertuples():
        gain = f"{row.gain:+.1f}".replace("-", "−")
        axes.text(1.11, row.Index, gain, transform=beside, va="center", ha="right", fontsize=10, weight="bold")
        axes.text(1.15, row.Index, f"{row.real:.1f} → {row.joint:.1f}", transform=beside, va="center", fontsize=9.5)


def class_panels(classes: int, width: float, below: float = 0) -> tuple[Figure, list[Axes], list[slice]]:
    """Axes for one row per class, in as many columns as it takes; with the classes of each.

    below: height of further axes under all columns [inch], the figure's last; 0: none.
    """
    panels = -(-classes // ROWS_PER_PANEL)
    rows = -(-classes // panels)
    height = 1.6 + 0.24 * rows
    figure = Figure(figsize=(width * panels, height + below), layout="constrained")
    grid = figure.add_gridspec(2 if below else 1, panels, height_ratios=[height, below] if below else None)
    axes = [figure.add_subplot(grid[0, 0])]
    axes += [figure.add_subplot(grid[0, panel], sharex=axes[0]) for panel in range(1, panels)]
    if below:
        figure.add_subplot(grid[1, :])
    slices = [slice(panel * rows, min((panel + 1) * rows, classes)) for panel in range(panels)]
    for one in axes:
        one.set_ylim(rows - 0.4, -0.6)
    return figure, axes, slices


def plot_class_loss(table: pd.DataFrame) -> Figure:
    """Bars of the class-wise mean loss, hardest class first, and below them its histogram over classes.

    Args: table: name, pixels, class_loss [nats]; classes without pixels are left out.
    """
    style()
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
    of_mean = {"color": ORANGE, "linewidth": 1.5, "label": f"mean over pixels: {mean:.2f}"}
    below.axvline(mean, **of_mean)
    for axes, part in zip(panels, slices, strict=True):
        rows = shown.iloc[part]
        axes.barh(range(len(rows)), rows.class_loss, height=0.68, color=BLUE)
        axes.axvline(mean, **of_mean)
        axes.set_yticks(range(len(rows)), rows.name)
        axes.set_xlabel("mean loss [nats]")
        axes.grid(visible=False, axis="y")
        sns.despine(ax=axes, left=True)
    panels[0].set_title("Class-wise mean loss on real images")
    figure.legend(*below.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=10)
    return figure


def plot_filtered_share(shares: dict[str, pd.DataFrame], shards: dict[str, pd.DataFrame] | None = None) -> Figure:
    """Share of each class's pixels that the filter takes out, a point per synthetic set; most filtered class first.

    Args: shares: of each set (its name is shown), name, pixels, filtered, share; the first one sorts the classes.
    shards: of each set, shard, label, share: a small bar each, so that a shard that isn't like the others shows.
    """
    style()
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

    Args: shares: shard, label, share; row_of: each shown label's row.
    """
    parts = shares[shares.label.isin(row_of) & shares.share.notna()]
    rows = parts.label.map(row_of)
    axes.scatter(100 * parts.share, rows, s=60, marker="|", color=[color], alpha=0.5, zorder=2, label="each shard")


def plot_hardness(hardness: pd.DataFrame, plans: dict[str, pd.Series]) -> Figure:
    """How hard the masks are, and how many images each plan gives them.

    Args: hardness: mask_id, hardness [nats], rank; plans: of each plan (its name is shown), images by mask_id.
    """
    style()
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    sns.histplot(hardness.hardness, bins=min(60, max(8, len(hardness) // 8)), color=BLUE, alpha=1, ax=left)
    median = hardness.hardness.median()
    left.axvline(median, color=ORANGE, linewidth=1.5, label=f"median {median:.2f}")
    left.set(title=f"Hardness of {len(hardness):,} masks", xlabel="hardness [nats]", ylabel="masks")
    left.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), fontsize=10)
    colors = [ORANGE, BLUE, "#4c9a6a", "#8d6cab", INK, "#b5495b"]
    sorted_ids = hardness.sort_values("rank").mask_id
    for position, (name, images) in enumerate(plans.items()):
        draw_plan(right, name, images.reindex(sorted_ids).to_numpy(), colors[position % len(colors)])
    right.set(title="Images per mask", xlabel="rank of the mask, easiest to hardest [%]", ylabel="images")
    right.set_xlim(0, 100)
    right.set_ylim(0)
    right.yaxis.set_major_locator(MaxNLocator(steps=[1, 2, 5, 10], integer=True))
    right.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), fontsize=10)
    sns.despine(figure)
    return figure


def draw_plan(axes: Axes, name: str, counts: np.ndarray, color: str) -> None:
    """Draw images per mask (N,), masks by ascending hardness: steps, or a point per mask and their running mean.

    The mean is for plans that follow something else than hardness, whose counts jump from mask to mask.
    """
    share = 100 * np.arange(1, len(counts) + 1) / len(counts)
    label = f"{name}: {counts.sum():,} images, {counts.mean():.2f} a mask"
    if np.abs(np.diff(counts)).sum() <= 2 * np.ptp(counts) + 2:
        axes.plot(share, counts, color=color, linewidth=2, drawstyle="steps-mid", label=label)
        return
    half = max(2, len(counts) // 40)
    running = pd.Series(counts).rolling(2 * half + 1, center=True, min_periods=1).mean()
    alpha = float(np.clip(20 / len(counts), 0.02, 0.4))
    axes.scatter(share, counts, s=14, color=color, alpha=alpha, linewidth=0, rasterized=True)
    axes.plot(share, running, color=color, linewidth=2, label=f"{label} (running mean)")


def _looks(trainings: Iterable[str]) -> list[dict]:
    """Color and line style of each training: a color for an experiment, a line style for each of its train seeds."""
    experiments = Counter(name.partition(" seed-")[0] for name in trainings)
    colors = dict(zip(experiments, sns.husl_palette(len(experiments), l=0.55), strict=True))
    seen: Counter[str] = Counter()
    looks = []
    for name in trainings:
        experiment = name.partition(" seed-")[0]
        looks.append({"color": colors[experiment], "linestyle": ("-", "--", ":", "-.")[seen[experiment] % 4]})
        seen[experiment] += 1
    return looks


def plot_training(curves: dict[str, dict[str, pd.DataFrame]]) -> Figure:
    """Training loss and learning rate over iterations: a row of panels per model, a line per training.

    Args: curves: of each model and each of its trainings (its name is shown), step, loss, lr.
    """
    style()
    heights = [max(3.0, 0.9 + 0.21 * len(trainings)) for trainings in curves.values()]
    figure = Figure(figsize=(15, sum(heights) + 0.4 * len(heights)), layout="constrained")
    grid = figure.subplots(len(curves), 2, squeeze=False, height_ratios=heights)
    for (left, right), (model, trainings) in zip(grid, curves.items(), strict=True):
        for (name, curve), look in zip(trainings.items(), _looks(trainings), strict=True):
            smooth = curve.loss.rolling(max(3, len(curve) // 20), min_periods=1).mean()
            left.plot(curve.step, curve.loss, color=look["color"], alpha=0.25, linewidth=1)
            left.plot(curve.step, smooth, linewidth=1.8, **look)
            label = f"{name}: {smooth.iloc[-1]:.3f} at the end"
            right.plot(curve.step, curve.lr, linewidth=1.8, label=label, **look)
        left.set(title=f"{model}: training loss", xlabel="iteration", ylabel="loss")
        right.set(title="Learning rate", xlabel="iteration", ylabel="learning rate")
        right.yaxis.set_major_formatter(lambda rate, _: f"{rate:g}")
        right.legend(loc="upper left", bbox_to_anchor=(1.02, 1.02), fontsize=9.5, title="loss (running mean)",
                     alignment="left", handlelength=3)  # fmt: skip
    sns.despine(figure)
    return figure


def sentence(text: str) -> Figure:
    """A figure that says in words why there is nothing to show."""
    style()
    figure = Figure(figsize=(11, 2), layout="constrained")
    figure.text(0.5, 0.5, text, ha="center", va="center")
    return figure
