"""Plan the images to synthesize: one row per image, mask_id and seed; prints what they will cost.

Strategies (docs/plans.md): hardness, 1 to n_max images, more for harder masks; uniform, as many in total, spread
evenly; all, n_max for every mask; class_balanced, as many in total, more for masks with rare and hard classes.
"""

import argparse
from pathlib import Path

from freemask import cli


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--hardness", type=Path, required=True, help="table of mask_id, hardness, rank (mask_hardness)")
    parser.add_argument("--masks", type=Path, help="table of mask_id, counts (resize_masks); class_balanced needs it")
    parser.add_argument(
        "--class-loss", type=Path, help="table of label, class_loss (class_loss); class_balanced needs it"
    )
    parser.add_argument("--strategy", required=True, help="hardness, uniform, all or class_balanced")
    parser.add_argument("--n-max", type=int, required=True, help="most images of one mask")
    parser.add_argument(
        "--first-seed", type=int, default=42, help="first of the seeds, shared by all masks (default: 42)"
    )
    parser.add_argument("--plan", type=Path, required=True, help="output: table of mask_id, seed")
    parser.add_argument("--mask-size", type=int, default=512, help="side of an image, for the estimate (default: 512)")
    parser.add_argument("--seconds-per-image", type=float, help="on one GPU, for the estimate (default: a V100's 5.8)")
    parser.add_argument("--synthesis-logs", type=Path, help="logs/<dataset>/synthesize: measured seconds, if any")
    return parser


def main(arguments: argparse.Namespace) -> None:
    """Count images per mask, write the plan, say what it costs."""
    from freemask.errors import InputError
    from freemask.selection import plans

    if arguments.n_max < 1:
        raise InputError(f"--n-max {arguments.n_max}: want 1 or more images")
    if arguments.first_seed < 0:
        raise InputError(f"--first-seed {arguments.first_seed}: want 0 or more")
    ids, rank = plans.read_ranked(arguments.hardness)
    counts = count_images(arguments, ids, rank)
    images = plans.write_plan(arguments.plan, ids, counts, arguments.first_seed)
    seconds = arguments.seconds_per_image or plans.SECONDS_PER_IMAGE
    per_mask = f"{counts.min()} to {counts.max()} a mask, {counts.mean():.2f} on average"
    cli.tell(
        f"{arguments.plan}: {len(ids):,} masks, {per_mask};"
        f" {plans.cost(images, arguments.mask_size, seconds, plans.BYTES_PER_PIXEL)}"
    )
    if arguments.synthesis_logs:
        for generator, (seconds, made) in plans.measured_seconds(arguments.synthesis_logs).items():
            cli.tell(
                f"  as {generator} took for {made:,} images here: {plans.gpu_time(images * seconds)}"
                f" at {seconds:.3g} s an image"
            )


def count_images(arguments: argparse.Namespace, ids, rank):
    """Images per mask (N,) int64 by the chosen strategy; ids: (N,) bytes, rank: (N,)."""
    import numpy as np

    from freemask.data.masks import read_masks
    from freemask.errors import InputError
    from freemask.selection import hardness, plans
    from freemask.selection.class_loss import read_class_loss

    if arguments.strategy == "hardness":
        return hardness.images_at_rank(rank, arguments.n_max)
    if arguments.strategy == "uniform":
        return plans.uniform([mask_id.decode() for mask_id in ids], arguments.n_max)
    if arguments.strategy == "all":
        return np.full(len(rank), arguments.n_max)
    if arguments.strategy != "class_balanced":
        raise InputError(f"--strategy {arguments.strategy}: want one of {', '.join(plans.STRATEGIES)}")
    if not (arguments.masks and arguments.class_loss):
        raise InputError("--strategy class_balanced needs --masks and --class-loss")
    masks, counts = read_masks(arguments.masks)
    if masks.mask_id.tolist() != [mask_id.decode() for mask_id in ids]:
        raise InputError(f"{arguments.masks} and {arguments.hardness} list different masks; make both again")
    priority = plans.class_priority(counts, read_class_loss(arguments.class_loss, needed=counts))
    return plans.class_balanced(priority, rank, arguments.n_max)


if __name__ == "__main__":
    cli.run(main, options().parse_args())
