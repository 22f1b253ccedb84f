"""Check every image and mask of a split; see `check_dataset`."""

from pathlib import Path

from freemask import cli

SHOWN = 10  # classes without a pixel that are named


def check_dataset(
    *,
    index: Path,
    label_space: Path,
    mask_format: cli.Json = None,
    frequencies: Path,
    duplicates: Path | None = None,
    sizes: Path | None = None,
    training_index: Path | None = None,
    validation_index: Path | None = None,
    pictures: cli.NotNegative = 0,
    offenders: Path,
    cache: Path,
    threads: cli.Positive = 1,
) -> None:
    """Open every image and mask of a split once; write a table of class frequencies: label, name, pixels, images.

    Files that can't be used are listed in one table (path, what, remedy), and the script ends with code 1: empty,
    truncated or damaged files, masks that aren't 8-bit labels (or colours), labels or colours outside the class table,
    an image and a mask of different sizes, masks without a labelled pixel. Files that haven't changed since the last
    check aren't read again. Equal images are warned of, since public data sets hold some.

    Args:
        index: Table of the split from index_dataset.
        label_space: The data set's label space (JSON).
        mask_format: What masks may hold (JSON), see freemask.data.mask_format; default: the labels of the label space.
        frequencies: Output: table of label, name, pixels, images.
        duplicates: Output: table of images with the same bytes, image, equal_to, split (same, train or val; with
            " (mask)" behind it: other bytes, and masks with the same bytes and several labels).
        sizes: Output: table of the images' sizes, width, height, images, example (path).
        training_index: Index of the training split, if this is another one: its images are compared as well.
        validation_index: The same of the validation split, for a test split.
        pictures: Number of images of this split whose predictions evaluations show.
        offenders: Output, only if there are offenders: table of path, what, remedy.
        cache: File that remembers what was found in each file.
        threads: Number of processes.
    """
    import pandas as pd

    from freemask.data import check
    from freemask.data.label_space import LabelSpace
    from freemask.data.mask_format import MaskFormat
    from freemask.data.sizes import write_sizes
    from freemask.errors import InputError
    from freemask.tables import read_table, write_table

    offenders.unlink(missing_ok=True)
    space = LabelSpace.read(label_space)
    accepted = MaskFormat.of_json(mask_format) if mask_format else MaskFormat.of_labels(space)
    table = read_table(index, ["image", "mask", *(["image_sha256", "mask_sha256"] if duplicates else [])])
    if len(table) < pictures:
        raise InputError(f"{index}: {len(table)} image(s), but evaluation.pictures is {pictures}; lower it")
    masks = table["source"] if "source" in table else table["mask"]  # as the data set has them
    report = check.check_split(
        list(zip(table["image"], masks, strict=True)), accepted, cache, threads, f"check {index.stem}"
    )
    if report.offenders:
        check.refuse(offenders, report)
    ids = list(space.ids)
    columns = {"label": ids, "name": space.names, "pixels": report.pixels[ids], "images": report.images[ids]}
    write_table(frequencies, pd.DataFrame(columns))
    if sizes:
        write_sizes(sizes, report.sizes)
    if duplicates:
        key = ["image", "image_sha256", "mask_sha256"]
        paths = {"train": training_index, "val": validation_index}
        others = {split: read_table(path, key) for split, path in paths.items() if path}
        equal = check.duplicates(table, report, others)
        write_table(duplicates, equal)
        for warning in check.duplicate_warnings(equal):
            cli.tell(f"warning: {index}: {warning}; all are in {duplicates}")
    unseen = [name for name, images in zip(space.names, report.images[ids], strict=True) if not images]
    note = f"; no pixel of {len(unseen)} class(es): {', '.join(unseen[:SHOWN])}" if unseen else ""
    read = f"{report.read} files read" if report.read else "all files read before"
    cli.tell(f"{index}: {len(report.files)} pairs are good, {read}{note}")


if __name__ == "__main__":
    cli.run(check_dataset)
