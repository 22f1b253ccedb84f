"""docs/configuration.md names every key of every schema, each in the section of its file."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "config"
PAGE = ROOT / "docs/configuration.md"
SCHEMAS = sorted((CONFIG / "schemas").glob("*.schema.json"))
SECTIONS = {
    "config": "`config.yaml`, `demo.yaml`",
    "dataset": "`datasets/<dataset>.yaml`",
    "experiments": "`experiments.tsv`, `demo_experiments.tsv`",
    "models": "`models.yaml`",
}


def keys(schema: dict) -> set[str]:
    """Names of all properties of a schema, at any depth."""
    found = set(schema.get("properties", {}))
    for value in schema.values():
        for inner in value if isinstance(value, list) else [value]:
            found |= keys(inner) if isinstance(inner, dict) else set()
    return found


def documented(section: str) -> set[str]:
    """Names in code in the first column of a section's tables; of a.b both parts."""
    text = PAGE.read_text()
    body = re.split(r"^## ", text.partition(f"\n## {section}\n")[2], flags=re.MULTILINE)[0]
    return {part for name in re.findall(r"^\| `([\w.]+)` \|", body, re.MULTILINE) for part in name.split(".")}


def test_keys_are_found_at_any_depth():
    schema = {"properties": {"a": {"additionalProperties": {"properties": {"b": {"type": "string"}}}}}}
    assert keys(schema | {"$defs": {"x": {"properties": {"c": {}}}}}) == {"a", "b", "c"}


@pytest.mark.parametrize("path", SCHEMAS, ids=lambda path: path.name)
def test_every_key_is_explained(path):
    required = keys(json.loads(path.read_text()))
    # the splits of a data set's folders share the rows of `images` and `masks`
    explained = documented(SECTIONS[path.name.partition(".")[0]]) | {"train", "val", "test"}
    assert required
    assert required - explained == set()


@pytest.mark.parametrize("path", SCHEMAS, ids=lambda path: path.name)
def test_nothing_else_is_explained(path):
    required = keys(json.loads(path.read_text()))
    assert documented(SECTIONS[path.name.partition(".")[0]]) - required == set()


def test_columns_of_class_tables_are_explained():
    for table in (CONFIG / "datasets").glob("*.tsv"):
        columns = table.read_text().partition("\n")[0].split("\t")
        assert documented("Class tables `datasets/<dataset>.tsv`") == set(columns)


def test_the_folder_points_to_the_page():
    assert "(../docs/configuration.md)" in (CONFIG / "README.md").read_text()
