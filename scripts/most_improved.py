"""Rank the classes by their gain from synthetic images; see `most_improved`."""

from pathlib import Path

from freemask import cli
from freemask.errors import InputError


def most_improved(
    *,
    real: list[Path],
    joint: list[Path],
    train_seeds: list[int],
    label_space: Path | None = None,
    reported: Path | None = None,
    dataset: str | None = None,
    most_improved: Path,
) -> None:
    """Rank the classes by their gain from synthetic images: IoU [percent] of two trainings, mean over train seeds.

    Args:
        real: per_class_iou.tsv of each train seed, trained on real images.
        joint: per_class_iou.tsv of each train seed, trained on real and synthetic images.
        train_seeds: The seeds, in the files' order.
        label_space: The data set's label space, for the names of classes (default: those of the files).
        reported: YAML file of the authors' numbers.
        dataset: Id of the data set, to find the authors' numbers.
        most_improved: Output, largest gain first: label, name, real, joint, gain, seeds (in how many both have an IoU),
            gain_seed_<s>, and reported_gain if the authors report any [points].
    """
    from freemask.data.label_space import LabelSpace
    from freemask.reporting import results
    from freemask.segmentation.outputs import read_ious
    from freemask.tables import write_table

    if not (len(real) == len(joint) == len(train_seeds) == len(set(train_seeds))):
        raise InputError(f"--train-seeds {train_seeds}: want one --real and one --joint table for each seed")
    before, after = (dict(zip(train_seeds, map(read_ious, paths), strict=True)) for paths in (real, joint))
    table = results.most_improved(before, after)
    if label_space:
        table = LabelSpace.read(label_space).named(table)
    if reported and (gains := results.read_reported(reported, f"most_improved_{dataset}")):
        table["reported_gain"] = table.name.map({row["class"]: row["gain"] for row in gains})
    write_table(most_improved, table)


if __name__ == "__main__":
    cli.run(most_improved)
