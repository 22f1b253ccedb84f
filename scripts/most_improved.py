"""Rank the classes by their gain from synthetic images; see `most_improved`."""

from pathlib import Path

from freemask import cli
from freemask.errors import InputError


def most_improved(
    *,
    real: list[Path],
    joint: list[Path],
    train_seeds: list[int],
    control: list[Path] | None = None,
    control_seeds: list[int] | None = None,
    label_space: Path | None = None,
    reported: Path | None = None,
    dataset: str | None = None,
    most_improved: Path,
) -> None:
    """Rank the classes by their gain from synthetic images: IoU [percent], mean over train seeds, gains [points].

    Args:
        real: per_class_iou.tsv of each train seed, trained on real images.
        joint: per_class_iou.tsv of each train seed, trained on real and synthetic images.
        train_seeds: The seeds, in the files' order.
        control: per_class_iou.tsv of each of the control's train seeds, trained on real images for twice the schedule.
        control_seeds: Its seeds, in the files' order.
        label_space: The data set's label space, for the names of classes (default: those of the files).
        reported: YAML file of the authors' numbers.
        dataset: Id of the data set, to find the authors' numbers.
        most_improved: Output, largest gain over the control first (without one: over real). label, name, real, joint,
            gain, seeds (in how many both have an IoU), gain_seed_<s>, the ends gain_low and gain_high of its 95 %
            interval, gain_interval (over what); with a control also control and gain_over_control with the same
            endings; images (validation images that show the class), reported_gain if the authors report any.
    """
    from freemask.data.label_space import LabelSpace
    from freemask.files import own_id
    from freemask.reporting import class_gains
    from freemask.reporting.intervals import SameImages
    from freemask.reporting.reported import read_all_reported
    from freemask.tables import write_table

    if not (len(real) == len(joint) == len(train_seeds) == len(set(train_seeds))):
        raise InputError(f"--train-seeds {train_seeds}: want one --real and one --joint table for each seed")
    if len(control or []) != len(set(control_seeds or [])):
        raise InputError(f"--control-seeds {control_seeds}: want one --control table for each seed")
    images = SameImages()
    before, after = (
        class_gains.read_classes(dict(zip(train_seeds, paths, strict=True)), images) for paths in (real, joint)
    )
    other = class_gains.read_classes(dict(zip(control_seeds or [], control, strict=True)), images) if control else None
    table = class_gains.most_improved(before, after, other)
    if label_space:
        table = LabelSpace.read(label_space).named(table)
    if reported and (gains := read_all_reported(reported).get(f"most_improved_{own_id(dataset)}")):
        table["reported_gain"] = table.name.map({row["class"]: row["gain"] for row in gains})
    write_table(most_improved, table)


if __name__ == "__main__":
    cli.run(most_improved)
