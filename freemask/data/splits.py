"""A validation split taken out of the training split, for data sets that come without one."""

import hashlib

from freemask.data.masks import Pairs
from freemask.errors import InputError


def split_of(mask_id: str, validation_share: float) -> str:
    """Split of an image, "val" for about this share of all ids. Depends on the id alone: more images move none."""
    number = int.from_bytes(hashlib.sha256(mask_id.encode()).digest()[:8]) / 2**64  # 0 to 1, evenly
    return "val" if number < validation_share else "train"


def take(pairs: Pairs, split: str, validation_share: float) -> list[int]:
    """Positions of the pairs that belong to a split.

    Args: pairs: all of the training folders; split: train or val; validation_share: 0 to 1.
    Raises: InputError if none is left for a split.
    """
    splits = [split_of(mask_id, validation_share) for mask_id, _, _ in pairs]
    for needed, other in (("train", "smaller"), ("val", "larger")):
        if needed not in splits:
            raise InputError(
                f"validation_share = {validation_share:g} of {len(splits)} images leaves none for {needed}; "
                f"give a {other} share, or folders of its own"
            )
    return [position for position, found in enumerate(splits) if found == split]
