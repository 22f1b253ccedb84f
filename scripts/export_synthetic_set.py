"""A synthetic set as files of its own; see `export_synthetic_set`."""

from pathlib import Path

from freemask import cli


def export_synthetic_set(
    *,
    synthetic: Path,
    class_shares: Path,
    label_space: Path,
    title: str,
    settings: cli.Json = None,
    metadata: Path,
    card: Path,
    classes: Path,
    threads: cli.Positive = 1,
) -> None:
    """Write a synthetic set as a folder that other programs read: its images, and the masks as they are trained with.

    The folder, that of the metadata, has ADE20K's layout (images/training, annotations/training). Hugging Face's
    datasets load it by its metadata and card, FiftyOne as an ImageSegmentationDirectory. Images are hard links where
    the file system has them. A run that was interrupted is resumed by the same command.

    Args:
        synthetic: Table of the synthetic set.
        class_shares: Table of the filtered share of each class.
        label_space: Label space of the data set.
        title: Name of the data set.
        settings: How the images were made, for the card (JSON).
        metadata: Output, metadata.jsonl: a line for each image.
        card: Output, README.md beside it.
        classes: Output: table of label, name, word, color.
        threads: Number of processes.
    """
    import pandas as pd

    from freemask.data.label_space import LabelSpace
    from freemask.files import write_atomic
    from freemask.filtering import export
    from freemask.tables import read_table, write_table

    space = LabelSpace.read(label_space)
    folder = metadata.parent
    rows = export.export_pairs(synthetic, space, folder, threads)
    shares = read_table(class_shares, ["label", "name", "pixels", "filtered", "share"])
    write_table(classes, pd.DataFrame(space.to_json()["classes"]))
    write_atomic(card, export.card(title, rows, shares, space, settings or {}, folder).encode())
    write_atomic(metadata, export.metadata(rows))
    cli.tell(f"{folder}: {len(rows)} images with their masks")


if __name__ == "__main__":
    cli.run(export_synthetic_set)
