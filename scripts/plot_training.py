"""Plot training curves; see `plot_training`."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from freemask import cli
from freemask.errors import InputError
from freemask.reporting.figures import new_figure, save
from freemask.segmentation.outputs import read_scalars


def plot_training(*, work: list[Path], training_names: list[str], models: list[str], figures: list[Path]) -> None:
    """A row of panels per model, a line per training. Training loss (light: as logged; dark: running mean) and learning
    rate over iterations. The loss of joint training is a mean over real and synthetic pixels and can't be compared with
    that of training on real images only.

    Args:
        work: mmengine's work folder of each training; may be none.
        training_names: Name of each training, e.g. "joint seed-0"; seeds of an experiment share a color.
        models: Model of each training.
        figures: Outputs, .png and .pdf.
    """
    if not len(training_names) == len(models) == len(work):
        given = f"{len(training_names)} --training-names and {len(models)} --models"
        raise InputError(f"{given} for {len(work)} --work; give as many")
    curves: dict[str, dict[str, pd.DataFrame]] = {}
    for model, name, folder in zip(models, training_names, work, strict=True):
        curves.setdefault(model, {})[name] = read_scalars(folder)
    save(draw(curves) if curves else draw_nothing(), figures)


def draw(curves: dict[str, dict[str, pd.DataFrame]]) -> Figure:
    """Draw training loss and learning rate over iterations.

    Args:
        curves: Of each model and each of its trainings: step, loss, lr.
    """
    heights = [max(3.0, 0.9 + 0.21 * len(trainings)) for trainings in curves.values()]
    figure = new_figure(15, sum(heights) + 0.4 * len(heights))
    grid = figure.subplots(len(curves), 2, squeeze=False, height_ratios=heights)
    for (left, right), (model, trainings) in zip(grid, curves.items(), strict=True):
        for (name, curve), look in zip(trainings.items(), looks(trainings), strict=True):
            smooth = curve.loss.rolling(max(3, len(curve) // 20), min_periods=1).mean()
            left.plot(curve.step, curve.loss, color=look["color"], alpha=0.25, linewidth=1)
            left.plot(curve.step, smooth, linewidth=1.8, **look)
            label = f"{name}: {smooth.iloc[-1]:.3f} at the end"
            right.plot(curve.step, curve.lr, linewidth=1.8, label=label, **look)
        left.set(title=f"{model}: training loss", xlabel="iteration", ylabel="loss")
        right.set(title="Learning rate", xlabel="iteration", ylabel="learning rate")
        right.yaxis.set_major_formatter(lambda rate, _: f"{rate:g}")
        beside = {"loc": "upper left", "bbox_to_anchor": (1.02, 1.02), "alignment": "left"}
        right.legend(**beside, fontsize=9.5, title="loss (running mean)", handlelength=3)
    sns.despine(figure)
    return figure


def looks(trainings: Iterable[str]) -> list[dict]:
    """Color and line style of each training: a color for an experiment, a line style for each of its train seeds."""
    experiments = [name.partition(" seed-")[0] for name in trainings]
    different = list(dict.fromkeys(experiments))
    palette = sns.color_palette("colorblind", 10) if len(different) <= 10 else sns.husl_palette(len(different), l=0.55)
    colors = dict(zip(different, palette, strict=False))
    seen: Counter[str] = Counter()
    found = []
    for experiment in experiments:
        found.append({"color": colors[experiment], "linestyle": ("-", "--", ":", "-.")[seen[experiment] % 4]})
        seen[experiment] += 1
    return found


def draw_nothing() -> Figure:
    """Say why there is no curve."""
    figure = new_figure(11, 2)
    figure.text(0.5, 0.5, "No training was run: every row is imported.", ha="center", va="center")
    return figure


if __name__ == "__main__":
    cli.run(plot_training)
