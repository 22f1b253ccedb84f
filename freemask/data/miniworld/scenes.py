"""Scenes of the miniature world: layouts of streets, parks and coasts, drawn back to front.

Scenes are drawn at twice the side and averaged down, so edges are as soft as a camera's.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from freemask.data.miniworld.appearance import pick_mode, smooth_noise, surface

BUILDING, SKY, TREE, ROAD, GRASS, PERSON, CAR, SEA, SAND, SKYSCRAPER, SHIP, POOL = (
    2, 3, 5, 7, 10, 13, 21, 27, 47, 49, 104, 110,
)  # fmt: skip
UNLABELLED = 0
OBJECTS = frozenset({TREE, PERSON, CAR, SKYSCRAPER, SHIP, POOL})  # classes that may be missing in a faulty image
Points = Sequence[tuple[float, float]]


@dataclass
class Part:
    """One region: its class, its outline(s) on a unit canvas, and a fixed colour where a class has one."""

    label: int
    shapes: list[tuple[str, Points]]
    color: tuple[int, int, int] | None = None
    of_previous: bool = False  # a detail (wheel, window) of the object before it: missing together


class Scene:
    """A list of parts, back to front, filled by the layout functions."""

    def __init__(self, rng: np.random.Generator):
        self.rng = rng
        self.parts: list[Part] = []

    def add(self, label: int, *shapes: tuple[str, Points], color: tuple[int, int, int] | None = None) -> None:
        """Add an object or a region; shapes are ('polygon' | 'ellipse' | 'rectangle', points in 0..1)."""
        self.parts.append(Part(label, list(shapes), color))

    def detail(self, label: int, *shapes: tuple[str, Points], color: tuple[int, int, int]) -> None:
        """Add a fixed-colour detail of the object just added."""
        self.parts.append(Part(label, list(shapes), color, of_previous=True))

    def uneven(self, level: float, roughness: float) -> list[tuple[float, float]]:
        """A line from left to right near y = level, closed below the canvas."""
        xs = np.linspace(0, 1, 9)
        ys = level + roughness * self.rng.normal(0, 1, 9)
        return [*zip(xs, ys, strict=True), (1, 1.1), (0, 1.1)]


def street(scene: Scene) -> None:
    """Sky, a row of houses, perhaps skyscrapers behind, pavement trees, a road with cars and people."""
    rng = scene.rng
    horizon = rng.uniform(0.45, 0.65)
    if rng.random() < 0.25:
        for _ in range(rng.integers(1, 3)):
            skyscraper(scene, rng.uniform(0.05, 0.85), horizon)
    x = rng.uniform(-0.2, 0.05)
    while x < 1:
        width, gap = rng.uniform(0.15, 0.4), rng.choice([0, 0, 0.03, 0.15])
        building(scene, x, width, horizon + 0.05, rng.uniform(0.15, 0.42))
        x += width + gap
    if rng.random() < 0.5:
        scene.add(GRASS, ("polygon", scene.uneven(horizon, 0.01)))
    slant, top = rng.uniform(-0.15, 0.15), horizon + rng.uniform(0.02, 0.16)
    scene.add(ROAD, ("polygon", [(0, top + slant), (1, top - slant), (1, 1.1), (0, 1.1)]))
    for _ in range(rng.integers(0, 4)):
        tree(scene, rng.uniform(0, 1), horizon + rng.uniform(0.02, 0.1), rng.uniform(0.15, 0.35))
    for _ in range(rng.choice([0, 1, 1, 1, 2])):
        car(scene, rng.uniform(0.05, 0.8), rng.uniform(max(top, 0.6), 0.93), rng.uniform(0.14, 0.26))
    people(scene, horizon + 0.1, rng.choice([0, 0, 1, 2]))


def park(scene: Scene) -> None:
    """Sky, a belt of trees or houses, grass, perhaps a path, a swimming pool, people."""
    rng = scene.rng
    horizon = rng.uniform(0.35, 0.6)
    if rng.random() < 0.3:
        building(scene, rng.uniform(0, 0.6), rng.uniform(0.2, 0.4), horizon + 0.04, rng.uniform(0.12, 0.25))
    if rng.random() < 0.08:
        skyscraper(scene, rng.uniform(0.1, 0.8), horizon)
    if rng.random() < 0.6:
        scene.add(TREE, ("polygon", scene.uneven(horizon - rng.uniform(0.05, 0.18), 0.03)))
    scene.add(GRASS, ("polygon", scene.uneven(horizon, 0.015)))
    if rng.random() < 0.35:
        foot, head = rng.uniform(0.1, 0.9), rng.uniform(0.2, 0.8)
        path = [(head, horizon + 0.03), (head + 0.05, horizon + 0.03), (foot + 0.2, 1.05), (foot - 0.2, 1.05)]
        scene.add(int(rng.choice([ROAD, SAND])), ("polygon", path))
    if rng.random() < 0.2:
        pool(scene, rng.uniform(0.25, 0.75), rng.uniform(0.72, 0.88))
    for _ in range(rng.integers(0, 5)):
        tree(scene, rng.uniform(0, 1), rng.uniform(horizon + 0.02, 0.85), rng.uniform(0.2, 0.5))
    people(scene, horizon + 0.12, rng.choice([0, 1, 1, 2]))


def coast(scene: Scene) -> None:
    """Sky, sea with perhaps a ship, a beach or a shore of grass, perhaps a skyline, people."""
    rng = scene.rng
    horizon = rng.uniform(0.3, 0.55)
    if rng.random() < 0.2:
        for _ in range(rng.integers(1, 4)):
            skyscraper(scene, rng.uniform(0, 0.9), horizon + 0.02, small=True)
    scene.add(SEA, ("rectangle", [(0, horizon), (1, 1)]))
    if rng.random() < 0.3:
        ship(scene, rng.uniform(0.2, 0.8), horizon + rng.uniform(0.02, 0.12), rng.uniform(0.2, 0.42))
    shore = rng.uniform(horizon + 0.15, 1.0)
    tilt = rng.uniform(-0.2, 0.2)
    line = [(0, shore + tilt), (0.5, shore + rng.normal(0, 0.03)), (1, shore - tilt), (1, 1.5), (0, 1.5)]
    scene.add(int(rng.choice([SAND, SAND, SAND, GRASS])), ("polygon", line))
    if rng.random() < 0.3:
        tree(scene, rng.choice([0.1, 0.9]), min(shore + 0.2, 0.98), rng.uniform(0.3, 0.5))
    if rng.random() < 0.12:
        pool(scene, rng.uniform(0.3, 0.7), min(shore + 0.2, 0.9))
    people(scene, min(shore, 0.85), rng.choice([0, 0, 1, 2]))


LAYOUTS = (street, park, coast)


def building(scene: Scene, x: float, width: float, foot: float, height: float) -> None:
    """A house front, half of them with a roof of another colour."""
    top = foot - height
    scene.add(BUILDING, ("rectangle", [(x, top), (x + width, foot + 0.05)]))
    if scene.rng.random() < 0.5:
        roof = [(x - 0.02, top), (x + width / 2, top - 0.1), (x + width + 0.02, top)]
        scene.detail(BUILDING, ("polygon", roof), color=tuple(scene.rng.integers(50, 150, 3)))


def skyscraper(scene: Scene, x: float, foot: float, small: bool = False) -> None:
    """A tower of glass, with or without a spire."""
    rng = scene.rng
    width, top = (0.07, foot - rng.uniform(0.12, 0.25)) if small else (rng.uniform(0.1, 0.17), rng.uniform(0.02, 0.15))
    shapes = [("rectangle", [(x, top), (x + width, foot + 0.05)])]
    if rng.random() < 0.4:
        shapes.append(("polygon", [(x, top), (x + width / 2, top - 0.1), (x + width, top)]))
    scene.add(SKYSCRAPER, *shapes)


def tree(scene: Scene, x: float, foot: float, height: float) -> None:
    """A trunk and a crown: round, tall or conical."""
    rng = scene.rng
    half, top, middle = height * rng.uniform(0.28, 0.42), foot - height, foot - 0.35 * height
    if rng.random() < 0.3:
        crown = [("polygon", [(x - half, middle + 0.05), (x, top), (x + half, middle + 0.05)])]
    else:
        shift = half * 0.4
        crown = [
            ("ellipse", [(x - half, top), (x + half, middle)]),
            ("ellipse", [(x - half - shift, top + 0.2 * height), (x + half * 0.6, middle + 0.03)]),
            ("ellipse", [(x - half * 0.6, top + 0.25 * height), (x + half + shift, middle + 0.03)]),
        ]
    scene.add(TREE, ("rectangle", [(x - 0.014, middle - 0.05), (x + 0.014, foot)]), color=(84, 62, 44))
    scene.add(TREE, *crown)


def car(scene: Scene, x: float, foot: float, width: float) -> None:
    """Body, cabin with windows, two wheels."""
    height = width * 0.42
    scene.add(
        CAR,
        ("rectangle", [(x, foot - 0.6 * height), (x + width, foot - 0.12 * height)]),
        ("polygon", _box(x, foot, width, height, [(0.18, 0.55), (0.3, 1.0), (0.72, 1.0), (0.88, 0.55)])),
    )
    glass = _box(x, foot, width, height, [(0.25, 0.6), (0.34, 0.9), (0.68, 0.9), (0.8, 0.6)])
    scene.detail(CAR, ("polygon", glass), color=(150, 176, 190))
    for centre in (0.22, 0.78):
        low, high = _box(x, foot, width, height, [(centre - 0.1, 0.38), (centre + 0.1, -0.05)])
        scene.detail(CAR, ("ellipse", [low, high]), color=(24, 24, 26))


def ship(scene: Scene, x: float, foot: float, width: float) -> None:
    """Hull, white superstructure, funnel or sail."""
    rng, left, height = scene.rng, x - width / 2, width * 0.55
    hull = _box(left, foot, width, height, [(0, 0.38), (1, 0.38), (0.86, 0), (0.12, 0)])
    scene.add(SHIP, ("polygon", hull))
    if rng.random() < 0.5:
        house = _box(left, foot, width, height, [(0.2, 0.72), (0.7, 0.36)])
        scene.detail(SHIP, ("rectangle", house), color=(236, 234, 228))
        funnel = _box(left, foot, width, height, [(0.42, 1.0), (0.54, 0.7)])
        scene.detail(SHIP, ("rectangle", funnel), color=(190, 60, 40))
    else:
        sail = _box(left, foot, width, height, [(0.5, 0.42), (0.5, 1.4), (0.92, 0.42)])
        scene.detail(SHIP, ("polygon", sail), color=(240, 236, 224))


def pool(scene: Scene, x: float, y: float) -> None:
    """A swimming pool seen at an angle, with a pale rim."""
    rng = scene.rng
    wide, deep = rng.uniform(0.15, 0.3), rng.uniform(0.07, 0.12)
    if rng.random() < 0.5:
        rim, water = (("ellipse", [(x - wide * k, y - deep * k), (x + wide * k, y + deep * k)]) for k in (1.12, 1.0))
    else:
        outline = np.array([(-0.8, -1), (0.8, -1), (1, 1), (-1, 1)]) * (wide, deep)
        rim, water = (("polygon", [tuple(p) for p in outline * k + (x, y)]) for k in (1.12, 1.0))
    scene.add(UNLABELLED, rim, color=(222, 214, 202))
    scene.add(POOL, water)


def people(scene: Scene, top: float, count: int) -> None:
    """Standing people, larger towards the front."""
    rng = scene.rng
    for _ in range(count):
        foot = rng.uniform(min(top + 0.1, 0.9), 0.97)
        height, x = 0.14 + 0.22 * (foot - 0.5), rng.uniform(0.05, 0.95)
        half = 0.16 * height
        body = [(x - half, foot - 0.75 * height), (x + half, foot - 0.75 * height), (x + 0.7 * half, foot)]
        scene.add(PERSON, ("polygon", [*body, (x - 0.7 * half, foot)]))
        skin = tuple(np.array([226, 182, 150]) - rng.integers(0, 120))
        head = [(x - 0.11 * height, foot - height), (x + 0.11 * height, foot - 0.74 * height)]
        scene.detail(PERSON, ("ellipse", head), color=skin)


def _box(x: float, foot: float, width: float, height: float, points: Points) -> list[tuple[float, float]]:
    """Points given in a box (x to the right, y upwards from the foot, both 0..1) on the canvas."""
    return [(x + width * u, foot - height * v) for u, v in points]


def compose(rng: np.random.Generator) -> list[Part]:
    """Draw a layout and everything in it, back to front."""
    scene = Scene(rng)
    scene.add(SKY, ("rectangle", [(0, 0), (1, 1)]))
    LAYOUTS[rng.choice(len(LAYOUTS), p=[0.4, 0.3, 0.3])](scene)
    if rng.random() < 0.25:  # an unlabelled pole or sign
        x = rng.uniform(0.05, 0.95)
        scene.add(UNLABELLED, ("rectangle", [(x, rng.uniform(0.2, 0.5)), (x + 0.02, rng.uniform(0.7, 1))]))
    return scene.parts


def _fill(canvas: Image.Image, part: Part, value: int) -> None:
    draw, side = ImageDraw.Draw(canvas), canvas.width
    for shape, points in part.shapes:
        scaled = [(x * side, y * side) for x, y in points]
        if shape != "polygon":
            (x0, y0), (x1, y1) = scaled
            scaled = [(min(x0, x1), min(y0, y1)), (max(x0, x1), max(y0, y1))]
        getattr(draw, shape)(scaled, fill=value)


def render(rng: np.random.Generator, side: int, missing: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Render one scene.

    Args:
        rng: Source of everything random in the scene.
        side: Side of the square image [pixels].
        missing: Probability that an object of the mask isn't in the image, a fault of image-text pairs from the web
            (0 for a data set, > 0 for a generator's training stream).
    Returns: Image (side, side, 3) uint8, raw labels (side, side) uint8 with 0 = ignored.
    """
    parts = compose(rng)
    labels, painted = Image.new("L", (2 * side, 2 * side)), Image.new("L", (2 * side, 2 * side))
    lost = False
    for number, part in enumerate(parts):
        _fill(labels, part, part.label)
        if not part.of_previous:
            lost = part.label in OBJECTS and rng.random() < missing
        if not lost:
            _fill(painted, part, number)
    image = _paint(rng, parts, np.asarray(painted))
    image = _camera(rng, image)
    image = image.reshape(side, 2, side, 2, 3).mean((1, 3))
    image += rng.normal(0, rng.uniform(1, 7), image.shape)
    return np.clip(image, 0, 255).round().astype(np.uint8), np.asarray(labels)[::2, ::2].copy()


