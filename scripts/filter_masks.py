"""Filter one shard's synthetic pixels with the tolerance margin alpha: those pixels become the ignored label.

Makes one filtered mask per image (PNG, raw labels), a manifest (mask_id, seed, image, mask, filtered: share of the
labelled pixels, image_sha256, mask_sha256) and a table per class (label, pixels, filtered [pixels]). With alpha inf
nothing is filtered and nothing is written but the tables: the manifest points at the unfiltered masks.
"""

import argparse
from pathlib import Path

from freemask import cli


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
    import pandas as pd

    from freemask import files, filtering
    from freemask.labels import LabelSpace

    alpha = filtering.parse_alpha(arguments.alpha)
    space = LabelSpace.read(arguments.classes, arguments.ignored_label)
    manifest, pixels = pass_through(arguments) if alpha == float("inf") else filter_shard(arguments, alpha)
    shares = pd.DataFrame({"label": space.ids, "pixels": pixels[0, space.ids], "filtered": pixels[1, space.ids]})
    files.write_table(arguments.class_shares, shares)
    files.write_table(arguments.manifest, manifest)
    share = pixels[1].sum() / max(pixels[0].sum(), 1)
    cli.tell(f"{arguments.manifest}: {len(manifest)} images, alpha {arguments.alpha} filters {share:.1%} of the pixels")


def filter_shard(arguments: argparse.Namespace, alpha: float):
    """The shard's manifest, and (2, 256) pixels and filtered pixels of each raw label."""
    from functools import partial

    import numpy as np

    from freemask import files, filtering
    from freemask.errors import InputError
    from freemask.parallel import map_files

    if not arguments.margins:
        raise InputError(f"--alpha {arguments.alpha} needs --margins")
    margins = files.read_table(arguments.margins, ["mask_id", "seed", "image", "mask", "margin", "image_sha256"])
    manifest = margins[["mask_id", "seed", "image"]].copy()
    manifest["mask"] = [
        filtering.filtered_path(arguments.filtered_dir, row.mask_id, row.seed) for row in margins.itertuples()
    ]
    jobs = [
        filtering.FilterJob(mask, margin, target)
        for mask, margin, target in zip(margins["mask"], margins["margin"], manifest["mask"], strict=True)
    ]
    work = partial(filtering.filter_file, alpha=alpha, ignored=arguments.ignored_label)
    total, shares, digests = np.zeros((2, 256), np.int64), [], []
    for pixels, digest in map_files(work, jobs, arguments.threads, "filter masks", "mask"):
        total += pixels
        shares.append(pixels[1].sum() / max(pixels[0].sum(), 1))
        digests.append(digest)
    return manifest.assign(filtered=shares, image_sha256=margins.image_sha256, mask_sha256=digests), total


def pass_through(arguments: argparse.Namespace):
    """The same for alpha inf: the square masks themselves, nothing filtered."""
    import numpy as np

    from freemask import files, tables
    from freemask.errors import InputError
    from freemask.parallel import some

    if not (arguments.images and arguments.masks):
        raise InputError("--alpha inf needs --images and --masks")
    images = files.read_table(arguments.images, ["mask_id", "seed", "image", "sha256"])
    masks, counts = tables.read_masks(arguments.masks, ["mask_sha256"])
    row = masks.reset_index().set_index("mask_id")["index"].reindex(images.mask_id)
    if row.isna().any():
        unknown = row.index[row.isna()].unique()
        raise InputError(
            f"{arguments.images}: {arguments.masks} doesn't hold mask(s) {some(list(unknown))}; plan again"
        )
    row = row.to_numpy(int)
    images_of_mask = np.bincount(row, minlength=len(masks))
    pixels = np.zeros((2, 256), np.int64)
    np.add.at(pixels[0], counts.label, counts.pixels * images_of_mask[counts.row])
    manifest = images[["mask_id", "seed", "image"]].assign(mask=masks["mask"].to_numpy()[row], filtered=0.0)
    digests = masks["mask_sha256"].to_numpy()[row]
    return manifest.assign(image_sha256=images.sha256, mask_sha256=digests), pixels


if __name__ == "__main__":
    cli.run(main, options().parse_args())
