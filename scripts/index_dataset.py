"""List one split of a data set: one row per pair of an image and its mask.

Makes a table: mask_id, image, mask (paths), image_bytes, mask_bytes, mask_sha256. The last three make the table
differ where files of the same names hold something else; they are empty for a file that can't be read. The mask_id is
the file name without its suffix. An image without a mask, or a mask without an image, is an error; with --offenders the
pairs are checked then as well (see check_dataset), so that one table lists all that can't be used.
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
    parser.add_argument("--index", type=Path, required=True, help="output: table of mask_id, image, mask, ...")
    parser.add_argument("--offenders", type=Path, help="output, only where files stand alone: path, what, remedy")
    parser.add_argument("--classes", type=Path, help="class table, for --offenders")
    parser.add_argument("--ignored-label", type=int, help="raw label that means 'ignored', for --offenders")
    parser.add_argument("--cache", type=Path, help="what is known of files that were read before, for --offenders")
    parser.add_argument("--threads", type=int, default=1, help="processes (default: 1)")
    return parser


def main(arguments: argparse.Namespace) -> None:
    """Pair and write."""
    from itertools import tee

    from freemask import tables
    from freemask.data import masks
    from freemask.parallel import map_files

    places = arguments.images, arguments.masks, arguments.image_suffix, arguments.mask_suffix
    number, found, unpaired = masks.match_files(*places)
    if unpaired:
        refuse(unpaired, found, number, arguments)
    pairs, again = tee(found)
    jobs = ((image, mask) for _, image, mask in again)
    known = map_files(masks.contents, jobs, arguments.threads, "index", "pair", number)
    header = ["mask_id", "image", "mask", "image_bytes", "mask_bytes", "mask_sha256"]
    rows = ((*pair, *facts) for pair, facts in zip(pairs, known, strict=True))
    tables.write_rows(arguments.index, header, rows)
    cli.tell(f"{arguments.index}: {number} images with their masks")


def refuse(unpaired, found, number: int, arguments: argparse.Namespace) -> None:
    """End with the files that stand alone and, with --offenders, with what is wrong with the pairs."""
    from freemask.data import check
    from freemask.data.label_space import LabelSpace
    from freemask.errors import InputError
    from freemask.parallel import some

    if not arguments.offenders:
        named = some([f"{path} ({what})" for path, what, _ in unpaired])
        raise InputError(f"{len(unpaired)} file(s) stand alone: {named}; {unpaired[0][2]}")
    if None in (arguments.classes, arguments.ignored_label, arguments.cache):
        raise InputError("--offenders needs --classes, --ignored-label and --cache; give all or none")
    space = LabelSpace.read(arguments.classes, arguments.ignored_label)
    pairs = ((image, mask) for _, image, mask in found)
    description = f"check {arguments.index.stem}"
    checked = check.check_split(pairs, number, space, arguments.cache, arguments.threads, description)
    checked.offenders[:0] = [check.Offender(*one) for one in unpaired]
    check.refuse(arguments.offenders, checked)


if __name__ == "__main__":
    cli.run(main, options().parse_args())
