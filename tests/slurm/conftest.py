"""A cluster per test file; what each fault showed, collected into docs/faults.md by `make test-slurm`."""

import inspect
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import faults_page
import pytest
from cluster import Cluster, missing, wait_until
from runs import SNAKEMAKE, Run


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without Slurm's packages: the tests of `make test` say so, those of `make test-slurm` fail in Cluster."""
    if problem := missing():
        for item in items:
            if item.get_closest_marker("slurm") and not item.get_closest_marker("slurm_long"):
                item.add_marker(pytest.mark.skip(reason=f"no Slurm to test with: {problem}"))


@pytest.fixture(scope="module")
def cluster(request) -> Iterator[Cluster]:
    """A cluster for the tests of one file; the file's CLUSTER holds options of Cluster."""
    # Not pytest's folder: the paths of sockets must be short.
    folder = Path(tempfile.mkdtemp(prefix="slurm"))
    started = Cluster(folder, **getattr(request.module, "CLUSTER", {}))
    try:
        with started:
            yield started
        wait_until(lambda: not started.processes(), 10, f"the end of processes {started.processes()}")
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def run(cluster, tmp_path) -> Iterator[Callable[..., Run]]:
    """Make a Run on the cluster; what is left of it at the test's end is cancelled and killed."""
    made: list[Run] = []

    def make(**options: object) -> Run:
        made.append(Run(cluster, tmp_path / f"run-{len(made)}", **options))
        return made[-1]

    yield make
    for each in made:
        each.kill()
        if jobs := each.jobs():
            cluster.run(["scancel", *jobs])


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory) -> Callable[[Run], dict[str, str]]:
    """SHA-256 of every result of a run's twin on this machine, that nothing disturbs."""
    known: dict[tuple, dict[str, str]] = {}

    def hashes(run: Run) -> dict[str, str]:
        shape = (len(run.settings["shards"]), run.settings["images"])
        if shape not in known:
            twin = Run(None, tmp_path_factory.mktemp("undisturbed") / "run", *shape, seconds=0)
            assert twin.execute([*SNAKEMAKE, "--cores", "2"], seconds=120) == 0
            known[shape] = twin.hashes()
        return known[shape]

    return hashes


@pytest.fixture
def same(undisturbed, request, record_property) -> Callable[..., None]:
    """Assert what a fault may cost, and note a row of docs/faults.md."""

    def check(run: Run, saw: str, lost: int) -> None:
        """Every result as an undisturbed run has it, after at most `lost` images that were generated again.

        saw: Regular expression of what tells the user; "" where there is nothing to tell.
        """
        assert run.hashes() == undisturbed(run)
        assert run.lost() <= lost, run.events("image")
        note(run, saw, f"at most {lost} image{'s'[: lost - 1]} in work" if lost else "nothing", "yes")

    def note(run: Run, saw: str, lost: str, equal: str) -> None:
        """Note a row for a fault after which there are no results, or others."""
        shown = run.text().replace(f"{run.folder}/", "").replace(str(run.folder), ".")
        found = re.search(saw, shown)
        assert found, f"no {saw!r} in\n{shown}"
        name = inspect.getdoc(request.function).splitlines()[0].rstrip(".")
        row = faults_page.Row(name, faults_page.plain(found[0]), lost, equal, request.node.name)
        record_property("fault", row._asdict())

    check.note = note
    return check


def pytest_terminal_summary(terminalreporter, config) -> None:
    """Write docs/faults.md if every fault was tested and passed."""
    if hasattr(config, "workerinput"):
        return
    rows = [
        faults_page.Row(**value)
        for report in terminalreporter.stats.get("passed", [])
        for key, value in report.user_properties
        if key == "fault"
    ]
    if {row.test for row in rows} == set(faults_page.tests()):
        faults_page.PAGE.write_text(faults_page.text(rows))
        terminalreporter.write_line(f"wrote {faults_page.PAGE}")
    elif rows:
        terminalreporter.write_line(f"{faults_page.PAGE.name} is as it was: not every fault was tested and passed")
