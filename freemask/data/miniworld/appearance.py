"""Surfaces of the miniature world: a few modes per class, drawn with Zipf weights.

A mode is a texture family with two colours. Each instance of a mode has its own colour jitter and noise. A few real
images don't show every mode, so synthetic images can help a segmentor.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image

BANK = 48  # noise fields per scale
FIELD = 256  # side of a noise field; surfaces are cut from it at random places


@dataclass(frozen=True)
class Mode:
    """A texture family and the two colours (r, g, b in 0..255) that it runs between."""

    family: str
    dark: tuple[int, int, int]
    light: tuple[int, int, int]


# Raw label -> modes, most common first. Classes share colours (grey road, grey sea, grey building, ...), so that only
# texture and place tell them apart.
MODES: dict[int, tuple[Mode, ...]] = {
    2: (  # building
        Mode("windows", (120, 90, 75), (196, 168, 140)),
        Mode("bricks", (126, 62, 48), (176, 100, 80)),
        Mode("windows", (70, 74, 84), (214, 210, 200)),
        Mode("planks", (92, 108, 120), (150, 168, 178)),
        Mode("bricks", (196, 176, 120), (226, 210, 160)),
        Mode("windows", (60, 90, 76), (170, 200, 180)),
        Mode("planks", (150, 60, 60), (200, 110, 100)),
    ),
    3: (  # sky
        Mode("clouds", (96, 150, 214), (232, 240, 250)),
        Mode("fade", (70, 130, 210), (190, 220, 245)),
        Mode("clouds", (140, 146, 156), (206, 210, 214)),
        Mode("fade", (224, 140, 90), (250, 214, 160)),
        Mode("fade", (40, 44, 80), (110, 90, 120)),
        Mode("clouds", (150, 110, 140), (240, 190, 170)),
    ),
    5: (  # tree
        Mode("leaves", (24, 66, 28), (84, 142, 60)),
        Mode("leaves", (52, 80, 24), (142, 164, 72)),
        Mode("leaves", (120, 60, 20), (212, 130, 46)),
        Mode("leaves", (16, 52, 46), (60, 108, 92)),
        Mode("leaves", (150, 100, 120), (236, 190, 206)),
        Mode("leaves", (110, 30, 34), (176, 72, 60)),
    ),
    7: (  # road
        Mode("grain", (72, 72, 76), (106, 106, 110)),
        Mode("lanes", (60, 62, 66), (220, 216, 200)),
        Mode("cobbles", (92, 84, 78), (146, 136, 126)),
        Mode("grain", (128, 110, 92), (160, 142, 120)),
        Mode("lanes", (94, 90, 92), (226, 196, 90)),
        Mode("cobbles", (66, 74, 90), (120, 130, 148)),
    ),
    10: (  # grass
        Mode("blades", (52, 96, 32), (112, 156, 62)),
        Mode("blades", (92, 104, 40), (168, 172, 84)),
        Mode("grain", (40, 110, 56), (76, 148, 84)),
        Mode("mown", (60, 116, 44), (104, 164, 70)),
        Mode("blades", (134, 116, 60), (196, 178, 108)),
        Mode("blotches", (70, 100, 50), (200, 190, 90)),
    ),
    13: (  # person
        Mode("plain", (40, 50, 90), (80, 96, 150)),
        Mode("plain", (150, 36, 40), (206, 80, 70)),
        Mode("plain", (30, 30, 32), (70, 70, 74)),
        Mode("plain", (200, 190, 170), (240, 236, 226)),
        Mode("plain", (190, 150, 30), (240, 210, 80)),
    ),
    21: (  # car
        Mode("plain", (150, 24, 26), (216, 60, 54)),
        Mode("plain", (190, 192, 196), (236, 238, 240)),
        Mode("plain", (26, 28, 34), (74, 78, 86)),
        Mode("plain", (26, 64, 140), (70, 120, 200)),
        Mode("plain", (200, 160, 20), (246, 214, 70)),
        Mode("plain", (20, 96, 60), (60, 150, 100)),
    ),
    27: (  # sea
        Mode("waves", (22, 74, 120), (84, 146, 186)),
        Mode("waves", (30, 104, 112), (120, 192, 186)),
        Mode("waves", (78, 92, 102), (146, 158, 166)),
        Mode("glitter", (50, 70, 110), (230, 190, 150)),
        Mode("waves", (18, 40, 66), (60, 88, 118)),
        Mode("glitter", (40, 120, 150), (220, 240, 240)),
    ),
    47: (  # sand
        Mode("grain", (196, 172, 122), (226, 206, 160)),
        Mode("dunes", (176, 146, 98), (222, 196, 146)),
        Mode("grain", (120, 108, 96), (156, 144, 130)),
        Mode("dunes", (206, 196, 180), (240, 234, 222)),
        Mode("blotches", (150, 112, 80), (206, 170, 130)),
    ),
    49: (  # skyscraper
        Mode("curtain", (52, 84, 118), (150, 190, 220)),
        Mode("curtain", (86, 90, 98), (176, 184, 192)),
        Mode("windows", (150, 136, 116), (60, 66, 80)),
        Mode("curtain", (40, 40, 50), (110, 112, 130)),
        Mode("curtain", (120, 92, 60), (220, 180, 120)),
    ),
    104: (  # ship
        Mode("plain", (140, 30, 30), (200, 66, 56)),
        Mode("plain", (28, 30, 40), (84, 90, 104)),
        Mode("plain", (206, 208, 210), (246, 246, 246)),
        Mode("plain", (24, 70, 130), (70, 130, 190)),
        Mode("plain", (196, 110, 30), (240, 160, 70)),
    ),
    110: (  # swimming pool
        Mode("ripples", (40, 164, 200), (170, 230, 240)),
        Mode("ripples", (70, 190, 190), (200, 246, 236)),
        Mode("ripples", (30, 100, 160), (110, 180, 220)),
        Mode("tiles", (60, 170, 210), (180, 230, 244)),
    ),
    0: (  # things without a label: poles, signs, boxes
        Mode("plain", (60, 60, 60), (110, 110, 110)),
        Mode("plain", (160, 60, 30), (220, 120, 60)),
        Mode("plain", (180, 180, 170), (230, 230, 226)),
    ),
}


@cache
def noise_bank(cell: int) -> np.ndarray:
    """(BANK, FIELD, FIELD) float32 fields in 0..1, smooth over about `cell` pixels, the same in every process."""
    rng = np.random.default_rng([7, cell])
    fields = []
    for _ in range(BANK):
        coarse = rng.random((FIELD // cell, FIELD // cell), dtype=np.float32)
        coarse = np.pad(coarse, 1, mode="wrap")
        size = FIELD + 2 * cell
        field = np.asarray(Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC))
        field = field[cell:-cell, cell:-cell]
        fields.append((field - field.min()) / (np.ptp(field) + 1e-6))
    return np.stack(fields).astype(np.float32)


def smooth_noise(rng: np.random.Generator, side: int, cell: int) -> np.ndarray:
    """A (side, side) cut of a random noise field; side <= FIELD."""
    field = noise_bank(cell)[rng.integers(BANK)]
    y, x = rng.integers(FIELD, size=2)
    return np.roll(field, (-y, -x), axis=(0, 1))[:side, :side]


def pick_mode(rng: np.random.Generator, label: int) -> Mode:
    """Draw a mode of a class, the k-th with weight 1 / k."""
    modes = MODES[label]
    weights = 1 / np.arange(1, len(modes) + 1)
    return modes[rng.choice(len(modes), p=weights / weights.sum())]


def surface(rng: np.random.Generator, mode: Mode, side: int) -> np.ndarray:
    """Draw one instance of a mode over the whole canvas: (side, side, 3) float32 in 0..255."""
    blend = _texture(rng, mode.family, side)[..., None]
    jitter = rng.normal(0, 12, 3) + rng.normal(0, 10)
    dark, light = (np.array(color, np.float32) + jitter for color in (mode.dark, mode.light))
    return (dark + blend * (light - dark)).astype(np.float32)


@dataclass
class _Canvas:
    """Ingredients of a texture: fields (side, side) float32; lengths are in pixels of a 128-pixel canvas."""

    rng: np.random.Generator
    side: int
    x: np.ndarray
    y: np.ndarray
    fine: np.ndarray
    middle: np.ndarray
    coarse: np.ndarray
    phase: float
    pitch: float


def _texture(rng: np.random.Generator, family: str, side: int) -> np.ndarray:
    """(side, side) float32 in about 0..1."""
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) * (128 / side)
    fine, middle, coarse = (smooth_noise(rng, side, cell) for cell in (2, 8, 32))
    phase, pitch = rng.uniform(0, 8), rng.uniform(0.8, 1.25)
    return TEXTURES[family](_Canvas(rng, side, x, y, fine, middle, coarse, phase, pitch))


def _joints(c: _Canvas, height: float, width: float, shift: float, joint: float) -> np.ndarray:
    """Where a wall of bricks or cobbles has its joints; every other row is shifted."""
    row = np.floor(c.y / (height * c.pitch))
    return ((c.y % (height * c.pitch)) < joint) | (((c.x + shift * (row % 2)) % (width * c.pitch)) < joint)


def _lines(c: _Canvas, width: float, height: float, line: float) -> np.ndarray:
    """Where a grid of rectangles has its lines."""
    return ((c.x + c.phase) % (width * c.pitch) < line) | ((c.y + c.phase) % (height * c.pitch) < line)


def _dashes(c: _Canvas) -> np.ndarray:
    """Where a road has its line."""
    return (np.abs(c.x - 64 - 0.4 * (c.y - 64) * c.rng.uniform(-1, 1)) < 1.6) & ((c.y + c.phase) % 12 < 7)


def _panes(c: _Canvas) -> np.ndarray:
    """Where a house has its windows."""
    return ((c.x + c.phase) % (9 * c.pitch) > 4.5) & ((c.y + c.phase) % (10 * c.pitch) > 5)


TEXTURES: dict[str, Callable[[_Canvas], np.ndarray]] = {
    "plain": lambda c: 0.3 + 0.5 * c.coarse + 0.2 * c.fine,
    "grain": lambda c: 0.6 * c.fine + 0.4 * c.coarse,
    "blotches": lambda c: (c.middle > 0.55) * 0.8 + 0.2 * c.fine,
    "fade": lambda c: np.clip(c.y / 90 + 0.15 * c.coarse, 0, 1),
    "clouds": lambda c: np.clip(2.2 * (0.7 * c.coarse + 0.3 * c.middle) - 0.75, 0, 1),
    "leaves": lambda c: np.clip(0.55 * c.middle + 0.65 * c.fine - 0.1, 0, 1),
    "blades": lambda c: 0.5 * c.fine + 0.3 * smooth_noise(c.rng, c.side, 4) + 0.2 * c.coarse,
    "mown": lambda c: 0.6 * (np.sin((c.x + 0.6 * c.y) / (3.0 * c.pitch) + c.phase) > 0) + 0.4 * c.fine,
    "waves": lambda c: np.clip(
        0.5 + 0.35 * np.sin(c.y / (1.3 * c.pitch) + 5 * c.coarse + 3 * c.middle) + 0.3 * (c.fine - 0.5), 0, 1
    ),
    "glitter": lambda c: np.clip(1.6 * c.fine * c.middle + 0.25 * np.sin(c.y / (1.1 * c.pitch) + 4 * c.middle), 0, 1),
    "ripples": lambda c: np.clip(1.2 * np.abs(np.sin(6 * c.middle + 4 * c.coarse + c.x / 12)) - 0.1, 0, 1),
    "tiles": lambda c: np.where(_lines(c, 6, 5, 1.5), 1.0, 0.3 * c.middle),
    "dunes": lambda c: np.clip(0.5 + 0.4 * np.sin(c.y / (3.2 * c.pitch) + 7 * c.coarse) + 0.2 * (c.fine - 0.5), 0, 1),
    "cobbles": lambda c: np.where(_joints(c, 4.5, 6.5, 3, 1.2), 0.0, 0.45 + 0.55 * c.middle),
    "lanes": lambda c: np.where(_dashes(c), 1.0, 0.15 * c.fine + 0.1 * c.coarse),
    "bricks": lambda c: np.where(_joints(c, 3.6, 8, 4, 1.0), 1.0, 0.5 * c.fine),
    "planks": lambda c: np.where((c.x + c.phase) % (5 * c.pitch) < 1.2, 0.0, 0.5 + 0.5 * c.fine),
    "windows": lambda c: np.where(_panes(c), 0.05 + 0.2 * c.middle, 0.8 + 0.2 * c.fine),
    "curtain": lambda c: np.where(_lines(c, 4.2, 6, 1.2), 0.1, 0.45 + 0.55 * c.coarse),
}
