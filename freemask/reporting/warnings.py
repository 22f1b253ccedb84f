"""What makes a data set's results doubtful, for the report."""

import pandas as pd

from freemask.data.label_space import LabelSpace
from freemask.parallel import some


def of_scorer(ious: pd.DataFrame) -> list[str]:
    """Warnings of classes that the scorer never finds on the validation images.

    Args:
        ious: name, iou [percent] of each class; NaN for a class without pixels.
    """
    lost = ious.name[ious.iou == 0].tolist()
    return [f"the scorer's IoU is 0 for {len(lost)} class(es): {some(lost)}"] if lost else []


def of_colors(space: LabelSpace) -> list[str]:
    """Warnings of classes that look alike in every figure: one color for several, and black, which looks ignored."""
    names: dict[tuple[int, int, int], list[str]] = {}
    for name, color in zip(space.names, space.colors, strict=True):
        names.setdefault(color, []).append(name)
    alike = [" = ".join(own) for own in names.values() if len(own) > 1]
    found = [f"{len(alike)} color(s) stand for several classes each: {some(alike)}"] if alike else []
    black = names.get((0, 0, 0), [])
    return found + ([f"black, which looks like ignored pixels, is the color of {some(black)}"] if black else [])
