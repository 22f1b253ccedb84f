"""Synthesis of one shard of a plan: existing images are kept, missing ones are generated once."""

import functools
import logging
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image, ImageStat
from tqdm import tqdm

from freemask import watchdog
from freemask.cli import bar, tell
from freemask.errors import InputError
from freemask.files import digest, read_json, sha256, subfolder, sweep, write_atomic, write_json
from freemask.generation.generators import Generator
from freemask.images import jpeg_bytes, read_mask
from freemask.parallel import map_ahead, shard_number, some
from freemask.stopping import Stop

logger = logging.getLogger(__name__)


class Request(NamedTuple):
    """One image of the plan. stamp: digest of the mask's pixels and words, written to the JPEG's comment."""

    mask_id: str
    seed: int
    mask: str
    image: Path
    stamp: str


def shard_rows(plan: pd.DataFrame, item: str) -> pd.DataFrame:
    """Rows i, i + n, i + 2n, ... of a plan for the scatter item 'i-of-n', so that shards have similar work."""
    number, count = shard_number(item)
    return plan.iloc[number - 1 :: count]


def image_path(images_dir: Path, mask_id: str, seed: int) -> Path:
    """Path of a synthetic image."""
    return images_dir / subfolder(mask_id) / f"{mask_id}-{seed}.jpg"


def requests(rows: pd.DataFrame, masks: Mapping[str, str], words: Mapping[int, str], images_dir: Path) -> list[Request]:
    """The images that rows of a plan request.

    Args: rows: columns mask_id, seed; masks: path of each; words: what an image depends on of each class
        (Generator.class_settings); images_dir: output folder.
    Raises: InputError where a mask of the plan isn't in the table of masks.
    """
    for name in rows.mask_id.unique():
        if name not in masks:
            raise InputError(f"plan: mask {name} isn't in the table of masks; make the plan again")
    stamp = functools.cache(lambda mask: digest({"mask": sha256(mask), "words": sorted(words.items())}))
    return [
        Request(name, seed, masks[name], image_path(images_dir, name, seed), stamp(masks[name]))
        for name, seed in zip(rows.mask_id, rows.seed.astype(int), strict=True)
    ]


def settings_of_images(images_dir: Path) -> dict | None:
    """Recorded settings of a folder that holds images; None for one that doesn't, whatever is recorded.

    Raises: InputError for images without recorded settings.
    """
    if next(images_dir.glob("*/*.jpg"), None) is None:
        return None
    path = images_dir / "settings.json"
    if not path.exists():
        raise InputError(f"{images_dir}: holds images but no settings.json, so their settings are unknown; delete them")
    return read_json(path)


def claim_folder(images_dir: Path, settings: dict) -> None:
    """Record the settings of a folder of images; refuse a folder that holds images made with other settings.

    Raises: InputError naming the setting and both values; for a folder with the paths of version 0.1.
    """
    if old := next(images_dir.glob("???*/*.jpg"), None):  # subfolders have two characters now, then were mask ids
        raise InputError(
            f"{old}: images have other paths now, <two digits>/<mask_id>-<seed>.jpg; move them (CHANGELOG.md,"
            ' "Fewer files"), or delete the folder'
        )
    found = settings_of_images(images_dir)
    if found is None:
        write_json(images_dir / "settings.json", settings)
        return
    for key in sorted(set(found) | set(settings)):
        if found.get(key) != settings.get(key):
            raise InputError(
                f"{images_dir}: holds images made with {key} = {found.get(key)!r}, now it is {settings.get(key)!r}; "
                "undo the change, give the generator a new name in the configuration, or delete the folder"
            )


def is_made(request: Request) -> bool:
    """Whether the image exists and was made from this mask and these words."""
    watchdog.beat()
    try:
        with Image.open(request.image) as image:
            return image.info.get("comment") == request.stamp.encode()
    except FileNotFoundError:
        return False
    except OSError:
        logger.warning("%s is damaged and is made again", request.image)
        return False


def is_blank(image: np.ndarray) -> bool:
    """Whether an image (H, W, 3) is black or of one colour, as after NaN or overflow in half precision."""
    return max(ImageStat.Stat(Image.fromarray(image)).stddev) < 1.0


class Batch(NamedTuple):
    """Images to generate together: masks, ids and seeds `given`, filled up to the batch size, and `prepared`."""

    requests: list[Request]
    given: tuple[np.ndarray, list[str], list[int]]
    prepared: Any


