"""Fetch a data set's archives and unpack them below its root; what is there already stays as it is.

Archives lie in <root>.archives until they are unpacked; the digest of one without a published digest stays there.
Needs a network and, for a while, disk for an archive and what it unpacks to.
"""

import argparse
import json
from pathlib import Path

from freemask import cli
from freemask.errors import InputError


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--dataset", required=True, help="data set id, for messages")
    parser.add_argument("--root", type=Path, required=True, help="output: folder of the raw data")
    parser.add_argument(
        "--archives", type=json.loads, required=True, help="JSON: list of url, sha256, folder, unpack_to"
    )
    parser.add_argument("--folders", nargs="+", required=True, help="folders below root that must be there in the end")
    return parser


def main(arguments: argparse.Namespace) -> None:
    """Fetch, unpack, look."""
    from freemask.data.archives import unpack
    from freemask.data.fetch import fetch
    from freemask.files import file_name

    for archive in arguments.archives:
        destination = arguments.root / archive["unpack_to"]
        if destination.is_dir() and any(destination.iterdir()):
            cli.tell(f"{destination}: there already, left as it is")
            continue
        path = Path(f"{arguments.root}.archives") / file_name(archive["url"])
        otherwise = f"or, where you have the data already, give their folder in data_roots.{arguments.dataset}"
        # jpg and png don't shrink in a zip: unpacked, they take as much disk again
        fetch(archive["url"], path, archive.get("sha256"), otherwise, reserve=1)
        unpack(path, destination, archive.get("folder", ""))
        path.unlink()
        cli.tell(f"{destination}: unpacked")
    for folder in arguments.folders:
        if not (arguments.root / folder).is_dir():
            raise InputError(
                f"{arguments.root / folder}: not there, though {arguments.root} holds other files; move those away and"
                f" fetch again, or give the folder of the data in data_roots.{arguments.dataset}"
            )


if __name__ == "__main__":
    cli.run(main, options().parse_args())
