"""Pair the images and masks of a split; see `index_dataset`."""

from pathlib import Path

from freemask import cli


def index_dataset(
    *,
    images: Path,
    masks: Path,
    image_suffix: str,
    mask_suffix: str,
    ignored_suffixes: list[str] | None = None,
    index: Path,
    offenders: Path | None = None,
    label_space: Path | None = None,
    cache: Path | None = None,
    threads: cli.Positive = 1,
) -> None:
    """Write one row per image and its mask: mask_id, image, mask (paths), image_bytes, mask_bytes, mask_sha256.

    The mask_id is the file name without its suffix. Sizes and digest make the table differ if files of the same names
    hold something else; they are empty for a file that can't be read. An image without a mask, or a mask without an
    image, is an error. With --offenders, the pairs are then checked as well, so that one table lists every file that
    can't be used.

    Args:
        images: Folder of the split's images.
        masks: Folder of the split's masks.
        image_suffix: End of the images' file names, e.g. .jpg.
        mask_suffix: End of the masks' file names, e.g. .png.
        ignored_suffixes: Ends of file names that are neither, e.g. _color.png.
        index: Output: the table.
        offenders: Output, only if a file has no partner: table of path, what, remedy.
        label_space: The data set's label space (JSON), for --offenders.
        cache: Cache file of check_dataset, for --offenders.
        threads: Number of processes.
    """
    import pandas as pd

    from freemask.data.check import Offender, check_split, refuse
    from freemask.data.label_space import LabelSpace
    from freemask.data.masks import fingerprint, match_files
    from freemask.errors import InputError
    from freemask.parallel import map_files, some
    from freemask.tables import write_table

    pairs, unpaired = match_files(images, masks, image_suffix, mask_suffix, ignored_suffixes or [])
    if unpaired and not offenders:
        named = some([f"{path} ({what})" for path, what, _ in unpaired])
        raise InputError(f"{len(unpaired)} file(s) stand alone: {named}; {unpaired[0][2]}")
    if unpaired:
        if not (label_space and cache):
            raise InputError("--offenders needs --label-space and --cache; give all or none")
        paths = [(image, mask) for _, image, mask in pairs]
        report = check_split(paths, LabelSpace.read(label_space), cache, threads, f"check {index.stem}")
        report.offenders[:0] = [Offender(*found) for found in unpaired]
        refuse(offenders, report)
    known = map_files(fingerprint, pairs, threads, "index", "pair")
    rows = [(*pair, *found) for pair, found in zip(pairs, known, strict=True)]
    columns = ["mask_id", "image", "mask", "image_bytes", "mask_bytes", "mask_sha256"]
    write_table(index, pd.DataFrame(rows, columns=columns))
    cli.tell(f"{index}: {len(pairs)} images with their masks")


if __name__ == "__main__":
    cli.run(index_dataset)
