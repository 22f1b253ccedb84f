"""Write a data set's label space as one file; see `write_label_space`."""

from pathlib import Path

from freemask import cli
from freemask.errors import InputError


def write_label_space(
    *, class_table: Path | None = None, classes: cli.Json = None, ignored_label: cli.Whole, label_space: Path
) -> None:
    """Write a data set's label space as one JSON file: classes with label, name, word and color; the ignored label.

    Args:
        class_table: Table of label, name, word, color (#rrggbb).
        classes: Instead of a table: JSON list of objects with label, name, word, color.
        ignored_label: Raw label that means "ignored".
        label_space: Output.
    """
    import pandas as pd

    from freemask.data.label_space import LabelSpace

    if (class_table is None) == (classes is None):
        raise InputError("classes are missing or given twice: give either --class-table or --classes")
    if class_table:
        space = LabelSpace.of_class_table(class_table, ignored_label)
    else:
        space = LabelSpace.of_table(pd.DataFrame(classes), ignored_label, "--classes")
    space.write(label_space)


if __name__ == "__main__":
    cli.run(write_label_space)
