"""docs/faults.md: a row for each fault that a test makes on a real Slurm."""

import re
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent
PAGE = FOLDER.parents[1] / "docs/faults.md"
HEAD = """# Faults on a cluster

What `snakemake --profile slurm all` does when something goes wrong. `make test-slurm` makes each fault on a real Slurm
with accounting, and writes this table from what it saw. The jobs are shards of synthesis with noise for a generator.
"Lost" is the limit that the test sets to images that are generated a second time. "Equal" compares the SHA-256 of every
result with that of an undisturbed run. An empty second column: the user sees nothing, since the job resumes by itself.

| fault | what the user sees | lost | equal | test |
|---|---|---|---|---|
"""


class Row(NamedTuple):
    """A row of the table; `test` is the name of the test function."""

    fault: str
    saw: str
    lost: str
    equal: str
    test: str


def tests() -> list[str]:
    """Names of the tests of faults: those that take the fixture `same`."""
    texts = [path.read_text() for path in sorted(FOLDER.glob("test_*.py"))]
    return [name for text in texts for name in re.findall(r"^def (test_\w+)\([^)]*\bsame\b", text, flags=re.MULTILINE)]


def plain(line: str) -> str:
    """A line without what differs from run to run: numbers of jobs, times."""
    line = re.sub(r"\d+:\d\d:\d\d|\d{4}-\d\d-\d\dT[\d:]+", "<time>", line)
    line = re.sub(r"\b(shard-|gpu)\d+", r"\1N", line)
    line = re.sub(r"\b(jobs?|jobid:?|job id|id)(s?:? '?)\d+", r"\1\g<2>N", line, flags=re.IGNORECASE)
    return "" if not line else "`" + " ".join(line.replace("|", "\\|").replace("`", "'").split()) + "`"


def text(rows: list[Row]) -> str:
    """The page, in the order of the tests."""
    order = tests()
    lines = [
        f"| {row.fault} | {row.saw} | {row.lost} | {row.equal} | `{row.test}` |"
        for row in sorted(rows, key=lambda row: order.index(row.test))
    ]
    return HEAD + "\n".join(lines) + "\n"


def listed() -> list[str]:
    """Names of the tests in the page."""
    return re.findall(r"\| `(test_\w+)` \|$", PAGE.read_text(), flags=re.MULTILINE)
