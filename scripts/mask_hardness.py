"""Hardness of every mask; see `mask_hardness`."""

from pathlib import Path

from freemask import cli
from freemask.errors import InputError


def mask_hardness(*, masks: Path, class_loss: Path, hardness: Path) -> None:
    """Rate every mask by the mean class-wise loss [nats] over its labelled pixels, from its label counts.

    Args:
        masks: Table of mask_id, mask, counts (resize_masks).
        class_loss: Table of label, pixels, class_loss (gather_class_loss).
        hardness: Output: table of mask_id, hardness [nats], rank (1 = easiest).
    """
    import pandas as pd

    from freemask.data.masks import read_masks
    from freemask.parallel import some
    from freemask.selection.class_loss import read_class_loss
    from freemask.selection.hardness import mask_hardness, ranks
    from freemask.tables import write_table

    table, counts = read_masks(masks)
    empty = table.mask_id[table.counts.isna()]
    if len(empty):
        raise InputError(
            f"{len(empty)} of {len(table)} masks have no labelled pixel: {some(list(empty))}; they can't be rated and"
            " train nothing: take them out of the data set"
        )
    rated = mask_hardness(counts, read_class_loss(class_loss, held=counts.label))
    rows = pd.DataFrame({"mask_id": table.mask_id, "hardness": rated, "rank": ranks(rated)})
    write_table(hardness, rows, counted=True)
    cli.tell(f"{hardness}: {len(rated)} masks, {rated.min():.3g} to {rated.max():.3g} nats")


if __name__ == "__main__":
    cli.run(mask_hardness)
