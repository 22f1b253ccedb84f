"""Plot how much of each class the filter takes out [% of its synthetic pixels], a point per synthetic set."""

import argparse
from pathlib import Path

from freemask import cli


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--class-shares", type=Path, nargs="+", required=True, help="tables made by synthetic_set")
    parser.add_argument("--shard-shares", type=Path, nargs="+", help="tables by shard, made by synthetic_set, as many")
    parser.add_argument("--names", nargs="+", required=True, help="what to call each of them, e.g. 'alpha 1.25'")
    parser.add_argument("--figures", type=Path, nargs="+", required=True, help="outputs: .png and .pdf paths")
    return parser


def main(arguments: argparse.Namespace) -> None:
    """Plot and save."""
    from freemask import tables
    from freemask.errors import InputError
    from freemask.reporting import figures

    names, paths = arguments.names, arguments.class_shares
    if len(names) != len(paths):
        raise InputError(f"{len(names)} --names for {len(paths)} --class-shares; want as many")
    shares = {
        name: tables.read_table(path, ["label", "name", "pixels", "filtered", "share"])
        for name, path in zip(names, paths, strict=True)
    }
    parts = arguments.shard_shares or []
    if parts and len(parts) != len(paths):
        raise InputError(f"{len(parts)} --shard-shares for {len(paths)} --class-shares; want as many")
    shards = {
        name: tables.read_table(path, ["shard", "label", "share"]) for name, path in zip(names, parts, strict=False)
    }
    figures.save(figures.plot_filtered_share(shares, shards), arguments.figures)


if __name__ == "__main__":
    cli.run(main, options().parse_args())
