"""Command lines made of typed functions; log files, progress lines, errors that people can read."""

import contextlib
import faulthandler
import inspect
import json
import logging
import os
import re
import shlex
import subprocess
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any, NoReturn, TextIO, TypeVar

from cyclopts import App, CycloptsError, Parameter
from cyclopts.validators import Number
from tqdm import tqdm

from freemask import __version__, devices, disks, watchdog
from freemask.errors import InputError

T = TypeVar("T")
RECORDED = ["numpy", "pandas", "pillow", "torch", "diffusers", "transformers"]  # packages that decide results
RECORDED += ["onedl-mmcv", "onedl-mmengine", "onedl-mmsegmentation"]
DONE = "FREEMASK_DONE"  # set by the wrapper of a Slurm job: file to make when all outputs are written
RESULT = "> "  # what lines of a log begin with that are a job's result
RESULTS_SHOWN = "FREEMASK_RESULTS_SHOWN"  # set where Snakemake's process shows results of jobs
SILENT = 5  # seconds before a bar shows itself
_terminal: TextIO = sys.stderr
_log: str | None = None  # path of the log file


def _parse_whole(type_: Any, tokens: Sequence[Any]) -> int:
    text = tokens[0].value
    if not re.fullmatch(r"-?[0-9]+", text):
        raise ValueError(f"{text!r} is not a whole number.")
    return int(text)


# Types of options. A list takes several values: --shards a.tsv b.tsv.
Json = Annotated[
    Any, Parameter(converter=lambda _, tokens: json.loads(tokens[0].value), accepts_keys=False, n_tokens=1)
]
Whole = Annotated[int, Parameter(converter=_parse_whole)]
Positive = Annotated[int, Parameter(converter=_parse_whole, validator=Number(gte=1))]
NotNegative = Annotated[int, Parameter(converter=_parse_whole, validator=Number(gte=0))]
Log = Annotated[Path | None, Parameter(help="Log file for everything printed; the terminal gets progress and errors.")]


def command_line(function: Callable[..., None]) -> App:
    """Make a command line of a function: options from its keyword-only parameters, help from its docstring.

    Every command line has the option --log as well. Calling the result gives the options as a dict.
    """

    def command(**options: Any) -> dict[str, Any]:
        return options

    signature = inspect.signature(function)
    log = inspect.Parameter("log", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Log)
    command.__signature__ = signature.replace(parameters=[*signature.parameters.values(), log])  # type: ignore[attr-defined]
    command.__doc__ = inspect.getdoc(function)
    options = Parameter(consume_multiple=True, negative=(), show_env_var=False)
    app = App(function.__name__, help_format="plaintext", version_flags=(), default_parameter=options)
    app.default(command)
    return app


def run(
    function: Callable[..., None],
    gpus: int = 0,
    watched: bool = True,
    hidden: Iterable[str] = (),
) -> None:
    """Run a script's function with the options of the command line; an InputError ends it with one line and code 1.

    Args:
        function: Typed function with keyword-only parameters.
        gpus: Number of the machine's GPUs to take first, if it has any; the function sees only these.
        watched: Whether a watchdog ends it if it hangs, where the environment asks for one.
        hidden: Packages that libraries import if they are installed, and that the function doesn't need.
    """
    options = _options(command_line(function))
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type] # an import of None fails
    log = options.pop("log", None)
    faulthandler.enable()
    try:
        _start_log(log)
        if gpus:
            devices.take(gpus, tell)
        if watched:
            watchdog.start(tell, log)
        function(**options)
        if _is_first() and (done := os.environ.get(DONE)):
            Path(done).touch()
    except InputError as error:
        message = str(error)
        if message.startswith("Caught InputError in DataLoader"):  # PyTorch makes a traceback of it
            message = message.rpartition("InputError: ")[2].strip()
        _fail(f"error: {message}")
    except Exception as error:
        trouble = disks.trouble(error)
        _fail(f"error: {trouble}" if trouble else traceback.format_exc())


