"""What every script shares: a log file, progress lines on the terminal, errors that people can read."""

import argparse
import logging
import os
import shlex
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TextIO, TypeVar

from tqdm import tqdm

from freemask import __version__, devices
from freemask.errors import InputError

T = TypeVar("T")
_terminal: TextIO = sys.stderr


def parser(description: str | None) -> argparse.ArgumentParser:
    """An argument parser with the --log option that every script has."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--log", type=Path, help="write everything printed here; the terminal gets progress and errors")
    return made


def run(main: Callable[[argparse.Namespace], None], arguments: argparse.Namespace, gpus: int = 0) -> None:
    """Run a script's main with its output in the log; an InputError ends it with one readable line and code 1.

    gpus: how many GPUs of the machine are taken first, where there are any; main sees only these.
    """
    global _terminal
    if arguments.log:
        arguments.log.parent.mkdir(parents=True, exist_ok=True)
        _terminal = os.fdopen(os.dup(2), "w", buffering=1)
        first = os.environ.get("RANK", "0") == "0"  # torchrun's processes share one log; the first starts it anew
        log = os.open(arguments.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | (os.O_TRUNC if first else 0), 0o644)
        os.dup2(log, 1)  # at the file descriptor: warnings of C code and of imports go to the log as well
        os.dup2(log, 2)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s: %(message)s")
    logging.getLogger(__name__).info("freemask %s, commit %s: %s", __version__, commit(), shlex.join(sys.argv))
    try:
        if gpus:
            devices.take(gpus)
        main(arguments)
    except InputError as error:
        message = str(error)
        if message.startswith("Caught InputError in DataLoader"):  # PyTorch makes a traceback of it
            message = message.rpartition("InputError: ")[2].strip()
        tell(f"error: {message}")
        sys.exit(1)
    except Exception:
        tell(traceback.format_exc())
        sys.exit(1)


def commit() -> str:
    """The commit of the code that runs, for the log; 'unknown' outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def tell(message: str) -> None:
    """Print a line for people: to the terminal, and to the log if there is one."""
    print(message, file=_terminal, flush=True)
    if _terminal is not sys.stderr:
        print(message, file=sys.stderr, flush=True)


class _Lines:
    """A file for tqdm that turns redrawn bars into lines, since several jobs share one terminal."""

    def write(self, text: str) -> None:
        text = text.strip("\r\n ")
        if text:
            tell(text)

    def flush(self) -> None:
        """Nothing is held back."""


def bar(description: str, total: int | None, unit: str, scaled: bool = False) -> tqdm:
    """A progress bar that prints a line at most every five seconds: done, rate, remaining time.

    scaled: thousands as k, M, G.
    """
    return tqdm(
        desc=description,
        total=total,
        unit=unit,
        unit_scale=scaled,
        file=_Lines(),
        mininterval=5,
        maxinterval=30,
        ncols=90,
    )


def progress(items: Iterable[T], description: str, unit: str, total: int | None = None) -> Iterator[T]:
    """Iterate with a progress bar (see `bar`)."""
    if total is None and hasattr(items, "__len__"):
        total = len(items)
    with bar(description, total, unit) as shown:
        for item in items:
            yield item
            shown.update()
