"""Draw a sheet of real images, masks, filtered masks and synthetic images of the same masks (PNG).

Filtered regions are white, ignored ones black. The masks are chosen so that the rare classes are seen; the same set
gives the same sheet, byte for byte.
"""

import argparse
from pathlib import Path

from freemask import cli


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--train", type=Path, required=True, help="synthetic set: image, mask, mask_id, seed, filtered")
    parser.add_argument("--masks", type=Path, required=True, help="table of mask_id, mask, counts (resize_masks)")
    parser.add_argument("--index", type=Path, required=True, help="table of the training split (index_dataset)")
    parser.add_argument("--classes", type=Path, required=True, help="class table: label, name, word, color")
    parser.add_argument("--ignored-label", type=int, required=True, help="raw label that means 'ignored'")
    parser.add_argument("--rows", type=int, default=8, help="how many masks (default: 8)")
    parser.add_argument("--columns", type=int, default=4, help="how many synthetic images of each (default: 4)")
    parser.add_argument("--title", default="Masks and the images synthesized from them", help="line above the sheet")
    parser.add_argument("--figure", type=Path, required=True, help="output: .png path")
    return parser


def main(arguments: argparse.Namespace) -> None:
    """Choose the masks, read their pictures, draw."""
    import numpy as np

    from freemask import files, images, tables
    from freemask.data.label_space import LabelSpace
    from freemask.data.masks import read_masks
    from freemask.errors import InputError
    from freemask.reporting import contact_sheet

    if arguments.rows < 1 or arguments.columns < 1:
        raise InputError(f"--rows {arguments.rows} --columns {arguments.columns}: want 1 or more of each")
    space = LabelSpace.read(arguments.classes, arguments.ignored_label)
    masks, counts = read_masks(arguments.masks)
    train = tables.read_table(arguments.train, ["image", "mask", "mask_id", "seed", "filtered"])
    images = train.groupby("mask_id").size().reindex(masks.mask_id, fill_value=0).to_numpy()
    enough = images >= min(arguments.columns, images.max())
    chosen = contact_sheet.choose_masks(counts, enough, arguments.rows)
    real = tables.read_table(arguments.index, ["mask_id", "image"]).set_index("mask_id").image
    rows = []
    for position in chosen:
        mask = masks.iloc[position]
        own = train[train.mask_id == mask.mask_id].sort_values("seed").head(arguments.columns)
        names = [space.names[space.ids.index(label)] for label in counts.label[counts.row == position]]
        rows.append(read_row(mask, real[mask.mask_id], own, names, space, arguments.columns))
    labels = sorted(np.unique(counts.label[np.isin(counts.row, chosen)]).tolist())
    sheet = contact_sheet.compose(rows, labels, space, arguments.title)
    files.write_atomic(arguments.figure, images.png_bytes(sheet))


def read_row(mask, real: str, own, names: list[str], space, columns: int):
    """One mask's pictures; `own`: its rows of the synthetic set, ascending seeds."""
    from freemask import images
    from freemask.reporting import contact_sheet

    labels = images.read_mask(mask["mask"])
    first = own.iloc[0]
    synthetic = [images.read_image(path) for path in own.image]
    return contact_sheet.Row(
        title=f"{mask.mask_id}: {', '.join(names)}; the filter takes {first.filtered:.1%} of no. 1",
        real=images.read_image(real),
        mask=space.colorize(labels),
        filtered=contact_sheet.paint_filtered(labels, images.read_mask(first["mask"]), space),
        synthetic=(*synthetic, *[None] * (columns - len(synthetic))),
    )


if __name__ == "__main__":
    cli.run(main, options().parse_args())
