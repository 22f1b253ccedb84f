"""The documentation keeps its word: commands are parsed as they are meant, links and paths exist, pages are listed."""

import re
import shlex
from pathlib import Path

import pytest
from snakemake.cli import get_argument_parser

ROOT = Path(__file__).parents[2]
PAGES = [
    *sorted(ROOT.glob("*.md")),
    ROOT / "config/README.md",
    ROOT / "profiles/README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
COMMANDS = [
    (page.relative_to(ROOT), line)
    for page in PAGES
    for block in re.findall(r"```(?:console|bash|sh)\n(.*?)```", page.read_text(), flags=re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
    if line.strip().startswith("snakemake ")
]


@pytest.mark.parametrize(("page", "line"), COMMANDS, ids=[line.strip()[:60] for _, line in COMMANDS])
def test_it_is_parsed(page, line):
    """Options like --resources and --configfile take all words behind them: a target there is no target."""
    words = shlex.split(line, comments=True)[1:]
    parsed = get_argument_parser().parse_args(words)
    assert all(str(path).endswith((".yaml", ".yml")) for path in parsed.configfile or ()), parsed.configfile
    assert len(COMMANDS) > 10


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_exist(page):
    found = re.findall(r"\]\(([^)\s]*)\)", page.read_text())
    for link in [link for link in found if "://" not in link]:
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def anchors(page: Path) -> set[str]:
    """What links to a page's headings end in, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_index_lists_every_page():
    listed = re.findall(r"\]\(([\w-]+\.md)\)", (ROOT / "docs/README.md").read_text())
    assert sorted(listed) == sorted({page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"})


def test_contributing_names_places_that_exist():
    table = (ROOT / "CONTRIBUTING.md").read_text().partition("## Where a change goes")[2].partition("\n## ")[0]
    rows = [row.split("|") for row in table.splitlines() if row.startswith("| ")][1:]
    assert len(rows) > 20
    for _, what, where, test, _ in rows:
        paths = re.findall(r"`((?:freemask|scripts|rules|config|envs|profiles|docs|tests)/[\w./*-]+)`", where + test)
        assert re.search(r"`tests/", test), what
        assert [path for path in paths if not any(ROOT.glob(path.rstrip("/")))] == [], what
        for table_name, path in re.findall(r"`([A-Z]+)` in `([\w./]+)`", where):
            assert re.search(rf"^{table_name}\b.* = ", (ROOT / path).read_text(), re.MULTILINE), what


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 180
