"""One page that shows a data set as it is; see `look_at_dataset`."""

from pathlib import Path
from typing import Literal

from freemask import cli


def look_at_dataset(
    *,
    title: str,
    splits: cli.Json,
    image_suffix: str,
    mask_suffix: str,
    ignored_suffixes: list[str] | None = None,
    ids_from: Literal["name", "path"] = "name",
    validation_share: float | None = None,
    mask_format: cli.Json,
    label_space: Path,
    pictures: cli.Positive = 24,
    cache_dir: Path,
    page: Path,
    threads: cli.Positive = 1,
) -> None:
    """Write one HTML page about a data set: the check's findings, class frequencies, sizes, images with their masks.

    Files that can't be used are listed on the page, and don't stop it. Suspicious pairs: images or masks that stand
    more than once, masks that fit their images better mirrored or turned, masks of one class or nearly without labels.

    Args:
        title: Name of the data set.
        splits: Folders of images and masks of each split, the training split first (JSON).
        image_suffix: End of the images' file names.
        mask_suffix: End of the masks' file names.
        ignored_suffixes: Ends of file names that are neither.
        ids_from: Whether a mask_id is the file's name or its path below the folder.
        validation_share: Share of the training images that is the validation split; default: it has its own.
        mask_format: What masks may hold (JSON).
        label_space: The data set's label space.
        pictures: Pairs of each split to show; a quarter as many more have the lowest fit.
        cache_dir: Folder of the check's caches, <split>.cache.
        page: Output, .html.
        threads: Number of processes.
    """
    from freemask.data.check import Offender, check_split
    from freemask.data.label_space import LabelSpace
    from freemask.data.mask_format import MaskFormat
    from freemask.data.masks import match_files
    from freemask.data.splits import take
    from freemask.files import write_atomic
    from freemask.reporting.dataset_page import Split, findings, render

    space, accepted = LabelSpace.read(label_space), MaskFormat.of_json(mask_format)
    read = []
    for name, (images, masks) in splits.items():
        found = match_files(Path(images), Path(masks), image_suffix, mask_suffix, ignored_suffixes or [], ids_from)
        pairs, unpaired = found
        if validation_share is not None and name != "test":
            pairs = [pairs[position] for position in take(pairs, name, validation_share)]
            unpaired = unpaired if name == "train" else []
        paths = [pair[1:] for pair in pairs]
        report = check_split(paths, accepted, cache_dir / f"{name}.cache", threads, f"read {name}")
        split = Split(name, pairs, [Offender(*one) for one in unpaired], report, accepted)
        split.measure_fits(threads)
        read.append(split)
    write_atomic(page, render(read, space, title, pictures).encode())
    for what, where in findings(read, space):
        cli.tell(f"{what}: {where}")
    cli.tell(f"{page}: {sum(len(split.pairs) for split in read)} pairs")


if __name__ == "__main__":
    cli.run(look_at_dataset)
