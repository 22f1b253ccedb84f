"""What makes a data set's results doubtful, for the report."""

import pandas as pd

from freemask.parallel import some


def of_scorer(ious: pd.DataFrame) -> list[str]:
    """Warnings of classes that the scorer never finds on the validation images.

    Args:
        ious: name, iou [percent] of each class; NaN for a class without pixels.
    """
    lost = ious.name[ious.iou == 0].tolist()
    return [f"the scorer's IoU is 0 for {len(lost)} class(es): {some(lost)}"] if lost else []


def table(found: dict[str, list[str]]) -> pd.DataFrame:
    """One row per warning: of (what is doubtful), warning."""
    rows = [(what, warning) for what, warnings in found.items() for warning in warnings]
    return pd.DataFrame(rows, columns=["of", "warning"])
