"""Settings as people write them: YAML without surprises, ~ and $VARIABLE, checked against a schema.

One error names file, key, value and remedy.
"""

import json
import os
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator, ValidationError
from jsonschema.exceptions import best_match
from jsonschema.validators import extend

from freemask import plugins
from freemask.errors import InputError
from freemask.files import read_text
from freemask.filtering.filters import FILTERS
from freemask.generation.generators import GENERATORS
from freemask.generation.schedulers import SCHEDULERS
from freemask.segmentation.regimes import REGIMES, SAMPLERS
from freemask.selection.strategies import STRATEGIES
from freemask.workflow.places import ROOT

# What a schema's keyword "choices" names: the names of a table, or package.module:object.
CHOICES = {
    "filter": FILTERS,
    "method": GENERATORS,
    "regime": REGIMES,
    "sampler": SAMPLERS,
    "scheduler": SCHEDULERS,
    "strategy": STRATEGIES,
}
RENAMED = {"kind": "method"}  # keys of earlier versions
# What the schemas' patterns ask for, in words.
PATTERNS = {
    r"^[A-Za-z0-9][A-Za-z0-9_.-]*$": "letters, digits, '_', '.' and '-', with a letter or digit first",
    r"^[A-Za-z0-9_-]+$": "letters, digits, '_' and '-'",
    r"^[0-9]{1,9}(,[0-9]{1,9})*$": "whole numbers of at most 9 digits joined by commas, e.g. 0,1,2",
    r"^#[0-9a-fA-F]{6}$": "'#' and six hexadecimal digits, in quotes, e.g. \"#2060a0\"",
    r"^\S+$": "text without spaces",
    r"^[0-9a-f]{64}$": "64 hexadecimal digits in small letters",
    r"^[0-9a-f]{8,64}$": "8 to 64 hexadecimal digits in small letters",
    r"^.*\.[A-Za-z]+$": "an end with the dot, e.g. .jpg or _rgb.png",
    r"^.*\.([pP][nN][gG]|[tT][iI][fF][fF]?)$": "an end in .png, .tif or .tiff: other formats change labels",
    r"^https?://.+/[^/?#]+$": "the web address of a file, https://...",
    r"^https?://.*[^/]$": "the web address of a file, https://...",
    r"^hf://[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+@[0-9a-f]{40}$": "hf://owner/name@commit, with all 40 digits of the commit",
    r"^(\.|[^/.][^/]*(/[^/.][^/]*)*)$": "a folder below root, e.g. images/train, or .",
    r"(^|/)plot_\w+\.py$": "the path of a script plot_<name>.py",
    r"^mmseg::.+\.py$": "mmseg:: and the path of a config, mmseg::segformer/segformer_...-512x512.py",
    r"^[^/]": "a path relative to the working directory",
}
SCHEMAS = ROOT / "config/schemas"


def read_yaml(path: str | Path) -> Any:
    """Read a YAML file; InputError where it is missing or isn't YAML."""
    try:
        return yaml.load(read_text(path, "check the name where the configuration mentions it"), Loader)
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not valid YAML; mend it: {error}") from None


class Loader(yaml.SafeLoader):
    """YAML that is read as people mean it: no key stands twice, 010 isn't 8, 3e-3 is a number."""

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        """A mapping whose keys differ, as it is written: merging puts a key there twice."""
        node = super().compose_mapping_node(anchor)
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<" and keys.count(key.value) > 1:
                raise yaml.MarkedYAMLError(None, None, f"the key {key.value!r} stands twice", key.start_mark)
        return node

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """A whole number, in decimal digits."""
        if re.match(r"[-+]?0[0-9]|.*:", node.value):
            what = f"{node.value} would be read as {super().construct_yaml_int(node)}; write that, or put it in quotes"
            raise yaml.MarkedYAMLError(None, None, what, node.start_mark)
        return super().construct_yaml_int(node)


Loader.add_constructor("tag:yaml.org,2002:int", Loader.construct_yaml_int)
Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+$"), list("+-0123456789")
)


def expand(value: Any, source: str | Path) -> Any:
    """A copy of settings with ~ and $VARIABLE resolved at the start of each value, as a shell does.

    Raises: InputError for a variable that isn't set.
    """
    if isinstance(value, dict):
        return {key: expand(inner, source) for key, inner in value.items()}
    if isinstance(value, list):
        return [expand(inner, source) for inner in value]
    if not (isinstance(value, str) and value.startswith(("~", "$"))):
        return value
    path = os.path.expandvars(os.path.expanduser(value))
    if path.startswith(("~", "$")):
        raise InputError(f"{source}: {value}: no such user or environment variable here; set it, or write the path out")
    return path


def _choices(_validator: Any, table: str, name: Any, _schema: dict) -> Iterator[ValidationError]:
    """The schema keyword "choices": a name of the table, or package.module:object."""
    if isinstance(name, str) and name not in CHOICES[table] and not re.fullmatch(plugins.PATTERN, name):
        yield ValidationError(f"{name!r} is not one of {list(CHOICES[table])}, nor package.module:object")


NUMBERS = Draft202012Validator.TYPE_CHECKER.redefine_many(
    {
        "integer": lambda _, value: type(value) is int,  # 64.0 isn't one to a command line
        "number": lambda _, value: type(value) in (int, float) and value == value,  # NaN isn't one
    }
)
Validator = extend(Draft202012Validator, {"choices": _choices}, type_checker=NUMBERS)


def check_schema(value: Any, schema: str, source: str | Path) -> None:
    """Check a value against config/schemas/{schema}.schema.json.

    Raises: InputError naming source, key, value and what the schema says of the key.
    """
    rules = json.loads((SCHEMAS / f"{schema}.schema.json").read_text())
    errors = list(Validator(rules).iter_errors(value))
    unknown = [error for error in errors if error.validator == "additionalProperties"]  # a misspelt key is missing, too
    error = best_match(unknown or errors)
    if error is None:
        return
    key = ".".join(str(part) for part in error.absolute_path) or "(top level)"
    if error.validator == "additionalProperties":
        raise InputError(f"{source}: {key}: {_unknown_key(error)}")
    if error.validator == "required":
        raise InputError(f"{source}: {key}: {error.message}; add it ({error.schema.get('description', 'see README')})")
    value, message = (textwrap.shorten(text, 120) for text in (repr(error.instance), error.message))
    described = error.schema.get("description", "see docs/configuration.md")
    if error.validator == "pattern":
        message = f"want {PATTERNS[error.validator_value]}"
    raise InputError(f"{source}: {key} = {value}: {message}; {described}")


def _unknown_key(error: ValidationError) -> str:
    """What to say of the first unknown key: its new name, or the known ones."""
    known = error.schema["properties"]
    name = next(name for name in error.instance if name not in known)
    if RENAMED.get(name) in known:
        return f"key {name!r} is now called {RENAMED[name]!r}; rename it"
    return f"unknown key {name!r}; remove it or use one of: {', '.join(known)}"
