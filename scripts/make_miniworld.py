"""The miniature world as files: images/{training,validation}/*.jpg and annotations/{training,validation}/*.png.

Also makes a table of the files: split, name, sha256 of image and mask.
"""

import argparse
import json
from pathlib import Path

from freemask import cli


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--root", type=Path, required=True, help="output: folder of the data set")
    parser.add_argument(
        "--world", type=json.loads, required=True, help="JSON: training, validation, image_size, world_seed"
    )
    parser.add_argument("--manifest", type=Path, required=True, help="output: table of the files")
    return parser


def main(arguments: argparse.Namespace) -> None:
    """Write both splits, then the table."""
    import pandas as pd

    from freemask.data.miniworld.dataset import write_split
    from freemask.files import sha256
    from freemask.tables import write_table

    world, rows = arguments.world, []
    for split in ("training", "validation"):
        names = write_split(arguments.root, split, world[split], world["world_seed"], world["image_size"])
        for name in names:
            image = arguments.root / "images" / split / f"{name}.jpg"
            mask = arguments.root / "annotations" / split / f"{name}.png"
            rows.append({"split": split, "name": name, "image_sha256": sha256(image), "mask_sha256": sha256(mask)})
        remove_others(arguments.root, split, set(names))
    write_table(arguments.manifest, pd.DataFrame(rows))


def remove_others(root: Path, split: str, names: set[str]) -> None:
    """Remove scenes that an earlier, larger world left in the folders."""
    for kind in ("images", "annotations"):
        for path in (root / kind / split).glob("world_*"):
            if path.stem not in names:
                path.unlink()


if __name__ == "__main__":
    cli.run(main, options().parse_args())
