"""Run a script's main in this process, as its command line would."""

import importlib.util
from pathlib import Path
from types import ModuleType

FOLDER = Path(__file__).resolve().parents[2] / "scripts"


def load(name: str) -> ModuleType:
    """Import scripts/<name>.py."""
    spec = importlib.util.spec_from_file_location(f"scripts_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_script(name: str, **options: object) -> None:
    """Run main with options, e.g. run_script("filter_masks", alpha="inf", threads=2); lists become several values."""
    module, argv = load(name), []
    for option, value in options.items():
        argv.append("--" + option.replace("_", "-"))
        argv += [str(one) for one in value] if isinstance(value, list | tuple) else [str(value)]
    module.main(module.options().parse_args(argv))
