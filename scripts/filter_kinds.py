"""What a synthetic set's filter takes, by kinds of pixels; see `filter_kinds`."""

from pathlib import Path

from freemask import cli


def filter_kinds(
    *, synthetic: Path, label_space: Path, faulty: bool = False, pictures: cli.Positive = 6, table: Path, sheet: Path
) -> None:
    """Count what a synthetic set's filter takes of failures, small regions, boundaries and the rest, and show it.

    Args:
        synthetic: Synthetic set (synthetic_set).
        label_space: Label space of the data set.
        faulty: The images are of freemask.generation.faulty, so which regions failed is known.
        pictures: Images on the sheet.
        table: Output: table of kind, pixels, filtered, share, of_filtered.
        sheet: Output, PNG: image, mask, and what the filter takes, in colors of its kinds.
    """
    import numpy as np

    from freemask.data.label_space import LabelSpace
    from freemask.files import write_atomic
    from freemask.filtering.kinds import KINDS, count_kinds, kinds_of, shares_of_kinds
    from freemask.filtering.sets import mask_filters, read_filtered
    from freemask.generation.failures import painted
    from freemask.images import png_bytes, read_image, read_mask
    from freemask.reporting.sheets import Row, draw_sheet, tile, tile_size
    from freemask.segmentation.outputs import spread
    from freemask.tables import read_table, write_table

    colors = np.array([(213, 94, 0), (0, 115, 178), (222, 143, 5), (148, 148, 148), (255, 255, 255)], np.uint8)
    space, rows = LabelSpace.read(label_space), read_table(synthetic, ["image", "mask", "mask_id", "seed"])
    shown, drawn = set(spread(len(rows), min(pictures, len(rows)), synthetic)), []
    counts = np.zeros((2, len(KINDS)), np.int64)
    filters = mask_filters(rows)
    for place, row in enumerate(cli.progress(rows.itertuples(), f"kinds, {synthetic.parent.name}", "image", len(rows))):
        mask = read_mask(row.mask)
        changed = read_filtered(row.mask, filters[place], space) != mask
        kinds = kinds_of(mask, painted(mask, row.mask_id, row.seed, space) if faulty else None, space.ignored)
        counts += count_kinds(kinds, changed)
        if place in shown:
            taken = np.where(changed & (kinds >= 0), kinds, len(KINDS))
            tiles = [read_image(row.image), space.colorize(mask), colors[taken]]
            drawn.append(Row([tile(one, tile_size(*mask.shape), smooth=False) for one in tiles]))
    found = shares_of_kinds(counts)
    write_table(table, found)
    legend = [(tuple(map(int, color)), kind) for color, kind in zip(colors, KINDS, strict=False)]
    title = f"What the filter of {synthetic.parent.name} takes"
    write_atomic(sheet, png_bytes(draw_sheet(drawn, ["image", "mask", "taken"], legend, title)))
    cli.tell(f"{table}: {found.filtered.sum() / found.pixels.sum():.1%} of the pixels are filtered")


if __name__ == "__main__":
    cli.run(filter_kinds)
