"""Which images to synthesize: every mask's number of images, and the seeds that make them. See docs/plans.md.

Every strategy but `all` makes the same number of images, for a given n_max and number of masks, so that sets of
images differ in what they show and not in how many they are. A mask's n images have the first n seeds of one fixed
sequence: a plan with a larger n_max holds the smaller plan's images, whatever the strategy.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd

from freemask.data.masks import LabelCounts
from freemask.errors import InputError
from freemask.files import write_atomic
from freemask.parallel import some
from freemask.selection.hardness import images_at_rank
from freemask.tables import read_table, stream_table

STRATEGIES = ("hardness", "uniform", "all", "class_balanced")
PRESENCE = 1e-3  # share of a mask's labelled pixels from which on it counts as holding a class (class_balanced)
SECONDS_PER_IMAGE = 5.8  # one V100, 512x512, 50 steps; source: FreeMask, implementation details
LONGEST_ID = 255  # bytes; a mask_id is part of a file's name, which can't be longer
BYTES_PER_PIXEL = 0.9  # JPEG at quality 95 without chroma subsampling, its margin map and filtered mask; an estimate


def uniform(mask_ids: Sequence[str], n_max: int) -> np.ndarray:
    """The same number of images for every mask, as many in total as the hardness strategy makes.

    What doesn't divide goes, one image each, to the masks whose ids have the smallest SHA-256: a choice that knows
    nothing of the mask and changes little when masks are added.
    Returns: (N,) int64.
    """
    number = len(mask_ids)
    share, rest = divmod(int(images_at_rank(np.arange(1, number + 1), n_max).sum()), max(number, 1))
    order = sorted(range(number), key=lambda row: hashlib.sha256(mask_ids[row].encode()).digest())
    counts = np.full(number, share, np.int64)
    counts[order[:rest]] += 1
    return counts


def class_priority(counts: LabelCounts, class_loss: np.ndarray, presence: float = PRESENCE) -> np.ndarray:
    """A mask's claim to images by its rarest and hardest class: max over the classes c it holds of h_c / sqrt(F_c).

    F_c: the share of all masks that hold c; a mask holds c where c has at least `presence` of its labelled pixels, so
    that a few stray pixels claim nothing. 1 / sqrt(F) is the repeat factor of LVIS (Gupta et al. 2019), up to a
    constant, which is here multiplied by the class-wise mean loss h_c.
    Args: counts: of N masks, each with labelled pixels; class_loss: (256,) h of each raw label [nats];
    presence: 0 or more, less than 1/256.
    Returns: (N,) float64 [nats].
    """
    if not 0 <= presence < 1 / 256:  # below 1/256 every mask holds a class: its most frequent one
        raise ValueError(f"presence is {presence}, want 0 or more and less than 1/256")
    labelled = counts.sum_by_mask(counts.pixels)
    held = (counts.pixels > 0) & (counts.pixels >= presence * labelled[counts.row])
    row, label = counts.row[held], counts.label[held]
    frequency = np.bincount(label, minlength=256) / max(counts.masks, 1)
    priority = np.full(counts.masks, -np.inf)
    np.maximum.at(priority, row, class_loss[label] / np.sqrt(frequency[label]))
    return priority


def class_balanced(priority: np.ndarray, rank: np.ndarray, n_max: int) -> np.ndarray:
    """The hardness rule with masks ranked by class priority instead; ties by hardness rank.

    Args: priority: (N,) from class_priority; rank: (N,) hardness rank, 1 = easiest.
    Returns: (N,) int64, the same total as the hardness strategy.
    """
    claim = np.empty(len(rank), np.int64)
    claim[np.lexsort((rank, priority))] = np.arange(1, len(rank) + 1)
    return images_at_rank(claim, n_max)


def check_ranks(rank: np.ndarray, source: str | Path) -> np.ndarray:
    """The ranks (N,), which must be 1 to N, each once.

    Raises: InputError where they aren't.
    """
    number = len(rank)
    whole = rank.dtype.kind == "i" and (number == 0 or (rank.min() == 1 and rank.max() == number))
    if not whole or (np.bincount(rank, minlength=number + 1)[1:] != 1).any():
        raise InputError(f"{source}: ranks aren't 1 to {number}; make the table again")
    return rank


def rows(mask_ids: Sequence[str], counts: np.ndarray, first_seed: int) -> pd.DataFrame:
    """The plan: mask_id, seed; counts[i] rows for mask i, with the seeds first_seed, first_seed + 1, ..."""
    ids = np.repeat(np.asarray(mask_ids, object), counts)
    return pd.DataFrame({"mask_id": ids, "seed": first_seed + _turns(counts)})


def _turns(counts: np.ndarray) -> np.ndarray:
    """0, 1, ..., counts[i] - 1 for mask i after mask: (sum of counts,) int64."""
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)


def read_ranked(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Read hardness.tsv: mask ids (N,) as UTF-8 bytes, their ranks (N,), each of 1 to N once.

    Raises: InputError for other ranks, or an id that is empty or longer than a file's name can be.
    """
    for width in (64, LONGEST_ID + 1):  # short ids are the rule, and narrow cells quick
        table = read_table(path, ["mask_id", "rank"], only=True, types={"mask_id": f"S{width}"})
        ids = table.mask_id.to_numpy()
        length = np.strings.str_len(ids)
        if length.max(initial=1) < width:  # else it may be cut off
            break
    if ((length < 1) | (length > LONGEST_ID)).any():
        raise InputError(f"{path}: a mask_id is empty or longer than {LONGEST_ID} bytes; make the table again")
    ids = ids.astype(f"S{length.max(initial=1)}")
    try:
        text = ids.tobytes().decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: a mask_id isn't UTF-8 ({error}); make the table again") from None
    if text.count("\0") != ids.nbytes - length.sum():  # more than what cells are filled up with
        raise InputError(f"{path}: a mask_id holds a zero byte; make the table again")
    return ids, check_ranks(table["rank"].to_numpy(), path)


