"""Filter one shard's synthetic pixels with the tolerance margin alpha: those pixels become the ignored label.

Makes one filtered mask per image (PNG, raw labels), a manifest (mask_id, seed, image, mask, filtered: share of the
labelled pixels, image_sha256, mask_sha256) and a table per class (label, pixels, filtered [pixels]). With alpha inf
nothing is filtered and nothing is written but the tables: the manifest points at the unfiltered masks.
"""

import argparse
from pathlib import Path

from freemask import cli

MANIFEST = ["mask_id", "seed", "image", "mask", "filtered", "image_sha256", "mask_sha256"]


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--alpha", required=True, help="tolerance margin: a multiple of 0.05, or inf (no filtering)")
    parser.add_argument("--margins", type=Path, help="shard of measure_margins; needed unless inf")
    parser.add_argument("--images", type=Path, help="shard of synthesize; needed for inf")
    parser.add_argument("--masks", type=Path, help="table of resize_masks; needed for inf")
    parser.add_argument("--classes", type=Path, required=True, help="class table: label, name, word, color")
    parser.add_argument("--ignored-label", type=int, required=True, help="raw label that means 'ignored'")
    parser.add_argument("--filtered-dir", type=Path, required=True, help="output: folder of <mask_id>/<seed>.png")
    parser.add_argument(
        "--manifest", type=Path, required=True, help="output: mask_id, seed, image, mask, filtered, ..."
    )
    parser.add_argument("--class-shares", type=Path, required=True, help="output: label, pixels, filtered")
    parser.add_argument("--threads", type=int, default=1, help="processes (default: 1)")
    return parser


def main(arguments: argparse.Namespace) -> None:
    """Filter, or pass the masks through, and write both tables."""
    import numpy as np
    import pandas as pd

    from freemask import tables
    from freemask.data.label_space import LabelSpace
    from freemask.filtering import filters

    alpha = filters.parse_alpha(arguments.alpha)
    space = LabelSpace.read(arguments.classes, arguments.ignored_label)
    pixels = np.zeros((2, 256), np.int64)  # of each raw label: all, filtered
    rows = pass_through(arguments, pixels) if alpha == float("inf") else filter_shard(arguments, alpha, pixels)
    images = tables.write_rows(arguments.manifest, MANIFEST, rows)
    shares = pd.DataFrame({"label": space.ids, "pixels": pixels[0, space.ids], "filtered": pixels[1, space.ids]})
    tables.write_table(arguments.class_shares, shares)
    share = pixels[1].sum() / max(pixels[0].sum(), 1)
    cli.tell(f"{arguments.manifest}: {images} images, alpha {arguments.alpha} filters {share:.1%} of the pixels")


def filter_shard(arguments: argparse.Namespace, alpha: float, pixels):
    """Yield the manifest's rows as their masks are written, and add each one's pixels to pixels (2, 256)."""
    from functools import partial

    from freemask import tables
    from freemask.errors import InputError
    from freemask.filtering import filters
    from freemask.parallel import map_files

    if not arguments.margins:
        raise InputError(f"--alpha {arguments.alpha} needs --margins")
    columns = ["mask_id", "seed", "image", "mask", "margin", "image_sha256"]
    total = sum(1 for _ in tables.stream_table(arguments.margins, columns))  # and no bad line is met later
    jobs = (
        filters.FilterJob(mask, margin, filters.filtered_path(arguments.filtered_dir, mask_id, seed))
        for mask_id, seed, _, mask, margin, _ in tables.stream_table(arguments.margins, columns)
    )
    work = partial(filters.filter_file, alpha=alpha, ignored=arguments.ignored_label)
    done = map_files(work, jobs, arguments.threads, "filter masks", "mask", total)
    for row, (counted, digest) in zip(tables.stream_table(arguments.margins, columns), done, strict=True):
        mask_id, seed, image, _, _, image_sha256 = row
        pixels += counted
        share = counted[1].sum() / max(counted[0].sum(), 1)
        mask = filters.filtered_path(arguments.filtered_dir, mask_id, seed)
        yield mask_id, seed, image, mask, f"{share:.9g}", image_sha256, digest


def pass_through(arguments: argparse.Namespace, pixels):
    """The same for alpha inf: the square masks themselves, nothing filtered."""
    from collections import Counter

    import numpy as np

    from freemask import tables
    from freemask.data.masks import stream_masks
    from freemask.errors import InputError
    from freemask.parallel import some

    if not (arguments.images and arguments.masks):
        raise InputError("--alpha inf needs --images and --masks")
    columns = ["mask_id", "seed", "image", "sha256"]
    images = Counter(mask_id for mask_id, *_ in tables.stream_table(arguments.images, columns))
    masks = {}
    for mask_id, mask, counts, digest in stream_masks(arguments.masks):
        if mask_id in images:
            masks[mask_id] = mask, digest
            np.add.at(pixels[0], counts.label, counts.pixels * images[mask_id])
    unknown = [mask_id for mask_id in images if mask_id not in masks]
    if unknown:
        raise InputError(f"{arguments.images}: {arguments.masks} doesn't hold mask(s) {some(unknown)}; plan again")
    for mask_id, seed, image, image_sha256 in tables.stream_table(arguments.images, columns):
        mask, digest = masks[mask_id]
        yield mask_id, seed, image, mask, "0", image_sha256, digest


if __name__ == "__main__":
    cli.run(main, options().parse_args())
