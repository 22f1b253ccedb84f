"""What a filter takes of one shard of synthetic images; see `filter_masks`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from freemask import cli, plugins
from freemask.errors import InputError
from freemask.filtering.filters import FILTERS

FILTER = f"Filter rule: {', '.join(FILTERS)}, or package.module:function; see docs/filtering.md."


def filter_masks(
    *,
    alpha: str,
    filter: Annotated[str, Parameter(help=FILTER)] = "margin",
    margins: Path | None = None,
    images: Path | None = None,
    masks: Path | None = None,
    label_space: Path,
    manifest: Path,
    class_shares: Path,
    threads: cli.Positive = 1,
) -> None:
    """Filter the masks of a shard's synthetic images: pixels that can't be trusted become the ignored label.

    Makes tables only. Whoever trains on the masks or shows them filters them again, from the margin maps that the
    manifest names. Without a filter (none, or margin with alpha inf) it names none.

    Args:
        alpha: Tolerance margin: a multiple of 0.05, or inf.
        margins: Shard of measure_margins; a filter needs it.
        images: Shard of synthesize; needed without a filter.
        masks: Table of resize_masks; needed without a filter.
        label_space: Label space of the data set.
        manifest: Output: table of image, mask, margin, stamp, filter, alpha, mask_id, seed, filtered (share of the
            labelled pixels), digest (of the filtered labels).
        class_shares: Output: table of label, pixels, filtered [pixels].
        threads: Processes.
    """
    import pandas as pd

    from freemask.data.label_space import LabelSpace
    from freemask.filtering.filters import margin, none
    from freemask.filtering.margins import parse_alpha
    from freemask.filtering.shards import filter_shard, filter_warnings, unfiltered_shard
    from freemask.tables import write_table

    rule, tolerance, space = plugins.find(FILTERS, filter, "filter"), parse_alpha(alpha), LabelSpace.read(label_space)
    if rule is none or (rule is margin and tolerance == float("inf")):
        if not (images and masks):
            raise InputError(f"--filter {filter} --alpha {alpha} needs --images and --masks")
        table, pixels = unfiltered_shard(images, masks)
    else:
        if not margins:
            raise InputError(f"--filter {filter} --alpha {alpha} needs --margins")
        table, pixels = filter_shard(margins, filter, alpha, space, threads)
    write_table(manifest, table, counted=True)
    ids = list(space.ids)
    shares = pd.DataFrame({"label": ids, "pixels": pixels[0, ids], "filtered": pixels[1, ids]})
    write_table(class_shares, shares, counted=True)
    share = pixels[1].sum() / max(pixels[0].sum(), 1)
    cli.tell(f"{manifest}: {len(table)} images, alpha {alpha} filters {share:.1%} of the pixels")
    for warning in filter_warnings(shares):
        cli.tell(f"warning: {manifest}: {warning}")


if __name__ == "__main__":
    cli.run(filter_masks)
