"""What figures share: style, colors, panels of classes, and saving with the same bytes for the same figure."""

import io
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import matplotlib as mpl
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from freemask.errors import InputError
from freemask.files import write_atomic
from freemask.reporting import fonts

BLUE, ORANGE, GREY, INK = "#0173b2", "#de8f05", "#c9ced6", "#2b2f36"
# A training's color, the same in every figure: (regime, schedule), from seaborn's palette "colorblind".
REGIME_COLORS = {
    ("real", 1): "#949494",
    ("real", 2): "#0173b2",
    ("synthetic", 1): "#cc78bc",
    ("finetune", 1): "#029e73",
    ("joint", 2): "#d55e00",
}
FURTHER_COLORS = ("#ca9161", "#56b4e9", "#ece133", "#fbafe4")  # the palette's other ones, for other regimes
ROWS_PER_PANEL = 44  # classes in one column; 150 or 171 classes make four columns


def new_figure(width: float, height: float, layout: str | None = "constrained") -> Figure:
    """An empty figure [inches] with the fonts, grid and colors of every figure; needs no display."""
    mpl.use("Agg")
    for chatty in ("fontTools", "matplotlib"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    sns.set_theme(context="notebook", style="whitegrid", font="DejaVu Sans")
    mpl.rcParams |= {
        "text.parse_math": False,  # a name may hold $
        "font.family": ["DejaVu Sans", *fonts.further()],
        "axes.edgecolor": GREY,
        "axes.labelcolor": INK,
        "axes.titlecolor": INK,
        "axes.titlesize": 13,
        "axes.titlelocation": "left",
        "axes.titlepad": 12,
        "axes.labelsize": 11,
        "grid.color": "#e6e9ee",
        "legend.frameon": False,
        "pdf.fonttype": 42,  # TrueType: text can be selected and edited
        "text.color": INK,
        "xtick.color": INK,
        "xtick.labelsize": 10,
        "ytick.color": INK,
        "ytick.labelsize": 10,
    }
    return Figure(figsize=(width, height), layout=layout)


def regime_colors(regimes: Iterable[tuple[str, int]]) -> dict[tuple[str, int], str]:
    """A color for each (regime, schedule): those of REGIME_COLORS, and FURTHER_COLORS for others in their order."""
    others = [one for one in dict.fromkeys(regimes) if one not in REGIME_COLORS]
    return REGIME_COLORS | {one: FURTHER_COLORS[place % len(FURTHER_COLORS)] for place, one in enumerate(others)}


def class_panels(classes: int, width: float, below: float = 0) -> tuple[Figure, list[Axes], list[slice]]:
    """A figure with one row per class, in as many columns of axes as needed.

    Args:
        classes: Number of classes.
        width: Width of a column [inches].
        below: Height [inches] of further axes under all columns, the figure's last; 0 for none.
    Returns: The figure, the columns' axes, and the classes of each.
    """
    panels = -(-classes // ROWS_PER_PANEL)
    rows = -(-classes // panels)
    height = 1.6 + 0.24 * rows
    figure = new_figure(width * panels, height + below)
    grid = figure.add_gridspec(2 if below else 1, panels, height_ratios=[height, below] if below else None)
    axes = [figure.add_subplot(grid[0, 0])]
    axes += [figure.add_subplot(grid[0, panel], sharex=axes[0]) for panel in range(1, panels)]
    if below:
        figure.add_subplot(grid[1, :])
    slices = [slice(panel * rows, min((panel + 1) * rows, classes)) for panel in range(panels)]
    for one in axes:
        one.set_ylim(rows - 0.4, -0.6)
    return figure, axes, slices


def name_rows(axes: Axes, names: Iterable[str]) -> None:
    """Name the rows 0, 1, ... of axes; grid lines and the spine beside them are left out."""
    names = list(names)
    axes.set_yticks(range(len(names)), names)
    axes.grid(visible=False, axis="y")
    sns.despine(ax=axes, left=True)


def by_name(names: Sequence[str], paths: Sequence[Path], option: str) -> dict[str, Path]:
    """Files by the names that a figure shows them under.

    Raises: InputError naming `option` (of the files, e.g. "--plans") where there isn't a name for each file.
    """
    if len(names) != len(paths):
        raise InputError(f"{option}: {len(paths)} file(s), but {len(names)} name(s); give a name for each")
    return dict(zip(names, paths, strict=True))


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