def _is_first() -> bool:
    """Whether this is the first of the processes that torchrun or srun started, or the only one."""
    return os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) == "0"


def _fail(message: str) -> NoReturn:
    """End the process with code 1 and a message; the terminal gets it even if the log can't be written."""
    with contextlib.suppress(OSError):
        tell(message)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # Python would write what is left once more, fail with words of its own, and end with code 120
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    sys.exit(1)


def _options(app: App) -> dict[str, Any]:
    """The options of the command line, converted to the types of the function; --help and errors end the process."""
    try:
        options = app(print_error=False, exit_on_error=False, result_action="return_value")
    except CycloptsError as error:
        print(f"error: {' '.join(str(error).split())} See --help.", file=sys.stderr)
        sys.exit(2)
    if options is None:  # help was shown
        sys.exit(0)
    return options


def _start_log(path: Path | None) -> None:
    """Send everything printed to a log file; the terminal keeps progress and errors."""
    global _terminal, _log
    if path:
        _log = str(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        # torchrun's or srun's processes share a log; the first truncates it
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | (os.O_TRUNC if _is_first() else 0), 0o666)
        _terminal = os.fdopen(os.dup(2), "w", buffering=1)
        os.dup2(log, 1)  # at the file descriptor: warnings of C code and of imports go to the log as well
        os.dup2(log, 2)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s: %(message)s")
    if path:
        logger = logging.getLogger(__name__)
        logger.info("freemask %s, commit %s: %s", __version__, commit(), shlex.join(sys.argv))
        logger.info("packages: %s", ", ".join(" ".join(found) for found in versions(RECORDED).items()))


def commit() -> str:
    """The commit of the running code, for logs; 'unknown' outside a checkout of this repository."""
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():  # a tarball, perhaps unpacked inside another repository
        return "unknown"
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def versions(names: Iterable[str]) -> dict[str, str]:
    """Versions of those packages that are installed."""
    found = {}
    for name in names:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def tell(message: str) -> None:
    """Print a line for people: to the terminal, and to the log if there is one.

    What a script itself tells is its result: marked in the log, from which Snakemake's process shows it when the job
    is finished (freemask.workflow.terminal).
    """
    result = sys._getframe(1).f_globals["__name__"] == "__main__" and _terminal is not sys.stderr
    if not (result and RESULTS_SHOWN in os.environ):
        print(message, file=_terminal, flush=True)
    if _terminal is not sys.stderr:
        try:
            print(textwrap.indent(message, RESULT) if result else message, file=sys.stderr, flush=True)
        except OSError as error:
            error.filename = _log
            raise


class _Bar(tqdm):
    """A bar whose updates are progress to the watchdog."""

    def update(self, n: float = 1) -> bool | None:
        """Count n units."""
        shown = super().update(n)
        watchdog.beat(f"{self.desc}: {self.n} of {self.total or '?'} {self.unit}s")
        return shown


class _Lines:
    """A file for tqdm that turns redrawn bars into lines, since several jobs share one terminal."""

    def write(self, text: str) -> None:
        if text := text.strip("\r\n "):
            tell(text)

    def flush(self) -> None:
        """Unbuffered."""


def bar(description: str, total: int | None, unit: str, scaled: bool = False) -> tqdm:
    """A progress bar that prints a line at most every five seconds, none in the first SILENT: done, rate, time left.

    scaled: Show thousands as k, M, G.
    """
    seconds = {"mininterval": 5, "maxinterval": 30, "delay": SILENT}
    return _Bar(desc=description, total=total, unit=unit, unit_scale=scaled, file=_Lines(), ncols=90, **seconds)


def progress(items: Iterable[T], description: str, unit: str, total: int | None = None) -> Iterator[T]:
    """Iterate with a progress bar (see `bar`)."""
    if total is None and hasattr(items, "__len__"):
        total = len(items)
    with bar(description, total, unit) as shown:
        for item in items:
            yield item
            shown.update()
