"""The code that a script's result depends on, found from its imports."""

import ast
import hashlib
import importlib.util
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from freemask import plugins
from freemask.workflow.places import ROOT

PACKAGE = "freemask"
# logs, GPU locks, messages, ends of jobs
SHAPELESS = {ROOT / PACKAGE / f"{name}.py" for name in ("cli", "devices", "disks", "errors", "stopping", "watchdog")}


@cache
def code_digest(script: str | Path, *plugged_in: str) -> str:
    """Digest of a script and of every module of this package that it imports, directly or not.

    Comments, docstrings and layout don't count: a better sentence starts no job. Neither do modules that shape no
    output (SHAPELESS).

    Args: script: name of a file in scripts/, without suffix, or the path of a script from elsewhere; plugged_in: names
        from the configuration; one of the form package.module:object counts with its module's file.
    Returns: 12 hex digits.
    """
    content = hashlib.sha256()
    for path in sorted(code_files(script) - SHAPELESS):
        shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path.name
        content.update(f"{shown}\n{_read(path)[1]}\n".encode())
    for name in plugged_in:
        if path := _outside(name):
            content.update(f"{name}\n{_read(path)[1]}\n".encode())
    return content.hexdigest()[:12]


def code_files(script: str | Path) -> set[Path]:
    """A script and the files of this package that it imports, also inside functions and through other modules."""
    found: set[Path] = set()
    waiting = [script if isinstance(script, Path) else ROOT / "scripts" / f"{script}.py"]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += _read(path)[0]
    return found


@cache
def _read(path: Path) -> tuple[frozenset[Path], str]:
    """The files of this package that a file imports, and its statements without comments, docstrings and layout."""
    tree, names = ast.parse(path.read_bytes()), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:  # of `from a.b import c` both a.b and a.b.c
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Constant):
            if isinstance(node.value, str) and ":" in node.value and re.fullmatch(plugins.PATTERN, node.value):
                names.add(node.value.partition(":")[0])
        elif isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            match node.body:
                case [ast.Expr(ast.Constant(str())), *_]:  # a docstring
                    node.body[0].value.value = ""  # type: ignore[attr-defined]
    return frozenset(file for name in names for file in _files(name)), ast.dump(tree)


def _files(name: str) -> Iterator[Path]:
    """The files that importing a dotted name of this package runs: its packages' __init__.py and its module."""
    parts = name.split(".")
    if parts[0] != PACKAGE:
        return
    for depth in range(1, len(parts) + 1):
        path = ROOT.joinpath(*parts[:depth])
        for file in (path / "__init__.py", path.with_suffix(".py")):
            if file.is_file():
                yield file


def _outside(name: str) -> Path | None:
    """The file of a plug-in named package.module:object; None for a name of a table, or a module that isn't found."""
    if not re.fullmatch(plugins.PATTERN, name):
        return None
    plugins.search_working_directory()
    try:
        found = importlib.util.find_spec(name.partition(":")[0])
    except ImportError:
        return None
    return Path(found.origin) if found and found.origin else None
