"""A data set's classes as files: label_space.json, and parts of it, so that a job depends on those that it uses.

They are written before jobs are planned, and only if they differ. A rule that makes them would start every job that
reads them, even if their content stayed the same.
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
    """Bring label_space.json and classes/<part>.json of a data set up to date; files that are right stay."""
    for part, value in parts(space).items():
        path = folder / "classes" / f"{part}.json"
        if _read(path) != value:
            write_json(path, value)
    whole = folder / "label_space.json"
    if _read(whole) != space.to_json():
        space.write(whole)


def _read(path: Path) -> Any:
    """A JSON file; None for one that is missing or broken."""
    try:
        return read_json(path)
    except InputError:
        return None
