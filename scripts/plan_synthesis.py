"""The images to synthesize; see `plan_synthesis`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from freemask import cli, plugins
from freemask.errors import InputError
from freemask.selection.estimates import SECONDS_PER_IMAGE
from freemask.selection.strategies import STRATEGIES

STRATEGY = f"How images are shared out: {', '.join(STRATEGIES)}, or package.module:function; see docs/selection.md."


def plan_synthesis(
    *,
    hardness: Path,
    masks: Path | None = None,
    class_loss: Path | None = None,
    strategy: Annotated[str, Parameter(help=STRATEGY)],
    n_max: cli.Positive,
    first_seed: cli.NotNegative = 42,
    plan: Path,
    mask_size: cli.Positive = 512,
    shards: cli.Positive = 1,
    seconds_per_image: float = SECONDS_PER_IMAGE,
    synthesis_logs: Path | None = None,
) -> None:
    """Plan the images to synthesize, one row per image, and print what they cost.

    Args:
        hardness: Table of mask_id, rank (mask_hardness).
        masks: Table of mask_id, counts (resize_masks); class_balanced needs it.
        class_loss: Table of label, pixels, class_loss (gather_class_loss); class_balanced needs it.
        n_max: Maximum number of images of a mask.
        first_seed: First seed of every mask.
        plan: Output: table of mask_id, seed.
        mask_size: Side of an image [pixels], for the estimate.
        shards: Number of shards of synthesis, for the estimate.
        seconds_per_image: Time on one GPU, for the estimate.
        synthesis_logs: logs/<dataset>/synthesize; measured times are printed as well.
    """
    import numpy as np

    from freemask.selection.estimates import cost, files, gpu_time, measured_seconds
    from freemask.selection.plans import read_ranked, rows
    from freemask.selection.strategies import Masks
    from freemask.tables import write_table

    count_images = plugins.find(STRATEGIES, strategy, "strategy")
    ids, rank = read_ranked(hardness)
    counts = np.asarray(count_images(Masks(ids, rank, masks, class_loss), n_max))
    if counts.shape != rank.shape or counts.dtype.kind not in "iu" or ((counts < 0) | (counts > n_max)).any():
        raise InputError(
            f"strategy {strategy}: want a whole number of 0 to {n_max} images for each of {len(ids)} masks"
        )
    write_table(plan, rows(ids, counts, first_seed), counted=True)
    per_mask = f"{counts.min()} to {counts.max()} a mask, {counts.mean():.2f} on average"
    number = files(counts.sum(), [mask_id for mask_id, count in zip(ids, counts, strict=True) if count], shards)
    cli.tell(f"{plan}: {len(ids):,} masks, {per_mask}; {cost(counts.sum(), mask_size, seconds_per_image)}")
    cli.tell(f"  {number:,} files and folders: the images in subfolders, packed margin maps, tables and logs")
    if synthesis_logs:
        for generator, measured in measured_seconds(synthesis_logs).iterrows():
            seconds, images = measured.seconds_per_image, int(measured.images)
            time = gpu_time(counts.sum() * seconds)
            cli.tell(f"  as {generator} took for {images:,} images here: {time} at {seconds:.3g} s an image")


if __name__ == "__main__":
    cli.run(plan_synthesis)
