"""Where files lie: the workflow's own in its checkout, the user's in the working directory."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]  # of the checkout


def place(path: str | Path, base: Path = Path()) -> Path:
    """The file or folder that the configuration names: the user's, else the checkout's of the same name.

    Args: path: e.g. config/models.yaml; base: folder that the user's paths are relative to.
    Returns: the path below `base` where nothing of that name exists, for messages.
    """
    mine = base / path
    return mine if mine.exists() or not (ROOT / path).exists() else ROOT / path
