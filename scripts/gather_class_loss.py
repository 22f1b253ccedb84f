"""Class-wise mean loss on the real training images; see `gather_class_loss`."""

from pathlib import Path

from freemask import cli


def gather_class_loss(*, index: list[Path], shards: list[Path], label_space: Path, class_loss: Path) -> None:
    """Compute the class-wise mean loss on the real training images from the sums of all shards.

    class_loss = loss_sum / (pixels + 1e-5), 0 for a class without pixels. The table doesn't depend on the number of
    shards.

    Args:
        index: Table of real training pairs: mask_id; or the held-out pairs of each fold (split_fold).
        shards: Tables of the rule class_loss, 1-of-n to n-of-n; of each index in turn.
        label_space: Label space of the data set.
        class_loss: Output: table of label, name, loss_sum [nats], pixels, class_loss [nats].
    """
    from freemask.data.label_space import LabelSpace
    from freemask.selection.class_loss import class_loss_warnings, gather_sums
    from freemask.tables import write_table

    table = gather_sums(index, shards, LabelSpace.read(label_space))
    write_table(class_loss, table, counted=True)
    mean = table.loss_sum.sum() / max(table.pixels.sum(), 1)
    cli.tell(f"{class_loss}: {table.pixels.sum():,} pixels, {mean:.4g} nats on average")
    for warning in class_loss_warnings(table):
        cli.tell(f"warning: {class_loss}: {warning}")


if __name__ == "__main__":
    cli.run(gather_class_loss)
