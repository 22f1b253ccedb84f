"""A data set's classes as files: label_space.json, and parts of it, so that a job depends on those that it uses.

They are written before jobs are planned, and only if they differ. A rule that makes them would start every job that
reads them, even if their content stayed the same.
"""

from pathlib import Path
from typing import Any

from freemask.data.label_space import LabelSpace
from freemask.files import json_bytes, write_changed


def notice(space: LabelSpace, folder: Path) -> None:
    """Bring label_space.json and classes/<part>.json of a data set up to date; files that are right stay.

    Parts: labels (in train-id order, and the ignored one); words, colors and names by label.
    """
    found: dict[str, Any] = {"classes/labels": {"classes": space.ids, "ignored": space.ignored}}
    for part in ("words", "colors", "names"):
        found[f"classes/{part}"] = list(zip(space.ids, getattr(space, part), strict=True))
    for name, value in (found | {"label_space": space.to_json()}).items():
        write_changed(folder / f"{name}.json", json_bytes(value))
