"""Captions, token spans, the 75-token rule, extra parts: against CLIP's real vocabulary."""

import csv
import logging
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from freemask.errors import InputError
from freemask.generation.freestyle.loading import shipped_tokenizer
from freemask.generation.prompt import Captions, Part, make_prompt, present_labels, read_parts
from freemask.tables import read_table

REFERENCE = Path(__file__).parents[1] / "fixtures" / "reference"
BOS, EOS = 49406, 49407


def words_of(name: str) -> dict[int, str]:
    with open(REFERENCE / f"{name}_words.csv") as file:
        return {int(row["label"]): row["word"] for row in csv.DictReader(file)}


def caption(labels, words):
    """FreestyleNet's captions: the words of the classes present, ascending label order, joined by one space."""
    return " ".join(words[label] for label in sorted(labels))


def spans(labels, words, parts=()):
    """Label -> positions of its tokens; FREE ones between the start token and the padding under "free"."""
    prompt = make_prompt(labels, words, shipped_tokenizer(), parts)
    found = {label: np.flatnonzero(prompt.token_labels == label).tolist() for label in labels}
    return prompt, found


def test_vocabulary_is_clips():
    tokenizer = shipped_tokenizer()
    assert len(tokenizer) == 49408
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (BOS, EOS, EOS)
    # OpenAI's own tokenizer on its README's captions
    ids = tokenizer(["a diagram", "a dog", "a cat"]).input_ids
    assert ids == [[BOS, 320, 22697, EOS], [BOS, 320, 1929, EOS], [BOS, 320, 2368, EOS]]


@pytest.mark.parametrize(
    ("name", "counts", "three"),
    [
        ("ade20k", {1: 123, 2: 26, 3: 1}, ["skyscraper"]),
        ("cocostuff", {1: 147, 2: 33, 3: 2}, ["fire hydrant", "skyscraper"]),
    ],
)
def test_token_counts_of_all_words(name, counts, three):
    """The counts that the original has typed in: 26 words of two tokens and 1 of three; 33 and 2."""
    words = words_of(name)
    length = {
        label: len(shipped_tokenizer()(word, add_special_tokens=False).input_ids) for label, word in words.items()
    }
    assert Counter(length.values()) == counts
    assert sorted(words[label] for label, tokens in length.items() if tokens == 3) == three


@pytest.mark.parametrize(
    ("table", "name", "labels"),
    [
        ("ade20k", "ade20k", range(1, 151)),
        # COCO's eleven ids without pixels aren't classes
        ("cocostuff164k", "cocostuff", sorted({*range(182)} - {11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90})),
    ],
)
def test_captions_say_the_words_that_the_released_weights_know(table, name, labels):
    found = read_table(Path(__file__).parents[2] / f"config/datasets/{table}.tsv", ["label", "word"])
    assert found.label.tolist() == list(labels)
    assert found.word.tolist() == [words_of(name)[label] for label in labels]


def test_spans_by_hand():
    """Sky, then 'swimming pool' (2 tokens), then 'skyscraper' (3), in label order whatever order is given."""
    words = {9: "skyscraper", 3: "sky", 5: "swimming pool"}
    prompt, found = spans((9, 3, 5), words)
    assert prompt.text == caption((9, 3, 5), words) == "sky swimming pool skyscraper"
    assert found == {3: [1], 5: [2, 3], 9: [4, 5, 6]}
    assert prompt.token_labels[0] == -1 and (prompt.token_labels[7:] == -1).all()
    assert prompt.tokens[0] == BOS and (prompt.tokens[7:] == EOS).all() and EOS not in prompt.tokens[:7]
    assert prompt.cut == 0


@pytest.mark.parametrize("name", ["ade20k", "cocostuff"])
def test_word_by_word_equals_the_whole_caption(name):
    words = words_of(name)
    rng = np.random.default_rng(0)
    for _ in range(50):
        labels = tuple(rng.choice(sorted(words), size=rng.integers(1, 40), replace=False).tolist())
        whole = shipped_tokenizer()(
            caption(labels, words), padding="max_length", max_length=77, truncation=True
        ).input_ids
        assert make_prompt(labels, words, shipped_tokenizer()).tokens.tolist() == whole


@pytest.mark.parametrize(("count", "cut"), [(74, 0), (75, 0), (76, 1), (77, 2), (120, 45)])
def test_captions_over_75_tokens_lose_their_last_words(count, cut, caplog):
    words = dict.fromkeys(range(1, 151), "tree")
    prompt = make_prompt(range(1, count + 1), words, shipped_tokenizer())
    kept = min(count, 75)
    assert prompt.cut == cut
    assert prompt.token_labels.tolist() == [-1, *range(1, kept + 1), *[-1] * (76 - kept)]
    assert prompt.tokens[76] == EOS and len(prompt.tokens) == 77
    with caplog.at_level(logging.WARNING):
        mask = np.arange(count + 1, dtype=np.uint8)[None]
        assert Captions(shipped_tokenizer())(mask, words, 0, "ADE_train_7").cut == cut
    assert ("mask ADE_train_7: caption of" in caplog.text) == (cut > 0)


def test_parts_are_free_or_bound_to_a_class():
    """A bound part stands before its class's word and vanishes with the class; a free part follows all words."""
    words = {2: "building", 3: "sky"}
    parts = [Part("at night"), Part("red", 3), Part("old", 2)]
    prompt, found = spans((2, 3), words, parts)
    assert prompt.text == "old building red sky at night"
    assert found == {2: [1, 2], 3: [3, 4]}
    assert (prompt.token_labels[5:] == -1).all() and EOS not in prompt.tokens[5:7]
    without_sky, _ = spans((2,), words, parts)
    assert without_sky.text == "old building at night"


def test_free_parts_are_cut_before_class_words():
    words = dict.fromkeys(range(1, 75), "tree")
    prompt = make_prompt(range(1, 75), words, shipped_tokenizer(), [Part("at night"), Part("old", 1)])
    assert prompt.cut == 2  # 74 words and "old" fill the room
    assert prompt.token_labels[1:76].tolist() == [1, *range(1, 75)]


def test_no_class_gives_the_empty_caption():
    prompt = make_prompt((), {}, shipped_tokenizer())
    assert prompt.tokens.tolist() == [BOS, *[EOS] * 76] and (prompt.token_labels == -1).all() and prompt.text == ""


def test_present_labels_leave_the_ignored_one_out():
    assert present_labels(np.array([[0, 5], [255, 2]], np.uint8), ignored=0) == (2, 5, 255)
    assert present_labels(np.array([[0, 5], [255, 2]], np.uint8), ignored=255) == (0, 2, 5)
    assert present_labels(np.full((2, 2), 7, np.uint8), ignored=7) == ()


def test_parts_by_seed():
    parts_of = read_parts([{"text": "at night", "seeds": [43]}, {"text": "red", "label": 3}], {3: "sky"})
    assert parts_of(42) == (Part("red", 3),)
    assert parts_of(43) == (Part("at night"), Part("red", 3))
    assert read_parts([], {})(42) == ()


@pytest.mark.parametrize(
    "entry", [{"txt": "red"}, {"text": " "}, {"text": "red", "label": 9}, {"text": "red", "seeds": 42}, {"label": 3}]
)
def test_bad_parts_are_named(entry):
    with pytest.raises(InputError, match="prompt part {"):
        read_parts([entry], {3: "sky"})
