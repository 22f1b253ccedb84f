"""Draw masks beside the images synthesized from them; see `plot_contact_sheet`."""

from pathlib import Path

import numpy as np

from freemask import cli
from freemask.data.label_space import LabelSpace
from freemask.files import write_atomic
from freemask.filtering.sets import mask_filters, read_filtered
from freemask.images import png_bytes, read_image, read_mask
from freemask.reporting.choice import Shown, choose_images
from freemask.reporting.pictures import colorize_filtered
from freemask.reporting.sheets import Row, draw_sheet, legend, tile, tile_size


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
    chosen = choose_images(masks, index, synthetic, rows, columns)
    drawn = []
    for shown in chosen:
        names = [name for _, name in legend(shown.labels, space)]
        taken = shown.synthetic.filtered.iloc[0]
        caption = f"{shown.mask_id}: {', '.join(names)}; the filter takes {taken:.1%} of no. 1"
        drawn.append(Row(tiles(shown, space), caption))
    headings = ["real image", "its mask", "filtered mask of no. 1"]
    headings += [f"synthetic no. {number + 1}" for number in range(len(chosen[0].synthetic))]
    labels = np.unique(np.concatenate([shown.labels for shown in chosen]))
    entries = [*legend(labels, space), (space.filtered_color, "filtered"), (space.ignored_color, "ignored")]
    sheet = draw_sheet(drawn, headings, entries, f"{title}: masks and the images synthesized from them")
    write_atomic(figure, png_bytes(sheet))


def tiles(shown: Shown, label_space: LabelSpace) -> list[np.ndarray]:
    """The tiles of one row: real image, mask, filtered mask, synthetic images."""
    labels = read_mask(shown.mask)
    filtered = read_filtered(shown.mask, mask_filters(shown.synthetic.head(1))[0], label_space)
    size = tile_size(*labels.shape)
    masks = [label_space.colorize(labels), colorize_filtered(labels, filtered, label_space)]
    real, *synthetic = (tile(read_image(path), size, smooth=True) for path in [shown.real, *shown.synthetic.image])
    return [real, *(tile(one, size, smooth=False) for one in masks), *synthetic]


if __name__ == "__main__":
    cli.run(plot_contact_sheet)