class Shard:
    """Makes the missing images of a shard in batches of one fixed shape, the last one filled up by repetition.

    In float32 on a CPU an image has the same bytes anywhere in a batch, whatever its neighbours. Another batch size or
    number of threads changes 1 byte in 10,000 by one level.

    Args: load: loads the generator, once, if an image is missing; load_again: loads it in float32, for images that come
        out blank, None where `load` does; quality: of JPEG, 1..100; image_size: side that masks must have [pixels].
    """

    def __init__(
        self,
        load: Callable[[], Generator],
        load_again: Callable[[], Generator] | None,
        batch_size: int,
        quality: int,
        image_size: int | None = None,
    ):
        self.generator = functools.cache(load)
        self.again = load_again and functools.cache(load_again)
        self.batch_size, self.quality, self.image_size = batch_size, quality, image_size
        self.found = 0  # images that other jobs made since `make` began
        self.retried: list[Request] = []
        self.blank: list[Request] = []

    def make(self, requested: list[Request], description: str, stop: Stop | None = None) -> int:
        """Make the missing images; returns how many were made.

        Args: requested: the shard's images; description: of the progress lines; stop: ends after the current batch.
        Raises: Terminated after SIGTERM; InputError, once the others are made, for images that are blank in float32 as
        well (they aren't written).
        """
        stop = stop or Stop()
        self.found, missing = 0, [request for request in requested if not is_made(request)]
        for folder in {request.image.parent for request in requested}:
            sweep(folder)
        try:
            with ThreadPoolExecutor(2) as writing, bar(description, len(requested), "image") as shown:
                shown.initial = shown.n = len(requested) - len(missing)  # excluded from the speed
                # one thread and one batch ahead: batches come in order, and the generator is loaded once
                with closing(map_ahead(self._prepare, self._batches(missing, shown), threads=1, ahead=2)) as ready:
                    self._make_batches(ready, writing, shown, stop)
        finally:
            if self.retried:
                names = _names(self.retried)
                tell(f"{len(self.retried)} images came out blank and were made again in float32: {names}")
        if stop.requested and shown.n < len(requested):
            stop.end(f"{description}: {shown.n} of {len(requested)} images are there")
        if self.blank:
            raise InputError(
                f"{len(self.blank)} blank images, in float32 too: {_names(self.blank)}; check the generator's weights"
            )
        return len(missing) - self.found

    def _batches(self, missing: list[Request], shown: tqdm) -> Iterator[list[Request]]:
        """Batches of images that are still missing at their turn: another job may fill the same folder."""
        batch: list[Request] = []
        for request in missing:
            if is_made(request):
                self.found, shown.initial, shown.n = self.found + 1, shown.initial + 1, shown.n + 1
                continue
            batch.append(request)
            if len(batch) == self.batch_size:
                yield batch
                batch = []
        if batch:
            yield batch

    def _make_batches(self, ready: Iterator[Batch], pool: ThreadPoolExecutor, shown: tqdm, stop: Stop) -> None:
        """Generate batches. Meanwhile the next one is prepared, and the images of the last one are written."""
        writing: list[Future] = []
        for batch in ready:
            images = self._generate(batch)
            self._settle(writing)  # raises if it failed: a full disk is noticed within a batch
            made = zip(batch.requests, images, strict=True)
            writing = [pool.submit(self._write, *pair) for pair in made if pair[1] is not None]
            shown.update(len(batch.requests))
            stop.saved += len(batch.requests)
            if stop.requested:
                break
        self._settle(writing)

    def _settle(self, writing: list[Future]) -> None:
        """Wait for images being written; count those that another job had made."""
        self.found += sum(not done.result() for done in writing)

    def _prepare(self, batch: list[Request]) -> Batch:
        """Read a batch's masks, fill it up, and let the generator prepare it."""
        masks, size = [read_mask(request.mask) for request in batch], self.image_size
        for mask, request in zip(masks, batch, strict=True):
            if size and mask.shape != (size, size):
                found = "x".join(map(str, mask.shape))
                raise InputError(f"{request.mask}: {found} pixels, want {size}x{size}; run resize_masks with that size")
        filled = [*range(len(batch)), *[-1] * (self.batch_size - len(batch))]
        given = (np.stack(masks)[filled], [batch[i].mask_id for i in filled], [batch[i].seed for i in filled])
        return Batch(batch, given, self.generator().prepare(*given))

    def _generate(self, batch: Batch) -> list[np.ndarray | None]:
        """Images of a batch; None for one that is blank in float32 as well."""
        images = self.generator().generate(batch.prepared)[: len(batch.requests)]
        blank = [i for i, image in enumerate(images) if is_blank(image)]
        if blank and self.again is not None:
            logger.warning("blank, again in float32: %s", _names([batch.requests[i] for i in blank]))
            self.retried += [batch.requests[i] for i in blank]
            again = self.again()
            images[blank] = again.generate(again.prepare(*batch.given))[blank]
            blank = [i for i in blank if is_blank(images[i])]
        for i in blank:
            logger.error("blank in float32, not written: %s", _names([batch.requests[i]]))
        self.blank += [batch.requests[i] for i in blank]
        return [None if i in blank else image for i, image in enumerate(images)]

    def _write(self, request: Request, image: np.ndarray) -> bool:
        """Write an image. Skip it if another job wrote it: that job's manifest may already hold its SHA-256."""
        content = jpeg_bytes(image, self.quality, comment=request.stamp)
        if is_made(request):
            return False
        write_atomic(request.image, content)
        logger.info("made %s", request.image)
        return True


def _names(requests: list[Request]) -> str:
    return some([f"{request.mask_id}/{request.seed}" for request in requests])


def manifest(requested: list[Request]) -> pd.DataFrame:
    """The shard's table in plan order: mask_id, seed, image, sha256."""
    rows = [(r.mask_id, r.seed, str(r.image), sha256(r.image)) for r in requested]
    return pd.DataFrame(rows, columns=["mask_id", "seed", "image", "sha256"])
