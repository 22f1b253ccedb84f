"""Captions made of class words, and which of the 77 tokens belongs to which class.

Source: FreestyleNet (CVPR 2023), section 3.2; its code has the token counts typed in, here the tokenizer tells them.
"""

import gzip
import importlib.util
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from transformers import CLIPTokenizer

from freemask.errors import InputError

TOKENS = 77  # CLIP's context length: start token, up to 75 of the caption, end token(s)
FREE = -1  # label of a token that every pixel sees
logger = logging.getLogger(__name__)


@lru_cache(maxsize=1)
def clip_tokenizer() -> CLIPTokenizer:
    """CLIP's tokenizer, built offline from the byte-pair merges that mmsegmentation ships (49,408 tokens)."""
    lines = gzip.decompress(_vocabulary().read_bytes()).decode().split("\n")
    merges = lines[1 : 49152 - 256 - 2 + 1]  # as CLIP's own simple_tokenizer cuts them
    characters = list(_bytes_to_unicode().values())
    words = characters + [character + "</w>" for character in characters]
    words += ["".join(merge.split()) for merge in merges] + ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: number for number, word in enumerate(words)}
    return CLIPTokenizer(vocab=vocabulary, merges=[tuple(merge.split()) for merge in merges], model_max_length=TOKENS)


def _vocabulary() -> Path:
    """The file of merges, found without importing mmsegmentation (which takes seconds)."""
    package = importlib.util.find_spec("mmseg")
    if package is None or package.origin is None:
        raise InputError(
            "mmsegmentation, which ships CLIP's vocabulary, isn't installed; see requirements-openmmlab.txt"
        )
    path = Path(package.origin).parent / "utils" / "bpe_simple_vocab_16e6.txt.gz"
    if not path.is_file():
        raise InputError(f"{path}: no such file; CLIP's vocabulary is part of mmsegmentation, install it again")
    return path


def _bytes_to_unicode() -> dict[int, str]:
    """The printable stand-in for each byte, in the order of GPT-2's vocabulary."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in kept]
    return {byte: chr(byte) for byte in kept} | {byte: chr(256 + n) for n, byte in enumerate(others)}


@dataclass(frozen=True)
class Part:
    """Extra text in the prompt, off by default.

    text: e.g. "at night"; label: the raw label whose pixels alone see it (the part stands right before that class's
    word, and is left out of masks without the class), or None: visible to every pixel, after all class words.
    """

    text: str
    label: int | None = None


def read_parts(entries: Sequence[Mapping], words: Mapping[int, str]) -> Callable[[int], tuple[Part, ...]]:
    """A function from an image's seed to its extra parts.

    Args: entries: each with text and, if wanted, label (whose pixels alone see it) and seeds (the only ones it is for).
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

    text: the caption, uncut; tokens: (77,) int64 CLIP ids, start, caption, then end tokens up to 77;
    token_labels: (77,) int64, the raw label that a token belongs to, -1 where a token is visible to every pixel;
    cut: how many tokens of the caption had no room.
    """

    text: str
    tokens: np.ndarray
    token_labels: np.ndarray
    cut: int = 0


def caption(labels: Sequence[int], words: Mapping[int, str]) -> str:
    """The words of the classes present, ascending label order, joined by one space (FreestyleNet's captions)."""
    return " ".join(words[label] for label in sorted(labels))


def make_prompt(
    labels: Sequence[int], words: Mapping[int, str], tokenizer: CLIPTokenizer, parts: Sequence[Part] = ()
) -> Prompt:
    """Tokenize the caption of a mask word by word, so that each token's class is known.

    Tokens beyond 75 are cut off at the end: free parts go first, then the classes of the highest labels lose their
    words, and the pixels of those see the start and end tokens only. (The reference crashes from 77 tokens on.)
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


def warn_if_cut(prompt: Prompt, mask_id: str) -> None:
    """Warn, naming the mask, where a caption didn't fit."""
    if prompt.cut:
        used, last = TOKENS - 2, prompt.token_labels[TOKENS - 2]
        logger.warning(
            "mask %s: caption of %d tokens, the first %d are used (up to label %d): %s",
            mask_id, used + prompt.cut, used, last, prompt.text,
        )  # fmt: skip


def present_labels(mask: np.ndarray, ignored: int) -> tuple[int, ...]:
    """Raw labels present in a mask, ascending, without the ignored one."""
    counts = np.bincount(mask.reshape(-1), minlength=256)
    counts[ignored] = 0
    return tuple(np.flatnonzero(counts).tolist())
