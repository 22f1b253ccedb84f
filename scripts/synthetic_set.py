"""A synthetic training set from the shards of a plan; see `synthetic_set`."""

from pathlib import Path

from freemask import cli


def synthetic_set(
    *,
    plan: Path,
    shards: list[Path],
    class_shards: list[Path],
    label_space: Path,
    train: Path,
    class_shares: Path,
    shard_shares: Path | None = None,
) -> None:
    """Gather the shards of a plan into one synthetic training set: names of images, masks and margin maps, no copies.

    The set holds every row of the plan exactly once, in the plan's order. Stamps and digests make the table differ
    where a file of the same name was made again.

    Args:
        plan: Table of mask_id, seed (plan_synthesis).
        shards: Manifests of filter_masks, all shards.
        class_shards: Class tables of filter_masks.
        label_space: Label space of the data set.
        train: Output: table of image, mask, margin, stamp, filter, alpha, mask_id, seed, filtered (share of the
            labelled pixels), digest (of the filtered labels).
        class_shares: Output: table of label, name, pixels, filtered [pixels], share.
        shard_shares: Output: the same for each shard: shard, label, name, pixels, filtered, share.
    """
    from freemask.data.label_space import LabelSpace
    from freemask.filtering.shards import filter_warnings, filtered_shares, in_plan_order
    from freemask.tables import write_table

    shares, parts = filtered_shares(class_shards, LabelSpace.read(label_space))
    rows = in_plan_order(plan, shards)
    write_table(train, rows, counted=True)
    write_table(class_shares, shares, counted=True)
    if shard_shares:
        write_table(shard_shares, parts, counted=True)
    cli.tell(f"{train}: {len(rows)} images, {shares.filtered.sum() / shares.pixels.sum():.1%} filtered")
    for warning in filter_warnings(shares):
        cli.tell(f"warning: {train}: {warning}")


if __name__ == "__main__":
    cli.run(synthetic_set)