def write_plan(path: str | Path, mask_ids: np.ndarray, counts: np.ndarray, first_seed: int) -> int:
    """Write the table of `rows` without holding it, atomically; returns the number of images.

    Args: mask_ids: (N,) as read_ranked gives them; counts: (N,) images of each.
    """
    seeds = range(first_seed, first_seed + int(counts.max(initial=1)))
    ends = np.array([f"\t{seed}\n".encode() for seed in seeds])

    def write(file: BinaryIO) -> None:
        file.write(b"mask_id\tseed\n")
        for start in range(0, len(mask_ids), 8192):
            images, ids = counts[start : start + 8192], _quoted(mask_ids[start : start + 8192])
            lines = np.empty(images.sum(), [("id", ids.dtype), ("end", ends.dtype)])
            lines["id"], lines["end"] = np.repeat(ids, images), ends[_turns(images)]
            file.write(lines.tobytes().replace(b"\0", b""))  # numpy fills shorter cells up with these

    write_atomic(path, write)
    return int(counts.sum())


def _quoted(mask_ids: np.ndarray) -> np.ndarray:
    """Cells as write_table quotes them."""
    content = mask_ids.tobytes()
    if not any(special in content for special in (b'"', b"\t", b"\n", b"\r")):
        return mask_ids
    table = [pd.DataFrame([[mask_id.decode(), 0]]) for mask_id in mask_ids.tolist()]
    cells = [one.to_csv(sep="\t", index=False, header=False).removesuffix("\t0\n") for one in table]
    return np.array([cell.encode() for cell in cells])


