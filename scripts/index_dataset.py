"""Pair the images and masks of a split; see `index_dataset`."""

from pathlib import Path
from typing import Literal

from freemask import cli


def index_dataset(
    *,
    images: Path,
    masks: Path,
    image_suffix: str,
    mask_suffix: str,
    ignored_suffixes: list[str] | None = None,
    ids_from: Literal["name", "path"] = "name",
    validation_share: float | None = None,
    split: Literal["train", "val", "test"] = "train",
    windows: cli.Json = None,
    windows_dir: Path | None = None,
    mask_format: cli.Json = None,
    labels_dir: Path | None = None,
    index: Path,
    state: Path | None = None,
    files: Path | None = None,
    offenders: Path | None = None,
    cache: Path | None = None,
    threads: cli.Positive = 1,
) -> None:
    """Write one row per image and its mask: mask_id, image, mask (paths), image_sha256, mask_sha256.

    The mask_id is the file name without its suffix, or with --ids-from path its path below the folder. The digests make
    the table differ if files of the same names hold something else; they are empty for a file that can't be read. Masks
    that aren't label PNGs are written as such: then mask names the label PNG, and a further column, source, the mask as
    the data set has it.

    An image without a mask, or a mask without an image, is an error. With --offenders, one table then lists every file
    that can't be used, as check_dataset does.

    Args:
        images: Folder of the split's images.
        masks: Folder of the split's masks.
        image_suffix: End of the images' file names, e.g. .jpg.
        mask_suffix: End of the masks' file names, e.g. .png.
        ignored_suffixes: Ends of file names that are neither, e.g. _color.png.
        ids_from: Whether the mask_id is the file's name, or its path below the folder, "__" for each slash.
        validation_share: Share of these images that is the validation split; default: all are of the split.
        split: With a share, which part to take; with windows, whether they are trained on or evaluated.
        windows: Cut images into windows (JSON: size, overlap), see freemask.data.windows; default: they stay whole.
        windows_dir: Output: folder of the windows.
        mask_format: What masks may hold (JSON), see freemask.data.mask_format; default: any labels.
        labels_dir: Output: folder of masks written as labels, <mask_id>.png.
        index: Output: the table.
        state: File that changes if raw data change, see freemask.data.changes.
        files: Output: what was read, to notice changes (JSON).
        offenders: Output, only if a file has no partner: table of path, what, remedy.
        cache: File that remembers what was found in each file, shared with check_dataset.
        threads: Number of processes.
    """
    import pandas as pd

    from freemask.data.changes import write_record
    from freemask.data.check import Offender, check_split, refuse
    from freemask.data.mask_format import ANY_LABELS, MaskFormat, store
    from freemask.data.masks import match_files
    from freemask.data.splits import take
    from freemask.data.windows import Windows, cut
    from freemask.errors import InputError
    from freemask.parallel import some
    from freemask.tables import write_table

    pairs, unpaired = match_files(images, masks, image_suffix, mask_suffix, ignored_suffixes or [], ids_from)
    if (offenders or windows) and not mask_format:
        raise InputError(f"{'--offenders' if offenders else '--windows'} needs --mask-format; give both or none")
    if unpaired and not offenders:
        named = some([f"{path} ({what})" for path, what, _ in unpaired])
        raise InputError(f"{len(unpaired)} file(s) stand alone: {named}; {unpaired[0][2]}")
    accepted = MaskFormat.of_json(mask_format) if mask_format else ANY_LABELS
    paths = [(image, mask) for _, image, mask in pairs]
    report = check_split(paths, accepted, cache, threads, f"read {index.stem}")
    if offenders and (unpaired or (windows and report.offenders)):
        report.offenders[:0] = [Offender(*found) for found in unpaired]
        refuse(offenders, report)
    table = pd.DataFrame(pairs, columns=["mask_id", "image", "mask"])
    for column, position in (("image_sha256", 0), ("mask_sha256", 1)):
        table[column] = [pair[position].sha256 for pair in report.files]
    if validation_share is not None:
        table = table.iloc[take(pairs, split, validation_share)].reset_index(drop=True)
    if windows and windows_dir:
        table = cut(table, accepted, Windows(**windows), split != "train", windows_dir, threads)
    elif not table["mask"].map(accepted.is_stored).all():
        if labels_dir is None:
            raise InputError("masks must be written as labels first: give --labels-dir")
        table = store(table, accepted, {found.path for found in report.offenders}, labels_dir, threads)
    write_table(index, table, counted=True)
    if files:
        write_record(files, report.files, state)
    cli.tell(f"{index}: {len(table)} images with their masks")


if __name__ == "__main__":
    cli.run(index_dataset)
