"""The same function over many files, on several processes."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

from freemask import cli
from freemask.errors import InputError

Item = TypeVar("Item")
Result = TypeVar("Result")
LISTED = 5  # offenders that an error names; it counts the others


def map_files(
    work: Callable[[Item], Result], items: Sequence[Item], processes: int, description: str, unit: str
) -> Iterator[Result]:
    """Yield work(item) in the items' order, with a progress bar; `work`: a module-level function or a partial of one.

    Raises: InputError if processes < 1; whatever `work` raises, at the item's turn.
    """
    if processes < 1:
        raise InputError(f"--threads {processes}: want 1 or more")
    if processes == 1:
        yield from cli.progress(map(work, items), description, unit, total=len(items))
        return
    with ProcessPoolExecutor(processes) as pool:
        chunk = max(1, min(64, len(items) // (processes * 4)))
        results = pool.map(work, items, chunksize=chunk)
        try:
            yield from cli.progress(results, description, unit, total=len(items))
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def some(offenders: Sequence[object]) -> str:
    """The first few offenders as text, and how many more there are: 'a, b, c (and 12 more)'."""
    shown = ", ".join(str(offender) for offender in offenders[:LISTED])
    return shown if len(offenders) <= LISTED else f"{shown} (and {len(offenders) - LISTED} more)"
