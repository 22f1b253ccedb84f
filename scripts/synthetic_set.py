"""Gather the shards of a plan into one training set: names only, nothing is copied.

Makes a table in plan order: image, mask (paths), mask_id, seed, filtered (share of the labelled pixels),
image_sha256, mask_sha256 (so that the table differs where a file of the same name was made anew); and a table of what
was filtered per class: label, name, pixels, filtered, share; and the same by shard. Every row of the plan is there
exactly once.
"""

import argparse
from pathlib import Path

from freemask import cli


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--plan", type=Path, required=True, help="table of mask_id, seed (plan_synthesis)")
    parser.add_argument("--shards", type=Path, nargs="+", required=True, help="manifests of filter_masks, all shards")
    parser.add_argument("--class-shards", type=Path, nargs="+", required=True, help="class tables of filter_masks")
    parser.add_argument("--classes", type=Path, required=True, help="class table: label, name, word, color")
    parser.add_argument("--ignored-label", type=int, required=True, help="raw label that means 'ignored'")
    parser.add_argument("--train", type=Path, required=True, help="output: image, mask, mask_id, seed, filtered, ...")
    parser.add_argument("--class-shares", type=Path, required=True, help="output: label, name, pixels, filtered, share")
    parser.add_argument("--shard-shares", type=Path, help="output: shard, label, name, pixels, filtered, share")
    return parser


def main(arguments: argparse.Namespace) -> None:
    """Gather, check against the plan, write."""
    import pandas as pd

    from freemask import tables
    from freemask.data.label_space import LabelSpace

    space = LabelSpace.read(arguments.classes, arguments.ignored_label)
    read = [tables.read_table(shard, ["label", "pixels", "filtered"]) for shard in arguments.class_shards]
    parts = pd.concat([part.assign(shard=number) for number, part in enumerate(read, start=1)])
    pixels = parts.groupby("label")[["pixels", "filtered"]].sum().reindex(space.ids, fill_value=0)
    shares = pd.DataFrame({"label": space.ids, "name": space.names}).join(pixels, on="label")
    shares["share"] = shares.filtered / shares.pixels  # empty where the set shows no pixel of the class
    images = write_train(arguments)
    tables.write_table(arguments.class_shares, shares)
    if arguments.shard_shares:
        parts["name"] = parts.label.map(dict(zip(space.ids, space.names, strict=True)))
        parts["share"] = parts.filtered / parts.pixels
        tables.write_table(arguments.shard_shares, parts[["shard", "label", "name", "pixels", "filtered", "share"]])
    cli.tell(f"{arguments.train}: {images} images, {shares.filtered.sum() / shares.pixels.sum():.1%} filtered")


def write_train(arguments: argparse.Namespace) -> int:
    """Write the pairs row by row; returns their number."""
    from freemask import tables
    from freemask.selection.plans import in_plan_order

    columns = ["mask_id", "seed", "image", "mask", "filtered", "image_sha256", "mask_sha256"]
    rows = in_plan_order(arguments.plan, arguments.shards, columns)
    header = ["image", "mask", "mask_id", "seed", *columns[4:]]
    return tables.write_rows(arguments.train, header, ((*row[2:4], *row[:2], *row[4:]) for row in rows))


if __name__ == "__main__":
    cli.run(main, options().parse_args())
