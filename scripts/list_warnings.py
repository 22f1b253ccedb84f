"""List what makes a data set's results doubtful; see `list_warnings`."""

from pathlib import Path

from freemask import cli


def list_warnings(
    *,
    class_loss: Path,
    scorer_ious: Path,
    class_shares: list[Path] | None = None,
    set_names: list[str] | None = None,
    duplicates: list[Path] | None = None,
    label_space: Path,
    dataset: str,
    table: Path,
    html: Path,
) -> None:
    """List filters that take most pixels, classes that the scorer doesn't know, colors alike, and images in two splits.

    Args:
        class_loss: Table made by gather_class_loss.
        scorer_ious: per_class_iou.tsv of the scorer.
        class_shares: Tables of each synthetic set by class, made by synthetic_set.
        set_names: Name of each synthetic set.
        duplicates: <split>.duplicates.tsv of check_dataset: images that stand in two splits, or twice in one.
        label_space: The data set's label space.
        dataset: Id of the data set.
        table: Output: of (what is doubtful), warning.
        html: Output, the same as HTML.
    """
    import pandas as pd

    from freemask.data.check import duplicate_warnings
    from freemask.data.label_space import LabelSpace
    from freemask.files import write_atomic
    from freemask.filtering.shards import filter_warnings
    from freemask.reporting import warnings
    from freemask.reporting.figures import by_name
    from freemask.reporting.layout import html_table, page
    from freemask.segmentation.outputs import read_ious
    from freemask.selection.class_loss import class_loss_warnings
    from freemask.tables import read_table, write_table

    space = LabelSpace.read(label_space)
    losses = space.named(read_table(class_loss, ["label", "name", "pixels", "class_loss"]))
    found = {"scorer": class_loss_warnings(losses) + warnings.of_scorer(space.named(read_ious(scorer_ious)))}
    for name, path in by_name(set_names or [], class_shares or [], "--class-shares").items():
        found[name] = filter_warnings(space.named(read_table(path, ["label", "name", "pixels", "filtered"])))
    found["class table"] = warnings.of_colors(space)
    for path in duplicates or []:
        split, equal = path.name.removesuffix(".duplicates.tsv"), read_table(path, ["image", "equal_to", "split"])
        found[f"{split} images"] = duplicate_warnings(equal)
    each = [(what, warning) for what, own in found.items() for warning in own]
    rows = pd.DataFrame(each, columns=["of", "warning"])
    write_table(table, rows)
    body = html_table(rows) if len(rows) else "<p>Nothing to warn of.</p>"
    write_atomic(html, page(f"{dataset}: warnings", body).encode())
    for row in rows.itertuples(index=False):
        cli.tell(f"warning: {row[0]}: {row.warning}")


if __name__ == "__main__":
    cli.run(list_warnings)
