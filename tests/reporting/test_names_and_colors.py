"""Names that aren't English, and class colours that look like those of ignored pixels."""

import logging

import numpy as np
import pytest

from freemask.data.label_space import LabelSpace
from freemask.reporting import fonts
from freemask.reporting.figures import new_figure


def space(*colors):
    names = tuple(str(number) for number in range(len(colors)))
    return LabelSpace(tuple(range(len(colors))), names, names, colors, 255)


@pytest.mark.parametrize("text", ["Gebäude", "дорога", "δρόμος", "route à péage"])
def test_letters_have_glyphs(text, caplog):
    font = fonts.font(14, text)
    boxes = {bytes(fonts.font(14, "a").getmask("\U0010fffe")), bytes(font.getmask("\U0010fffe"))}
    assert not any(bytes(font.getmask(letter)) in boxes for letter in text) and not caplog.records


def test_letters_that_no_font_has_are_warned_of(monkeypatch, caplog):
    monkeypatch.setattr(fonts, "further", lambda: ())
    with caplog.at_level(logging.WARNING):
        fonts.font(14, "\u6d77 harbour")
    assert "no installed font has all letters of '海 harbour'" in caplog.text


def test_dollars_in_names_are_no_formula():
    figure = new_figure(2, 2)
    axes = figure.subplots()
    axes.set_yticks([0, 1], ["$x$", "5$ to 6$"])
    assert not any(label.get_parse_math() for label in axes.get_yticklabels())


def test_ignored_and_filtered_pixels_look_like_no_class():
    assert space((9, 200, 9)).ignored_color == (0, 0, 0) and space((9, 200, 9)).filtered_color == (255, 255, 255)
    dark = space((0, 0, 3), (70, 64, 64), (250, 255, 255))
    assert dark.ignored_color == (128, 128, 128) and dark.filtered_color == (255, 0, 255)
    assert dark.colorize(np.array([[0, 255]], np.uint8)).tolist() == [[[0, 0, 3], [128, 128, 128]]]
