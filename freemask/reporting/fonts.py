"""Fonts of figures and sheets: DejaVu Sans, shipped with matplotlib, and installed ones for scripts that it lacks."""

import logging
from functools import cache

from matplotlib import font_manager
from matplotlib.ft2font import FT2Font
from PIL import ImageFont

BASE = "DejaVu Sans"
# Families with Chinese, Japanese and Korean letters, and many more scripts.
FURTHER = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK KR", "Source Han Sans SC", "WenQuanYi Zen Hei",
    "WenQuanYi Micro Hei", "Droid Sans Fallback", "IPAGothic", "NanumGothic", "Microsoft YaHei", "PingFang SC",
    "Arial Unicode MS", "Unifont",
)  # fmt: skip


@cache
def further() -> tuple[str, ...]:
    """The families of FURTHER that are installed."""
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return tuple(name for name in FURTHER if name in installed)


@cache
def _letters(family: str) -> tuple[str, frozenset[int]]:
    """Path of a family's font, and the letters that it has."""
    path = font_manager.findfont(family, fallback_to_default=False)
    return path, frozenset(FT2Font(path).get_charmap())


@cache
def font(size: int, text: str) -> ImageFont.FreeTypeFont:
    """The first font that has all letters of a text; DejaVu Sans if none has, with a warning."""
    for family in (BASE, *further()):
        path, letters = _letters(family)
        if all(ord(letter) in letters for letter in text):
            return ImageFont.truetype(path, size)
    logging.getLogger(__name__).warning(
        "no installed font has all letters of %r: boxes stand for the others; install one, e.g. fonts-noto-cjk", text
    )
    return ImageFont.truetype(_letters(BASE)[0], size)
