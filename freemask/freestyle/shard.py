"""Synthesizing one shard of a plan: what is there is found again, what is missing is made, nothing is made twice."""

import logging
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import numpy as np
import pandas as pd
from PIL import Image

from freemask.cli import bar
from freemask.errors import InputError
from freemask.files import digest, jpeg_bytes, read_json, read_mask, sha256, write_atomic, write_json

logger = logging.getLogger(__name__)
Paint = Callable[[np.ndarray, list[str], list[int]], np.ndarray]  # labels (B, H, W), mask ids, seeds -> (B, H, W, 3)


@dataclass(frozen=True)
class Request:
    """One image of the plan. stamp: digest of the mask's pixels and words, kept in the JPEG's comment."""

    mask_id: str
    seed: int
    mask: str
    image: Path
    stamp: str


def shard_rows(plan: pd.DataFrame, item: str) -> pd.DataFrame:
    """Rows i, i + n, i + 2n, ... of a plan for the scatter item 'i-of-n', so that shards have like work.

    Raises: InputError for an item that isn't one, or a (mask_id, seed) that stands twice in the plan.
    """
    try:
        number, count = (int(part) for part in item.split("-of-"))
    except ValueError:
        raise InputError(f"shard {item!r}, want i-of-n, e.g. 1-of-24") from None
    if not 1 <= number <= count:
        raise InputError(f"shard {item!r}: number {number} not in 1..{count}")
    twice = plan[plan.duplicated(["mask_id", "seed"])]
    if len(twice):
        row = twice.iloc[0]
        raise InputError(f"plan: mask {row.mask_id} with seed {row.seed} stands twice; make the plan again")
    return plan.iloc[number - 1 :: count]


def requests(rows: pd.DataFrame, masks: Mapping[str, str], words: Mapping[int, str], images_dir: Path) -> list[Request]:
    """The images that rows ask for.

    Raises: InputError where a mask of the plan isn't in the table of masks.
    """
    stamps: dict[str, str] = {}
    made = []
    for row in rows.itertuples():
        if row.mask_id not in masks:
            raise InputError(f"plan: mask {row.mask_id} isn't in the table of masks; make the plan again")
        if row.mask_id not in stamps:
            stamps[row.mask_id] = digest({"mask": sha256(masks[row.mask_id]), "words": sorted(words.items())})
        image = images_dir / row.mask_id / f"{row.seed}.jpg"
        made.append(Request(row.mask_id, int(row.seed), masks[row.mask_id], image, stamps[row.mask_id]))
    return made


def claim_folder(images_dir: Path, settings: dict) -> None:
    """Record the settings that make the images of a folder; refuse a folder made with others.

    Raises: InputError naming the setting and both values.
    """
    path = images_dir / "settings.json"
    if not path.exists():
        write_json(path, settings)
        return
    found = read_json(path)
    for key in sorted(set(found) | set(settings)):
        if found.get(key) != settings.get(key):
            raise InputError(
                f"{images_dir}: holds images made with {key} = {found.get(key)!r}, now it is {settings.get(key)!r}; "
                "undo the change, give the generator a new name in the configuration, or delete the folder"
            )


def is_made(request: Request) -> bool:
    """Whether the image is there and was made from this very mask and these words."""
    try:
        with Image.open(request.image) as image:
            return image.info.get("comment") == request.stamp.encode()
    except FileNotFoundError:
        return False
    except OSError:
        logger.warning("%s is damaged and is made again", request.image)
        return False


def is_blank(image: np.ndarray) -> bool:
    """Whether an image (H, W, 3) is black or one colour, what NaN and overflow in half precision look like."""
    return bool(image.reshape(-1, 3).std(axis=0).max() < 1.0)


class Terminated(SystemExit):
    """SIGTERM came: what was being made is written, the rest is left to the next run."""


class Shard:
    """Makes the missing images of a shard in batches of one fixed shape, the last one filled up by repetition."""

    def __init__(self, paint: Paint, paint_again: Paint | None, batch_size: int, quality: int):
        """paint_again: for images that come out blank, in float32; None where paint is float32 already."""
        self.paint, self.paint_again = paint, paint_again
        self.batch_size, self.quality = batch_size, quality
        self.stop = False

    def make(self, wanted: list[Request], description: str) -> int:
        """Make what isn't there; returns how many images were made.

        Raises: Terminated after SIGTERM; InputError for an image that is blank in float32 as well.
        """
        missing = [request for request in wanted if not is_made(request)]
        batches = [missing[start : start + self.batch_size] for start in range(0, len(missing), self.batch_size)]
        previous = signal.signal(signal.SIGTERM, self._on_terminate)
        try:
            with ThreadPoolExecutor(2) as pool, bar(description, len(wanted), "image") as shown:
                shown.update(len(wanted) - len(missing))
                writing: list[Future] = []
                for batch, labels in _ahead(pool, batches, _load):
                    for done in writing:  # a full disk is noticed within one batch
                        done.result()
                    images = self._paint_batch(batch, labels)
                    writing = [pool.submit(self._write, r, i) for r, i in zip(batch, images, strict=True)]
                    shown.update(len(batch))
                    if self.stop:
                        break
                for done in writing:
                    done.result()
        finally:
            signal.signal(signal.SIGTERM, previous)
        if self.stop:
            raise Terminated(128 + signal.SIGTERM)
        return len(missing)

    def _on_terminate(self, signum: int, frame: FrameType | None) -> None:
        logger.warning("SIGTERM: finishing the batch")
        self.stop = True

    def _paint_batch(self, batch: list[Request], labels: np.ndarray) -> np.ndarray:
        filled = [batch[min(i, len(batch) - 1)] for i in range(self.batch_size)]
        labels = labels[[min(i, len(batch) - 1) for i in range(self.batch_size)]]
        names, seeds = [r.mask_id for r in filled], [r.seed for r in filled]
        images = self.paint(labels, names, seeds)[: len(batch)]
        blank = [i for i, image in enumerate(images) if is_blank(image)]
        if blank and self.paint_again is not None:
            logger.warning("blank, again in float32: %s", ", ".join(f"{names[i]}/{seeds[i]}" for i in blank))
            images[blank] = self.paint_again(labels, names, seeds)[blank]
            blank = [i for i in blank if is_blank(images[i])]
        if blank:
            raise InputError(
                f"mask {names[blank[0]]}, seed {seeds[blank[0]]}: a blank image; check the generator's weights"
            )
        return images

    def _write(self, request: Request, image: np.ndarray) -> None:
        write_atomic(request.image, jpeg_bytes(image, self.quality, comment=request.stamp))
        logger.info("made %s", request.image)


def _load(batch: list[Request]) -> np.ndarray:
    return np.stack([read_mask(request.mask) for request in batch])


def _ahead(
    pool: ThreadPoolExecutor, batches: Iterable[list[Request]], load: Callable[[list[Request]], np.ndarray]
) -> Iterator[tuple[list[Request], np.ndarray]]:
    """Batches with their masks, read while the batch before is being painted."""
    waiting: tuple[list[Request], Future] | None = None
    for batch in batches:
        following = (batch, pool.submit(load, batch))
        if waiting is not None:
            yield waiting[0], waiting[1].result()
        waiting = following
    if waiting is not None:
        yield waiting[0], waiting[1].result()


def manifest(wanted: list[Request]) -> pd.DataFrame:
    """The shard's table in plan order: mask_id, seed, image, sha256."""
    rows = [(r.mask_id, r.seed, str(r.image), sha256(r.image)) for r in wanted]
    return pd.DataFrame(rows, columns=["mask_id", "seed", "image", "sha256"])
