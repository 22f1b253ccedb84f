"""Label spaces: raw labels on disk, train ids in the loss, words in the prompt.

Masks on disk hold a data set's own (raw) labels; so do synthetic and filtered masks. `LabelSpace.to_train` maps them
to train ids (0..K-1, 255 = ignored) when a batch is built.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from freemask.data import colors
from freemask.errors import InputError
from freemask.files import read_json, write_json
from freemask.tables import read_table

IGNORE_INDEX = 255  # train id of pixels that losses and metrics ignore


@dataclass(frozen=True)
class LabelSpace:
    """The K classes of a data set, in train-id order.

    Attributes:
        ids: Raw label of each train id.
        names: Names in tables and figures.
        words: Words in prompts; may repeat.
        colors: (r, g, b) of each class.
        ignored: Raw label that means "ignored"; the filter writes it, also where no mask of the data set holds it.
    """

    ids: tuple[int, ...]
    names: tuple[str, ...]
    words: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]
    ignored: int

    @classmethod
    def read(cls, path: str | Path) -> "LabelSpace":
        """Read a label space that `write` wrote.

        Raises: InputError if the file is missing or broken, and as `of_table` does.
        """
        found = read_json(path)
        if not (isinstance(found, dict) and found.keys() == {"ignored", "classes"}):
            raise InputError(f"{path}: not a label space (ignored, classes); delete it, the next run writes it")
        columns = ["label", "name", "word", "color"]
        return cls.of_table(pd.DataFrame(found["classes"], columns=columns), found["ignored"], path)

    def write(self, path: str | Path) -> None:
        """Write the label space as JSON, see `to_json`."""
        write_json(path, self.to_json())

    def to_json(self) -> dict[str, Any]:
        """The ignored label, and label, name, word and color of each class."""
        rows = zip(self.ids, self.names, self.words, self.colors, strict=True)
        classes = [
            {"label": label, "name": name, "word": word, "color": colors.hexadecimal(color)}
            for label, name, word, color in rows
        ]
        return {"ignored": self.ignored, "classes": classes}

    @classmethod
    def of_class_table(cls, classes: str | Path, ignored: int | None) -> "LabelSpace":
        """Read a class table with the columns label, name, word, color (#rrggbb).

        Raises: InputError as `of_table` does.
        """
        return cls.of_table(read_table(classes, ["label", "name", "word", "color"]), ignored, classes)

    @classmethod
    def of_table(cls, table: pd.DataFrame, ignored: int | None, classes: str | Path) -> "LabelSpace":
        """Make a label space of a class table.

        Args:
            table: Columns label, name, word, color (#rrggbb), a row per class.
            ignored: Raw label that means "ignored", 0..255. None: the lowest one that no class has.
            classes: What messages call the table.
        Raises: InputError for no class at all, a repeated label, a label outside 0..255 (the ignored one as well), the
            ignored label used as a class, no label left for ignored pixels, an empty name or word, or a color that
            isn't #rrggbb.
        """
        if ignored is None:
            free = set(range(256)) - {_label(label, classes) for label in table.label}
            if not free:
                raise InputError(f"{classes}: 256 classes leave no label for ignored pixels; merge two classes")
            ignored = min(free)
        if not (isinstance(ignored, int) and 0 <= ignored <= 255):
            raise InputError(f"ignored_label = {ignored!r}, want a whole number in 0..255: masks hold 8 bits")
        if table.empty:
            raise InputError(f"{classes}: no class; add a line for each")
        table = table.assign(label=[_label(label, classes) for label in table.label])
        for row in table.itertuples():
            if row.label == ignored:
                raise InputError(f"{classes}: label {row.label} is also the data set's ignored label; give one up")
            for column, user in (("word", "the prompt needs"), ("name", "tables and figures need")):
                text = getattr(row, column)
                if not isinstance(text, str) or text.strip() in ("", "nan"):
                    raise InputError(f"{classes}: label {row.label} has no {column}; {user} one")
        repeated = table.label[table.label.duplicated()]
        if len(repeated):
            raise InputError(f"{classes}: label {repeated.iloc[0]} stands on more than one line; keep one")
        rgb = tuple(_rgb(color, classes) for color in table.color)
        return cls(tuple(table.label.tolist()), tuple(table.name), tuple(table.word), rgb, ignored)

    def __len__(self) -> int:
        return len(self.ids)

    def words_by_label(self) -> dict[int, str]:
        """The word of each raw label."""
        return dict(zip(self.ids, self.words, strict=True))

    def named(self, table: pd.DataFrame) -> pd.DataFrame:
        """A table of label, name, ... with the classes' present names: a table isn't made again if one is renamed."""
        names = table.label.map(dict(zip(self.ids, self.names, strict=True)))
        return table.assign(name=names.fillna(table.name))

    def to_train(self, raw: np.ndarray, source: str = "mask") -> np.ndarray:
        """Map raw labels (any shape, uint8) to train ids (uint8).

        Raises: InputError with `source` and the labels that the data set doesn't define.
        """
        lut = np.full(256, -1, np.int16)
        lut[list(self.ids)] = np.arange(len(self.ids))
        lut[self.ignored] = IGNORE_INDEX
        train = lut.take(raw)  # three times as fast as lut[raw]
        if (train < 0).any():
            unknown = np.unique(raw[train < 0]).tolist()
            raise InputError(
                f"{source}: label(s) {unknown} not in the data set's class table; fix the mask or add them"
            )
        return train.astype(np.uint8)

    def to_raw(self, train: np.ndarray) -> np.ndarray:
        """Map train ids back to raw labels (uint8); 255 becomes the ignored label."""
        lut = np.full(256, self.ignored, np.uint8)
        lut[: len(self.ids)] = self.ids
        return lut[train]

    @property
    def ignored_color(self) -> colors.Color:
        """Color of pixels without a class in pictures: black, or a grey if a class is black."""
        return colors.apart_from(self.colors, colors.IGNORED)

    @property
    def filtered_color(self) -> colors.Color:
        """Color of pixels that a filter took, in pictures: white, or another one if a class is white."""
        return colors.apart_from(self.colors, colors.FILTERED)

    def colorize(self, raw: np.ndarray) -> np.ndarray:
        """Color raw labels (H, W) as (H, W, 3) uint8."""
        return self.palette()[raw]

    def palette(self) -> np.ndarray:
        """Colors of raw labels, (256, 3) uint8; labels without a class have the color of ignored pixels."""
        lut = np.full((256, 3), self.ignored_color, np.uint8)
        lut[list(self.ids)] = np.array(self.colors, np.uint8)
        return lut


def _rgb(color: str, source: str | Path) -> tuple[int, int, int]:
    try:
        return colors.of_hexadecimal(color)
    except (TypeError, ValueError):
        raise InputError(f"{source}: color {color!r}, want #rrggbb") from None


def _label(value: object, source: str | Path) -> int:
    """A raw label. A column with an empty cell, or a word, holds floats, or text."""
    try:
        label = float(value)  # type: ignore[arg-type]
        if label % 1 or not 0 <= label <= 255:
            raise ValueError
    except (TypeError, ValueError):
        shown = "an empty label" if pd.isna(value) else f"label {value!r}"
        raise InputError(f"{source}: {shown}, want a whole number in 0..255") from None
    return int(label)


def refuse_other_classes(classes: Sequence[str], names: Sequence[str], source: str | Path) -> None:
    """Raise InputError if class names, in train-id order, aren't the data set's; blanks around names are ignored."""
    expected = [name.strip() for name in names]
    if len(classes) != len(expected):
        raise InputError(
            f"{source}: {len(classes)} classes, but the data set has {len(expected)}; is it of another one?"
        )
    for number, (found, name) in enumerate(zip(classes, expected, strict=True)):
        if found != name:
            raise InputError(
                f"{source}: class {number} is {found!r}, but the data set's is {name!r}; give one of this data set, or "
                "name the classes in its table alike"
            )
