"""Plot the hardness of masks and the images that plans give them; see `plot_hardness`."""

from pathlib import Path

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from freemask import cli
from freemask.reporting.figures import BLUE, INK, ORANGE, by_name, new_figure, save
from freemask.selection.plans import read_plan
from freemask.tables import read_table

POINTS = 2000  # masks up to which each has a point


def plot_hardness(*, hardness: Path, plans: list[Path], plan_names: list[str], figures: list[Path]) -> None:
    """Left: hardness of the masks, the mean class-wise loss [nats] over a mask's labelled pixels. Right: how many
    images each plan makes of a mask, masks from easiest to hardest. Plans by hardness rise in steps from 1 to n_max
    images; other strategies spend the same number of images in other ways (line: running mean over masks; points:
    masks, up to 2,000 of them).

    Args:
        hardness: Table made by mask_hardness.
        plans: Tables made by plan_synthesis.
        plan_names: Name of each plan.
        figures: Outputs, .png and .pdf.
    """
    masks = read_table(hardness, ["mask_id", "hardness", "rank"])
    images = {
        name: read_plan(path).groupby("mask_id").size().reindex(masks.mask_id, fill_value=0)
        for name, path in by_name(plan_names, plans, "--plans").items()
    }
    save(draw(masks, images), figures)


def draw(hardness: pd.DataFrame, plans: dict[str, pd.Series]) -> Figure:
    """Draw a histogram of hardness, and the images per mask of each plan.

    Args:
        hardness: mask_id, hardness [nats], rank.
        plans: Of each plan: number of images by mask_id.
    """
    figure = new_figure(11, 4.6)
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
    """Draw images per mask (N,), masks by ascending hardness, as steps.

    Plans that don't follow hardness have counts that jump from mask to mask: they are drawn as the running mean, and a
    point per mask where points can be told apart.
    """
    share = 100 * np.arange(1, len(counts) + 1) / len(counts)
    label = f"{name}: {counts.sum():,} images, {counts.mean():.2f} a mask"
    if np.abs(np.diff(counts)).sum() <= 2 * np.ptp(counts) + 2:
        axes.plot(share, counts, color=color, linewidth=2, drawstyle="steps-mid", label=label)
        return
    half = max(2, len(counts) // 40)
    running = pd.Series(counts).rolling(2 * half + 1, center=True, min_periods=1).mean()
    alpha = float(np.clip(20 / len(counts), 0.02, 0.4))
    if len(counts) <= POINTS:
        axes.scatter(share, counts, s=14, color=color, alpha=alpha, linewidth=0, rasterized=True)
    axes.plot(share, running, color=color, linewidth=2, label=f"{label} (running mean)")


if __name__ == "__main__":
    cli.run(plot_hardness)
