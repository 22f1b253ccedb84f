"""One function over many items, on several processes or threads; numbers of shards."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
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
    """Yield work(item) in the items' order, computed on several processes, with a progress bar (see cli.progress).

    Args: work: function of a module, or a partial of one; processes: 1: none besides this one; total: number of items,
        if `items` has no length.
    """
    total = len(items) if total is None and hasattr(items, "__len__") else total
    if processes == 1:
        yield from cli.progress(map(work, items), description, unit, total)
        return
    chunk = max(1, min(64, (total or 0) // (processes * 4)))
    with ProcessPoolExecutor(processes) as pool:
        yield from cli.progress(pool.map(work, items, chunksize=chunk), description, unit, total)


def map_ahead(work: Callable[[Item], Result], items: Iterable[Item], threads: int, ahead: int) -> Iterator[Result]:
    """Yield work(item) in the items' order, computed on threads, at most `ahead` items before their turn.

    For work that waits or releases Python's lock: reading, decoding, writing. The caller's thread takes the items.
    """
    waiting: deque[Future] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) >= ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def shard_number(item: str) -> tuple[int, int]:
    """Read a scatter item 'i-of-n' as (i, n).

    Raises: InputError for another form, or a number outside 1..n.
    """
    try:
        number, count = (int(part) for part in item.split("-of-"))
    except ValueError:
        raise InputError(f"shard {item!r}: want i-of-n, e.g. 1-of-24") from None
    if not 1 <= number <= count:
        raise InputError(f"shard {item!r}: number {number} isn't in 1..{count}")
    return number, count


def some(offenders: Sequence[object]) -> str:
    """Join the first few offenders, and say how many more there are: 'a, b, c (and 12 more)'."""
    shown = ", ".join(str(offender) for offender in offenders[:LISTED])
    return shown if len(offenders) <= LISTED else f"{shown} (and {len(offenders) - LISTED} more)"
