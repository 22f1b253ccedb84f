"""Raw data that changed since they were indexed, noticed before jobs are planned."""

from pathlib import Path

from freemask.data.changes import Changes, compare
from freemask.data.masks import raw_files


def notice(facts: dict, split: str, state: Path, watch: bool = True) -> Changes | None:
    """Compare a split's raw data with the record of their index, <split>.files.json beside the state.

    Args: facts: settings of the data set; split: train, val or test; state: the state of its raw data, made if there is
        none and rewritten if it changed; watch: whether to compare.
    Returns: What changed; None if nothing did, or nothing is compared: no index yet, or no folders.
    Raises: InputError for a folder that can't be listed, or a state that can't be written.
    """
    record = state.with_name(f"{split}.files.json")
    folders = [Path(facts["root"]) / facts[kind][split] for kind in ("images", "masks")]
    paths, suffixes = [], (facts["image_suffix"], facts["mask_suffix"])
    compared = watch and record.exists() and all(folder.is_dir() for folder in folders)
    if compared:
        paths = raw_files(*folders, *suffixes, facts.get("ignored_suffixes", []))
    changes = compare(record if compared else None, paths, state)
    return changes if str(changes) else None