def _paint(rng: np.random.Generator, parts: list[Part], painted: np.ndarray) -> np.ndarray:
    """Fill every part with a surface; parts of one class often share a mode within a scene."""
    side = painted.shape[0]
    image = np.zeros((side, side, 3), np.float32)
    shared = {part.label: pick_mode(rng, part.label) for part in parts}
    for number, part in enumerate(parts):
        where = painted == number
        if not where.any():
            continue
        if part.color is not None:
            image[where] = np.array(part.color, np.float32) + rng.normal(0, 8)
            continue
        mode = shared[part.label] if rng.random() < 0.5 else pick_mode(rng, part.label)
        image[where] = surface(rng, mode, side)[where]
    return image


def _camera(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Light from one side, a tint, haze towards the top, exposure: (2s, 2s, 3) float32 in 0..255."""
    side = image.shape[0]
    ramp = np.linspace(-1, 1, side, dtype=np.float32)
    light = 1 + rng.uniform(-0.15, 0.15) * ramp[None, :, None] + 0.2 * (smooth_noise(rng, side, 32)[..., None] - 0.5)
    image = image * light * (1 + rng.normal(0, 0.05, 3)) * rng.uniform(0.7, 1.2)
    if rng.random() < 0.3:
        haze = rng.uniform(0.1, 0.45) * np.clip(1 - np.abs(ramp + rng.uniform(-0.2, 0.4)), 0, 1)[:, None, None]
        image = image * (1 - haze) + haze * rng.uniform(170, 230)
    return image.astype(np.float32)
