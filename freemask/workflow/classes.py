"""Parts of a data set's classes in files of their own, so that a job depends on those that it uses and on no others.

Written before jobs are planned, and only where they differ. A rule's output would start every job that reads it in the
same run, even with the same content.
"""

from pathlib import Path
from typing import Any

from freemask.data.label_space import LabelSpace
from freemask.errors import InputError
from freemask.files import read_json, write_json


def parts(space: LabelSpace) -> dict[str, Any]:
    """What jobs depend on, as JSON holds it: labels (in train-id order, and the ignored one), words, colors, names."""
    colors = [list(color) for color in space.colors]
    by_label = {"words": space.words, "colors": colors, "names": space.names}
    found = {part: [list(pair) for pair in zip(space.ids, values, strict=True)] for part, values in by_label.items()}
    return {"labels": {"classes": list(space.ids), "ignored": space.ignored}, **found}


def notice(space: LabelSpace, folder: Path) -> None:
    """Bring <folder>/<part>.json up to date; a file that holds the right values stays."""
    for part, value in parts(space).items():
        path = folder / f"{part}.json"
        try:
            same = path.exists() and read_json(path) == value
        except InputError:
            same = False
        if not same:
            write_json(path, value)
