"""Plug-ins: named by an entry of a table, or as "package.module:object" if they are defined elsewhere."""

import os
import pkgutil
import re
import sys
from collections.abc import Mapping
from typing import Any

from freemask.errors import InputError

PATTERN = r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*"  # package.module:object


def find(table: Mapping[str, Any], name: str, what: str) -> Any:
    """Find an object by its name in a table, or by "package.module:object".

    Entries of a table may be such texts themselves, so that a table can be read without importing what it names.

    Args: table: e.g. STRATEGIES; name: as in the configuration; what: what messages call it, e.g. "strategy".
    Raises: InputError for an unknown name, or a module or object that can't be imported.
    """
    entry = table.get(name, name)
    if not isinstance(entry, str):
        return entry
    if not re.fullmatch(PATTERN, entry):
        raise InputError(f"{what} {name!r} isn't known; use one of {', '.join(table)}, or package.module:object")
    search_working_directory()
    for package in [package for package, module in sys.modules.items() if module is None]:
        del sys.modules[package]  # hidden from libraries alone (cli.run)
    try:
        return pkgutil.resolve_name(entry)
    except (ImportError, AttributeError) as error:
        raise InputError(f"{what} {name!r} can't be imported ({error}); check the name, or PYTHONPATH") from None


def search_working_directory() -> None:
    """Let Python find plug-ins in the working directory."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
