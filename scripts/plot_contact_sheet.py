"""Draw masks beside the images synthesized from them; see `plot_contact_sheet`."""

from pathlib import Path

import numpy as np
import pandas as pd

from freemask import cli
from freemask.data.label_space import LabelSpace
from freemask.data.masks import read_masks
from freemask.files import write_atomic
from freemask.filtering.sets import mask_filters, read_filtered
from freemask.images import png_bytes, read_image, read_mask
from freemask.reporting.choice import choose_masks
from freemask.reporting.pictures import colorize_filtered
from freemask.reporting.sheets import Row, draw_sheet, legend, tile, tile_size
from freemask.tables import read_table


def plot_contact_sheet(
    *,
    synthetic: Path,
    masks: Path,
    index: Path,
    label_space: Path,
    rows: cli.Positive = 8,
    columns: cli.Positive = 4,
    title: str,
    figure: Path,
) -> None:
    """One mask per row: the real image, its mask, the mask after the filter for synthetic image no. 1, and synthetic
    images that differ in their seed alone. Filtered pixels lie beyond the tolerance margin and are ignored in training;
    ignored ones are those that the data set itself ignores; the legend has the color of both. Masks are chosen to show
    the rare classes, those with fewest pixels first; real images are squashed to a square, as the masks were for
    synthesis.

    Args:
        synthetic: Synthetic set: image, mask, margin, stamp, filter, alpha, mask_id, seed, filtered.
        masks: Table of mask_id, mask, counts (resize_masks).
        index: Table of the training split (index_dataset).
        label_space: The data set's label space.
        rows: Number of masks.
        columns: Number of synthetic images of each mask.
        title: Name of the data set.
        figure: Output, .png.
    """
    space = LabelSpace.read(label_space)
    table, counts = read_masks(masks)
    train = read_table(synthetic, ["image", "mask", "mask_id", "seed", "filtered"])
    images = train.groupby("mask_id").size().reindex(table.mask_id, fill_value=0).to_numpy()
    columns = min(columns, int(images.max()))  # no column stays empty
    chosen = choose_masks(counts, images >= columns, rows)
    real = read_table(index, ["mask_id", "image"]).set_index("mask_id").image
    drawn = []
    for position in chosen:
        mask = table.iloc[position]
        own = train[train.mask_id == mask.mask_id].sort_values("seed").head(columns)
        names = [name for _, name in legend(counts.label[counts.row == position], space)]
        caption = f"{mask.mask_id}: {', '.join(names)}; the filter takes {own.filtered.iloc[0]:.1%} of no. 1"
        drawn.append(Row(tiles(mask["mask"], real[mask.mask_id], own, space), caption))
    headings = ["real image", "its mask", "filtered mask of no. 1"]
    headings += [f"synthetic no. {number + 1}" for number in range(columns)]
    labels = np.unique(counts.label[np.isin(counts.row, chosen)])
    entries = [*legend(labels, space), (space.filtered_color, "filtered"), (space.ignored_color, "ignored")]
    sheet = draw_sheet(drawn, headings, entries, f"{title}: masks and the images synthesized from them")
    write_atomic(figure, png_bytes(sheet))


def tiles(mask: str, real: str, own: pd.DataFrame, label_space: LabelSpace) -> list[np.ndarray]:
    """The tiles of one row: real image, mask, filtered mask, synthetic images.

    Args:
        mask: Path of the square mask.
        real: Path of the real image.
        own: The mask's rows of the synthetic set, ascending seeds.
        label_space: The data set's label space.
    """
    labels, filtered = read_mask(mask), read_filtered(mask, mask_filters(own.head(1))[0], label_space)
    size = tile_size(*labels.shape)
    painted = [label_space.colorize(labels), colorize_filtered(labels, filtered, label_space)]
    synthetic = [tile(read_image(path), size, smooth=True) for path in own.image]
    return [tile(read_image(real), size, smooth=True), *(tile(one, size, smooth=False) for one in painted), *synthetic]


if __name__ == "__main__":
    cli.run(plot_contact_sheet)
