"""Resize a data set's masks to squares; see `resize_masks`."""

from functools import partial
from pathlib import Path

from freemask import cli


def resize_masks(
    *,
    index: Path,
    label_space: Path,
    mask_size: cli.Positive,
    masks_dir: Path,
    masks: Path,
    threads: cli.Positive = 1,
) -> None:
    """Resize masks to squares by nearest neighbour, in raw labels, and count their labels [pixels].

    Writes one PNG per mask and a table of mask_id, mask (path), counts ("label:pixels ...", labels ascending, without
    the ignored one) and mask_sha256. A label outside the class table is an error. Masks whose few labelled pixels the
    square doesn't show are left out, with a warning. A PNG that already holds the right bytes isn't written again.

    Args:
        index: Table of the training split from index_dataset.
        label_space: The data set's label space (JSON).
        mask_size: Side of the square masks [pixels].
        masks_dir: Output: folder of <subfolder>/<mask_id>.png.
        masks: Output: table of mask_id, mask, counts, mask_sha256.
        threads: Number of processes.
    """
    from freemask.data.label_space import LabelSpace
    from freemask.data.masks import mask_path, resize_file
    from freemask.errors import InputError
    from freemask.parallel import LISTED, map_files, some
    from freemask.tables import read_table, write_table

    table = read_table(index, ["mask_id", "mask"])[["mask_id", "mask"]]
    targets = [str(mask_path(masks_dir, mask_id)) for mask_id in table["mask_id"]]
    resize = partial(resize_file, label_space=LabelSpace.read(label_space), side=mask_size)
    jobs = list(zip(table["mask"], targets, strict=True))
    made = list(map_files(resize, jobs, threads, "resize masks", "mask"))
    problems = [problem for _, _, problem in made if problem]
    if problems:
        raise InputError("\n  ".join([f"{len(problems)} of {len(made)} masks can't be used:", *problems[:LISTED]]))
    table["mask"] = targets
    table["counts"] = [counts for counts, _, _ in made]
    table["mask_sha256"] = [digest for _, digest, _ in made]
    empty = table.counts == ""
    if empty.any():
        cli.tell(
            f"warning: {masks}: {empty.sum()} of {len(table)} masks have no labelled pixel at {mask_size}x{mask_size}, "
            f"so no image is made of them: {some(table.mask_id[empty].tolist())}"
        )
    if empty.all():
        raise InputError(f"{masks}: no mask is left; give a larger mask_size, or label more pixels")
    write_table(masks, table[~empty], counted=True)


if __name__ == "__main__":
    cli.run(resize_masks)
