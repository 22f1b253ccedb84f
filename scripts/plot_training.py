"""Plot training curves; see `plot_training`."""

from pathlib import Path

from matplotlib.figure import Figure

from freemask import cli
from freemask.errors import InputError
from freemask.reporting import charts
from freemask.reporting.figures import new_figure, save


def plot_training(
    *, work: list[Path], regimes: list[str], models: list[str], training_names: list[str], figures: list[Path]
) -> None:
    """Training loss (running mean), and mIoU of the validations during training if there are any, over iterations: two
    rows per model, a column per regime, a line per training. The loss of joint training is a mean over real and
    synthetic pixels and can't be compared with that of training on real images only.

    Args:
        work: mmengine's work folder of each training; may be none.
        regimes: Regime and schedule of each training, e.g. "joint 2".
        models: Model of each training.
        training_names: Experiment and train seed of each training, e.g. "joint seed-0".
        figures: Outputs, .png and .pdf.
    """
    if not len(regimes) == len(models) == len(training_names) == len(work):
        given = f"{len(regimes)} --regimes, {len(models)} --models and {len(training_names)} --training-names"
        raise InputError(f"{given} for {len(work)} --work; give as many")
    found: charts.Curves = {}
    rows = zip(models, regimes, training_names, work, strict=True)
    for model, regime, name, folder in sorted(rows, key=lambda row: models.index(row[0])):
        kind, _, schedule = regime.partition(" ")
        charts.add_curves(found, model, (kind, float(schedule)), name.rpartition(" ")[0], folder)
    save(charts.curves(found) if found else draw_nothing(), figures)


def draw_nothing() -> Figure:
    """Say why there is no curve."""
    figure = new_figure(11, 2)
    figure.text(0.5, 0.5, "No training was run: every row is imported.", ha="center", va="center")
    return figure


if __name__ == "__main__":
    cli.run(plot_training)
