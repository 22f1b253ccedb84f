"""List one split of a data set: mask_id, image, mask (paths), one row per pair of an image and its mask.

An image without a mask, or a mask without an image, is an error. The mask_id is the file name without its suffix.
"""

import argparse
from pathlib import Path

from freemask import cli


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--images", type=Path, required=True, help="folder of the split's images")
    parser.add_argument("--masks", type=Path, required=True, help="folder of the split's masks")
    parser.add_argument("--image-suffix", required=True, help="end of the images' names, e.g. .jpg")
    parser.add_argument("--mask-suffix", required=True, help="end of the masks' names, e.g. .png")
    parser.add_argument("--index", type=Path, required=True, help="output: table of mask_id, image, mask")
    return parser


def main(arguments: argparse.Namespace) -> None:
    """Pair and write."""
    from freemask import files, masks

    pairs = masks.pair_files(arguments.images, arguments.masks, arguments.image_suffix, arguments.mask_suffix)
    files.write_table(arguments.index, pairs)
    cli.tell(f"{arguments.index}: {len(pairs)} images with their masks")


if __name__ == "__main__":
    cli.run(main, options().parse_args())