def measured_seconds(logs: Path) -> dict[str, tuple[float, int]]:
    """Seconds per image that finished synthesis took, by generator: (seconds, of how many images).

    From each shard's log ("... 30 images made, ...") and Snakemake's benchmark beside it: wall time of the whole job,
    loading included. Shards that made none say nothing; {} where there are none.
    Args: logs: logs/<dataset>/synthesize, which holds <generator>/<plan>/<shard>.log.
    """
    totals: dict[str, tuple[float, int]] = {}
    for path in sorted(logs.glob("*/*/*.benchmark.tsv")):
        log = path.with_name(path.name.replace(".benchmark.tsv", ".log"))
        try:
            made = re.findall(r"^synthesize \S+: (\d+) images made", log.read_text(errors="replace"), re.MULTILINE)
            seconds = float(path.read_text().splitlines()[1].split("\t")[0])
        except (OSError, IndexError, ValueError):  # a job that is running, or was ended: no measurement
            continue
        if made and int(made[-1]):
            before = totals.get(path.parts[-3], (0.0, 0))
            totals[path.parts[-3]] = before[0] + seconds, before[1] + int(made[-1])
    return {generator: (seconds / images, images) for generator, (seconds, images) in totals.items()}


def cost(images: int, side: int, seconds_per_image: float, bytes_per_pixel: float) -> str:
    """What a plan takes, for people: images, GPU time, disk."""
    seconds, size = images * seconds_per_image, images * side**2 * bytes_per_pixel
    disk = f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
    return (
        f"{images:,} images of {side}x{side}: about {gpu_time(seconds)} at {seconds_per_image:g} s an image"
        f" (less where images are there already) and {disk} on disk"
    )


def gpu_time(seconds: float) -> str:
    """Seconds as GPU hours or minutes, for people."""
    return f"{seconds / 3600:,.1f} GPU hours" if seconds >= 3600 else f"{seconds / 60:.1f} GPU minutes"


Key = tuple[str, ...]  # mask_id, seed


def read_plan(path: str | Path) -> pd.DataFrame:
    """Read a plan: mask_id, seed.

    Raises: InputError for a row that stands there twice.
    """
    plan = read_table(path, ["mask_id", "seed"])[["mask_id", "seed"]]
    repeated = plan[plan.duplicated()]
    if len(repeated):
        row = repeated.iloc[0]
        raise InputError(f"{path}: mask {row.mask_id}, seed {row.seed} stands there twice; make the plan again")
    return plan


def in_plan_order(plan: str | Path, shards: Sequence[str | Path], columns: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield the rows that the shards of a plan hold, as text, in the plan's order.

    Shards are read in turns, and a row waits for its place. Where n shards hold every n-th row of the plan each, as
    those of synthesis do, at most n rows wait; in any other order more.
    Args: columns: mask_id, seed, then what else a row has.
    Raises: InputError for a row that stands in the plan twice; at the end, where a row of the plan is missing, is there
    twice, or something is there that wasn't planned.
    """
    rows = filter(None, chain.from_iterable(zip_longest(*(stream_table(shard, columns) for shard in shards))))
    waiting: dict[Key, tuple[str, ...]] = {}
    placed: set[int] = set()  # hashes of (mask_id, seed): a fifth of the memory that these would take
    lacking, repeated = [], []

    def read_on() -> bool:
        for row in rows:
            if row[:2] in waiting or hash(row[:2]) in placed:
                repeated.append(row[:2])
            else:
                waiting[row[:2]] = row
            return True
        return False

    for key in stream_table(plan, columns[:2]):
        if hash(key) in placed:
            raise InputError(f"{plan}: mask {key[0]}, seed {key[1]} stands there twice; make the plan again")
        while key not in waiting and read_on():
            pass
        placed.add(hash(key))
        if key in waiting:
            yield waiting.pop(key)
        else:
            lacking.append(key)
    while read_on():
        pass
    _refuse(plan, repeated, lacking, list(waiting))


def _refuse(plan: str | Path, repeated: list[Key], lacking: list[Key], unplanned: list[Key]) -> None:
    """Raise what is wrong with a plan's shards, if anything."""
    if repeated:
        raise InputError(f"the shards of {plan} hold {_names(repeated)} more than once; make the shards again")
    for keys, problem in ((lacking, "lack"), (unplanned, "hold, against the plan,")):
        if keys:
            raise InputError(f"the shards of {plan} {problem} {_names(keys)}; give all its shards, or make them again")


def _names(keys: list[Key]) -> str:
    return some([f"mask {mask_id} seed {seed}" for mask_id, seed in keys])
