"""Run a script's function in this process, as its command line would."""

import importlib.util
from pathlib import Path
from types import ModuleType

from freemask.cli import command_line

FOLDER = Path(__file__).resolve().parents[2] / "scripts"


def load(name: str) -> ModuleType:
    """Import scripts/<name>.py."""
    spec = importlib.util.spec_from_file_location(f"scripts_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_script(name: str, **options: object) -> None:
    """Run a script with options, e.g. run_script("filter_masks", alpha="inf", threads=2).

    Lists become several values, True a flag; None and False leave an option out.
    """
    argv = []
    for option, value in options.items():
        if value is None or value is False:
            continue
        argv.append("--" + option.replace("_", "-"))
        if value is not True:
            argv += [str(one) for one in value] if isinstance(value, list | tuple) else [str(value)]
    run_line(name, argv)


def run_line(name: str, argv: list[str]) -> None:
    """Run a script with the words of a command line; --log is left out."""
    function = getattr(load(name), name)
    parsed = command_line(function)(argv, print_error=False, exit_on_error=False, result_action="return_value")
    parsed.pop("log", None)
    function(**parsed)
