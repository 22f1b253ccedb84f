"""Fetch weights: a generator's checkpoint or folder, or a model's initial weights. Needs a network."""

import argparse
from pathlib import Path

from freemask import cli


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--url", required=True, help="address, also on Google Drive, or hf://owner/name@commit")
    parser.add_argument("--sha256", help="SHA-256 of the file, or its first hex digits (default: the first download's)")
    parser.add_argument("--weights", type=Path, required=True, help="output: the file, or a folder's model_index.json")
    return parser


def main(arguments: argparse.Namespace) -> None:
    """Fetch."""
    from freemask.data.fetch import fetch

    if arguments.url.startswith("hf://"):
        from freemask.data.hub import fetch_folder

        fetch_folder(arguments.url, arguments.weights.parent)
        return
    fetch(arguments.url, arguments.weights, arguments.sha256)


if __name__ == "__main__":
    cli.run(main, options().parse_args())
