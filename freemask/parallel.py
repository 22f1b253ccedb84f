"""The same function over many files, on several processes."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from freemask import cli
from freemask.errors import InputError

Item = TypeVar("Item")
Result = TypeVar("Result")
LISTED = 5  # offenders that an error names; it counts the others


def map_files(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    processes: int,
    description: str,
    unit: str,
    total: int | None = None,
) -> Iterator[Result]:
    """Yield work(item) in the items' order, with a progress bar; `work`: a module-level function or a partial of one.

    Items are taken as they are needed, so that memory doesn't grow with their number.
    Args: total: how many items there are, where `items` has no length.
    Raises: InputError if processes < 1; whatever `work` raises, at the turn of the item's chunk.
    """
    if processes < 1:
        raise InputError(f"--threads {processes}: want 1 or more")
    total = len(items) if total is None and hasattr(items, "__len__") else total
    results = map(work, items) if processes == 1 else _spread(work, items, processes, total or 0)
    yield from cli.progress(results, description, unit, total=total)


def _spread(work: Callable, items: Iterable, processes: int, total: int) -> Iterator:
    """`map` over several processes, a few chunks ahead."""
    size = max(1, min(64, total // (processes * 4)))
    remaining = iter(items)
    with ProcessPoolExecutor(processes) as pool:
        waiting: deque[Future] = deque()
        try:
            while chunk := list(islice(remaining, size)):
                waiting.append(pool.submit(_each, work, chunk))
                if len(waiting) >= 3 * processes:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _each(work: Callable, items: list) -> list:
    return [work(item) for item in items]


def map_ahead(work: Callable[[Item], Result], items: Iterable[Item], threads: int, ahead: int) -> Iterator[Result]:
    """Yield work(item) in the items' order, computed on threads, at most `ahead` items before their turn.

    Items are taken by the caller's thread. For work that waits or lets go of Python's lock: reading, decoding, writing.
    """
    remaining = iter(items)
    waiting: deque[Future] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in remaining:
                waiting.append(pool.submit(work, item))
                if len(waiting) >= ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def shard_number(item: str) -> tuple[int, int]:
    """Read a scatter item 'i-of-n' as (i, n).

    Raises: InputError for one that isn't.
    """
    try:
        number, count = (int(part) for part in item.split("-of-"))
    except ValueError:
        raise InputError(f"shard {item!r}: want i-of-n, e.g. 1-of-24") from None
    if not 1 <= number <= count:
        raise InputError(f"shard {item!r}: number {number} isn't in 1..{count}")
    return number, count


def some(offenders: Sequence[object]) -> str:
    """The first few offenders as text, and how many more there are: 'a, b, c (and 12 more)'."""
    shown = ", ".join(str(offender) for offender in offenders[:LISTED])
    return shown if len(offenders) <= LISTED else f"{shown} (and {len(offenders) - LISTED} more)"
