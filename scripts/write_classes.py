"""Write the class table (label, name, word, color) of a data set whose YAML file lists its classes itself."""

import argparse
import json
from pathlib import Path

from freemask import cli

COLUMNS = ["label", "name", "word", "color"]


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--rows", type=json.loads, required=True, help="JSON: list of label, name, word, color")
    parser.add_argument("--classes", type=Path, required=True, help="output: class table")
    return parser


def main(arguments: argparse.Namespace) -> None:
    """Write."""
    from freemask import files

    files.write_rows(arguments.classes, COLUMNS, ([row[column] for column in COLUMNS] for row in arguments.rows))


if __name__ == "__main__":
    cli.run(main, options().parse_args())
