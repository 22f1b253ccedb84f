"""Snakemake's own parser takes every command of the documentation, with its targets as targets."""

import re
import shlex
from pathlib import Path

import pytest
from snakemake.cli import get_argument_parser

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "config/README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = [
    (page.relative_to(ROOT), line)
    for page in PAGES
    for block in re.findall(r"```(?:console|bash|sh)\n(.*?)```", page.read_text(), flags=re.DOTALL)
    for line in block.splitlines()
    if line.strip().startswith("snakemake ")
]


@pytest.mark.parametrize(("page", "line"), COMMANDS, ids=[line.strip()[:60] for _, line in COMMANDS])
def test_it_is_parsed(page, line):
    """Options like --resources and --configfile take all words behind them: a target there is no target."""
    words = shlex.split(line, comments=True)[1:]
    parsed = get_argument_parser().parse_args(words)
    assert all(str(path).endswith((".yaml", ".yml")) for path in parsed.configfile or ()), parsed.configfile
    assert len(COMMANDS) > 10
