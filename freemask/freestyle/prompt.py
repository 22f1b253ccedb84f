"""Captions made of class words, and which of the 77 tokens belongs to which class."""

import gzip
import importlib.util
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from transformers import CLIPTokenizer

TOKENS = 77  # CLIP's context length: start token, up to 75 of the caption, end token(s)
ROOM = TOKENS - 2
logger = logging.getLogger(__name__)


@lru_cache(maxsize=1)
def clip_tokenizer() -> CLIPTokenizer:
    """CLIP's tokenizer, built offline from the byte-pair merges that mmsegmentation ships (49,408 tokens)."""
    package = importlib.util.find_spec("mmseg")
    path = Path(package.origin).parent / "utils" / "bpe_simple_vocab_16e6.txt.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")
    merges = lines[1 : 49152 - 256 - 2 + 1]  # as CLIP's own simple_tokenizer cuts them
    characters = list(_bytes_to_unicode().values())
    words = characters + [character + "</w>" for character in characters]
    words += ["".join(merge.split()) for merge in merges] + ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: number for number, word in enumerate(words)}
    return CLIPTokenizer(vocab=vocabulary, merges=[tuple(merge.split()) for merge in merges], model_max_length=TOKENS)


def _bytes_to_unicode() -> dict[int, str]:
    """The printable stand-in for each byte, in the order of GPT-2's vocabulary."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in kept]
    return {byte: chr(byte) for byte in kept} | {byte: chr(256 + n) for n, byte in enumerate(others)}


@dataclass(frozen=True)
class Prompt:
    """A tokenized caption.

    text: the caption; tokens: (77,) int64 CLIP ids, start, caption, then end tokens up to 77;
    token_labels: (77,) int64, the raw label that a token belongs to, -1 where a token is visible to every pixel.
    """

    text: str
    tokens: np.ndarray
    token_labels: np.ndarray


def caption(labels: tuple[int, ...], words: Mapping[int, str]) -> str:
    """The words of the classes present, ascending label order, joined by one space (FreestyleNet's captions)."""
    return " ".join(words[label] for label in sorted(labels))


@lru_cache(maxsize=4096)
def word_tokens(word: str, tokenizer: CLIPTokenizer) -> tuple[int, ...]:
    """CLIP ids of a class's word (which may be several words), without start and end."""
    return tuple(tokenizer(word, add_special_tokens=False).input_ids)


def make_prompt(
    labels: tuple[int, ...], words: Mapping[int, str], tokenizer: CLIPTokenizer, mask_id: str = "mask"
) -> Prompt:
    """Tokenize the caption of a mask class by class, so that each token's class is known.

    Words beyond 75 tokens are cut off, with a warning naming the mask: the classes of the highest labels then lose
    their words, their pixels see the start and end tokens only. (The reference crashes from 77 tokens on.)
    """
    tokens, owners = [], []
    for label in sorted(labels):
        ids = word_tokens(words[label], tokenizer)
        tokens += ids
        owners += [label] * len(ids)
    if len(tokens) > ROOM:
        logger.warning("%s: caption of %d tokens, only the first %d are used", mask_id, len(tokens), ROOM)
    tokens, owners = tokens[:ROOM], owners[:ROOM]
    padded = np.full(TOKENS, tokenizer.eos_token_id, np.int64)
    padded[0] = tokenizer.bos_token_id
    padded[1 : 1 + len(tokens)] = tokens
    token_labels = np.full(TOKENS, -1, np.int64)
    token_labels[1 : 1 + len(owners)] = owners
    return Prompt(caption(labels, words), padded, token_labels)


def present_labels(mask: np.ndarray, ignored: int) -> tuple[int, ...]:
    """Raw labels present in a mask, ascending, without the ignored one."""
    counts = np.bincount(mask.reshape(-1), minlength=256)
    counts[ignored] = 0
    return tuple(np.flatnonzero(counts).tolist())
