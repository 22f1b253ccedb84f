"""Captions made of class words, and which of the 77 tokens belongs to which class.

Source: FreestyleNet (CVPR 2023), section 3.2. Its code lists the numbers of tokens; here the tokenizer gives them.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from freemask.errors import InputError

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

TOKENS = 77  # CLIP's context length: start token, up to 75 of the caption, end token(s)
FREE = -1  # label of a token that every pixel sees
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Part:
    """Extra text in the prompt.

    text: For example "at night".
    label: Raw label of the class whose pixels alone see the text. The part stands before that class's word, and is left
        out of masks without the class. None: the part follows all class words, visible to every pixel.
    """

    text: str
    label: int | None = None


def read_parts(entries: Sequence[Mapping], words: Mapping[int, str]) -> Callable[[int], tuple[Part, ...]]:
    """Make a function from an image's seed to the extra parts of its prompt.

    Args: entries: each has text and may have label (whose pixels alone see it) and seeds (the only ones it is for);
        words: of the raw labels.
    Raises: InputError naming the entry for an unknown key, an empty text or a label without a word.
    """
    for entry in entries:
        unknown = set(entry) - {"text", "label", "seeds"}
        if unknown or not str(entry.get("text", "")).strip() or not isinstance(entry.get("seeds", []), list):
            raise InputError(f"prompt part {dict(entry)}: want text, and if need be label and a list of seeds")
        if entry.get("label") is not None and entry["label"] not in words:
            raise InputError(f"prompt part {dict(entry)}: label {entry['label']} isn't in the class table")

    def of_seed(seed: int) -> tuple[Part, ...]:
        chosen = [entry for entry in entries if seed in entry.get("seeds", [seed])]
        return tuple(Part(entry["text"], entry.get("label")) for entry in chosen)

    return of_seed


@dataclass(frozen=True)
class Prompt:
    """A tokenized caption.

    text: The whole caption.
    tokens: (77,) int64 CLIP ids: start token, caption, end tokens up to 77.
    token_labels: (77,) int64 raw label that each token belongs to; -1 for a token visible to every pixel.
    cut: How many tokens of the caption had no room.
    """

    text: str
    tokens: np.ndarray
    token_labels: np.ndarray
    cut: int = 0


def make_prompt(
    labels: Sequence[int], words: Mapping[int, str], tokenizer: "CLIPTokenizer", parts: Sequence[Part] = ()
) -> Prompt:
    """Tokenize the caption of a mask word by word, so that each token's class is known.

    Tokens beyond 75 are cut at the end: free parts first, then the words of the highest labels, whose pixels see the
    start and end tokens only. (The reference crashes from 77 tokens on.)
    """
    pieces: list[tuple[str, int]] = []
    for label in sorted(labels):
        pieces += [(part.text, label) for part in parts if part.label == label]
        pieces.append((words[label], label))
    pieces += [(part.text, FREE) for part in parts if part.label is None]
    spans = [tokenizer(text, add_special_tokens=False).input_ids for text, _ in pieces]
    tokens = [token for span in spans for token in span]
    owners = [label for (_, label), span in zip(pieces, spans, strict=True) for _ in span]
    room = TOKENS - 2
    padded = np.full(TOKENS, tokenizer.eos_token_id, np.int64)
    padded[0] = tokenizer.bos_token_id
    padded[1 : 1 + len(tokens[:room])] = tokens[:room]
    token_labels = np.full(TOKENS, FREE, np.int64)
    token_labels[1 : 1 + len(owners[:room])] = owners[:room]
    return Prompt(" ".join(text for text, _ in pieces), padded, token_labels, cut=max(0, len(tokens) - room))


class Captions:
    """Captions of masks, cached per set of classes. Warns once of each mask whose caption is cut."""

    def __init__(self, tokenizer: "CLIPTokenizer"):
        self.tokenizer = tokenizer
        self._made: dict[tuple, Prompt] = {}
        self._warned: set[str] = set()

    def __call__(
        self, mask: np.ndarray, words: Mapping[int, str], ignored: int, mask_id: str, parts: Sequence[Part] = ()
    ) -> Prompt:
        """The caption of a mask, (H, W) uint8 raw labels."""
        present = present_labels(mask, ignored)
        key = (tuple((label, words[label]) for label in present), tuple(parts))
        if key not in self._made:
            self._made[key] = make_prompt(present, words, self.tokenizer, parts)
        prompt, used = self._made[key], TOKENS - 2
        if prompt.cut and mask_id not in self._warned:
            self._warned.add(mask_id)
            said = "mask %s: caption of %d tokens, the first %d are used (up to label %d): %s"
            logger.warning(said, mask_id, used + prompt.cut, used, prompt.token_labels[used], prompt.text)
        return prompt


def present_labels(mask: np.ndarray, ignored: int) -> tuple[int, ...]:
    """Raw labels present in a mask, ascending, without the ignored one."""
    counts = np.bincount(mask.reshape(-1), minlength=256)
    counts[ignored] = 0
    return tuple(np.flatnonzero(counts).tolist())
