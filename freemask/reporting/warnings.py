"""What makes a data set's results doubtful: filters that take most pixels, classes that the scorer doesn't know."""

import math

import pandas as pd

from freemask.parallel import some

MOST = 0.6  # share of all pixels beyond which a filter is warned of; the paper's takes less
MOST_OF_CLASS = 0.8  # of a class


def of_filter(shares: pd.DataFrame) -> list[str]:
    """Warnings of what a filter takes.

    Args:
        shares: name or label, pixels, filtered [pixels] of each class.
    """
    found, total = [], shares.filtered.sum() / max(shares.pixels.sum(), 1)
    if total > MOST:
        found.append(
            f"the filter takes {total:.0%} of the pixels, so little is left to train on; raise alpha, or look whether "
            "generator and scorer fit the data set"
        )
    names = shares["name"] if "name" in shares else shares.label
    share = shares.filtered / shares.pixels.clip(lower=1)
    classes = [f"{name} ({part:.0%})" for name, part in zip(names, share, strict=True) if part > MOST_OF_CLASS]
    if classes and total <= MOST:
        found.append(f"the filter takes most pixels of {len(classes)} class(es): {some(classes)}")
    return found


def of_class_loss(table: pd.DataFrame) -> list[str]:
    """Warnings of classes whose mean loss on real images is that of a guess, or more.

    Args:
        table: name, pixels, class_loss [nats].
    """
    guess = math.log(max(len(table), 1))
    lost = table[(table.pixels > 0) & (table.class_loss >= guess)]
    if lost.empty:
        return []
    classes = [f"{name} ({loss:.2f})" for name, loss in zip(lost.name, lost.class_loss, strict=True)]
    return [
        f"the scorer knows {len(lost)} class(es) no better than a guess ({guess:.2f} nats): {some(classes)}; their "
        "limits are so high that the filter keeps what is wrong, so train the scorer longer or join classes"
    ]


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
