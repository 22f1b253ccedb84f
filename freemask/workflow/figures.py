"""Figures: each is drawn by a script scripts/plot_<name>.py, whose typed function declares its inputs.

The function's parameters name artefacts of the workflow, e.g. `hardness`; the first paragraph of its docstring is the
figure's caption in the report. `figures: list[Path]` asks for a PNG and a PDF, `figure: Path` for a PNG alone.
"""

import ast
import inspect
import re
import shlex
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from freemask.errors import InputError
from freemask.workflow.places import ROOT

SCRIPTS = ROOT / "scripts"
OUTPUTS = {"figures": ("png", "pdf"), "figure": ("png",)}


@dataclass(frozen=True)
class Figure:
    """One figure of each data set: its script, the artefacts that its function takes, its caption in the report.

    output: The parameter that takes the paths of the outputs (see OUTPUTS).
    """

    script: Path
    parameters: tuple[str, ...]
    output: str
    caption: str

    @property
    def name(self) -> str:
        """The name of its files, e.g. hardness."""
        return self.script.stem.removeprefix("plot_")

    @property
    def suffixes(self) -> tuple[str, ...]:
        """The suffixes of its files."""
        return OUTPUTS[self.output]

    def choose(self, table: Mapping[str, Any]) -> dict[str, Any]:
        """The entries of a table of artefacts that its function takes."""
        return {name: table[name] for name in self.parameters if name in table}


def read_figures(outside: Iterable[Path], artefacts: Collection[str]) -> list[Figure]:
    """The figures of this repository and those of scripts outside it.

    Args: outside: scripts plot_<name>.py; artefacts: names that a function may ask for.
    Raises: InputError for a script that isn't there or has no such function, an unknown artefact, or two figures of
        one name.
    """
    found: dict[str, Figure] = {}
    for script in (*sorted(SCRIPTS.glob("plot_*.py")), *outside):
        figure = read_figure(script, artefacts)
        if figure.name in found:
            raise InputError(f"figures: {found[figure.name].script} and {script} have the same name; rename one")
        found[figure.name] = figure
    return list(found.values())


def read_figure(script: Path, artefacts: Collection[str]) -> Figure:
    """Read what a script's function declares, without importing it.

    Raises: InputError as `read_figures`.
    """
    try:
        tree = ast.parse(script.read_bytes())
    except OSError as error:
        raise InputError(f"figures: {script}: {error.strerror}; check the path") from None
    except SyntaxError as error:
        raise InputError(f"figures: {script}: not Python ({error})") from None
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    if not re.fullmatch(r"plot_[a-z0-9_]+\.py", script.name) or script.stem not in functions:
        raise InputError(f"figures: {script}: name the script plot_<name>.py, and its function the same")
    function = functions[script.stem]
    names = [parameter.arg for parameter in function.args.kwonlyargs]
    defaults = dict(zip(names, function.args.kw_defaults, strict=True))
    output = [name for name in OUTPUTS if name in defaults]
    if len(output) != 1:
        raise InputError(f"figures: {script}: {script.stem}() takes its outputs as figures: list[Path] or figure: Path")
    unknown = [name for name, default in defaults.items() if default is None and name not in {*artefacts, *output}]
    if unknown:
        raise InputError(f"figures: {script}: no artefact {unknown[0]!r}; use {', '.join(sorted(artefacts))}")
    caption = inspect.cleandoc(ast.get_docstring(function) or "").split("\n\n")[0]
    if not caption:
        raise InputError(f"figures: {script}: {script.stem}() has no docstring; its first paragraph is the caption")
    return Figure(script, tuple(name for name in defaults if name in artefacts), output[0], caption)


def options(values: Mapping[str, Any]) -> str:
    """Command-line options with their values quoted for the shell: a text or number each, or a list."""
    words = []
    for name, value in values.items():
        option = "--" + name.replace("_", "-")
        single = not isinstance(value, str) and isinstance(value, Iterable)
        words += [option, *map(str, value)] if single else [f"{option}={value}"]
    return shlex.join(words)
