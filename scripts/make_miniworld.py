"""Write the miniature world as files; see `make_miniworld`."""

from pathlib import Path

from freemask import cli


def make_miniworld(*, root: Path, world: cli.Json, manifest: Path) -> None:
    """Write images/{training,validation}/*.jpg and annotations/{training,validation}/*.png of the miniature world.

    Also writes a table of the files: split, name, image_sha256, mask_sha256.

    Args:
        root: Output: folder of the data set.
        world: JSON object with training and validation (numbers of images), image_size [pixels] and world_seed.
        manifest: Output: table of the files.
    """
    import pandas as pd

    from freemask.data.miniworld.dataset import write_split
    from freemask.files import sha256
    from freemask.tables import write_table

    rows = []
    for split in ("training", "validation"):
        names = write_split(root, split, world[split], world["world_seed"], world["image_size"])
        for name in names:
            image = root / "images" / split / f"{name}.jpg"
            mask = root / "annotations" / split / f"{name}.png"
            rows.append({"split": split, "name": name, "image_sha256": sha256(image), "mask_sha256": sha256(mask)})
    write_table(manifest, pd.DataFrame(rows))


if __name__ == "__main__":
    cli.run(make_miniworld)
