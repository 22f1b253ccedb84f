"""A data set's file in config/datasets/: read, completed with defaults, and checked against itself."""

from pathlib import Path

import pandas as pd

from freemask.data.colors import hexadecimal, of_hexadecimal
from freemask.data.label_space import LabelSpace
from freemask.data.mask_format import MaskFormat
from freemask.errors import InputError, check_known
from freemask.workflow.places import ROOT, place
from freemask.workflow.settings import check_schema, expand, read_yaml

DATASETS = Path("config/datasets")


def read_dataset(name: str, config: dict, base: Path = Path()) -> dict:
    """Settings of one data set, with the run's `root` (data_roots), its `label_space` and its `mask_format`.

    Listed classes have words and labels.
    """
    path = place(DATASETS / f"{name}.yaml", base)
    check_dataset("datasets", name, base)
    facts = read_yaml(path)
    check_schema(facts, "dataset", path)
    _complete_splits(facts, path)
    facts["root"] = expand(config.get("data_roots", {}).get(name, facts["root"]), path)
    colors = facts.get("masks_are") == "colors"
    ignored = facts.get("ignored_label")
    if isinstance(facts["classes"], list):
        facts["classes"] = [_listed_class(row, number, colors, path) for number, row in enumerate(facts["classes"])]
        facts["label_space"] = LabelSpace.of_table(pd.DataFrame(facts["classes"]), ignored, path)
    else:
        facts["label_space"] = LabelSpace.of_class_table(place(facts["classes"], base), ignored)
    space = facts["label_space"]
    if len(space) < 2:
        raise InputError(
            f"{path}: one class, so there is nothing to tell apart; list the background as a class as well"
        )
    if "trainids" in facts["mask_suffix"].lower() and space.ids != tuple(range(len(space))):
        raise InputError(
            f"{path}: mask_suffix = {facts['mask_suffix']}: by their name these masks hold train ids "
            f"0..{len(space) - 1}, but the classes have the labels {space.ids[0]}..{space.ids[-1]} of the original "
            "masks; give those masks' suffix, or number the classes 0, 1, 2, ... in train-id order"
        )
    facts["mask_format"] = _color_masks(facts, path) if colors else MaskFormat.of_labels(space, ignored is not None)
    if "ignored_color" in facts and not colors:
        raise InputError(f"{path}: ignored_color is for masks_are: colors; masks of labels have an ignored_label")
    return facts


def _complete_splits(facts: dict, path: Path) -> None:
    """Give a data set without a validation split the folders of the training split, of which a share validates."""
    images, masks = facts["images"], facts["masks"]
    if images.keys() != masks.keys():
        only = sorted(images.keys() ^ masks.keys())[0]
        raise InputError(f"{path}: images and masks have different splits; give {only} for both, or for none")
    if ("val" in images) == ("validation_share" in facts):
        raise InputError(
            f"{path}: {'two validation splits' if 'val' in images else 'no validation split'}; give either folders, "
            "val in images and masks, or validation_share, the share of the training images that validates, e.g. 0.1"
        )
    windows = facts.get("windows", {"size": 1, "overlap": 0})
    if 2 * windows["overlap"] > windows["size"]:
        raise InputError(
            f"{path}: windows.overlap = {windows['overlap']} is more than half of windows.size = {windows['size']}; "
            "make it smaller"
        )
    for kind, folders in (("images", images), ("masks", masks)):
        complete = {"val": folders["train"], **folders}
        facts[kind] = {split: complete[split] for split in ("train", "val", "test") if split in complete}


def _listed_class(row: dict, number: int, colors: bool, path: Path) -> dict:
    """A class that a data set's file lists, with its defaults: word, and where masks are colors label."""
    if "label" not in row and not colors:
        raise InputError(f"{path}: classes.{number}: {row['name']} has no label; add it (raw label in the masks)")
    return {"word": row["name"], "label": number, **row}


def _color_masks(facts: dict, path: Path) -> MaskFormat:
    """The format of masks that are colors, each of one class or of ignored pixels."""
    space, ignored = facts["label_space"], facts.get("ignored_color")
    owners = [(color, name) for color, name in zip(space.colors, space.names, strict=True)]
    if ignored:
        owners.append((of_hexadecimal(ignored), "ignored_color"))
    for color, _ in owners:
        equal = [name for other, name in owners if other == color]
        if len(equal) > 1:
            raise InputError(
                f"{path}: masks_are: colors, but {' and '.join(equal)} are all {hexadecimal(color)}; give each its own"
            )
    return MaskFormat.of_colors(space, of_hexadecimal(ignored) if ignored else None)


def check_dataset(where: str, name: str, base: Path = Path()) -> None:
    """InputError, in `where`'s name, unless the data set has a file of settings."""
    known = sorted({path.stem for folder in (base, ROOT) for path in (folder / DATASETS).glob("*.yaml")})
    check_known(where, "data set", name, known, f" in {DATASETS}")
