"""Share of the time in which GPUs are busy, with shards that sleep, through profiles/slurm; see `slurm_busy`."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import numpy as np

from freemask import cli

ROOT = Path(__file__).parents[1]
WORKFLOW = """
from freemask.workflow import slurm
slurm.export()
rule all:
    input: expand("{shard}.done", shard=range(SHARDS))
rule synthesize:
    output: "{shard}.done"
    resources: gpu=1, runtime=60, mem_mb=1000
    params: seconds=lambda wildcards: LENGTHS[int(wildcards.shard)]
    shell: "sleep {params.seconds}; touch {output}"
"""
FIELDS = "start,end,alloctres,workdir"


def slurm_busy(
    *,
    gpus: cli.Positive = 24,
    shards: cli.Positive = 120,
    seconds: cli.Positive = 100,
    spread: float = 0.05,
    own_slurm: bool = False,
) -> None:
    """Run shards that sleep through profiles/slurm, and tell how busy their GPUs were, from sacct.

    Busy: GPU seconds of all jobs, of the GPU seconds between the first start and the last end. A perfect scheduler,
    that starts the next shard at once on the GPU that is free first, gives the upper limit for these lengths.

    Args:
        gpus: GPUs of the cluster, a multiple of 8 with --own-slurm.
        shards: Number of shards, one GPU each.
        seconds: Mean length of a shard.
        spread: Lengths are uniform in seconds * (1 +- spread).
        own_slurm: Start a Slurm with so many pretended GPUs on this machine (as root; see `make test-slurm`).
    """
    lengths = np.random.default_rng(0).uniform(1 - spread, 1 + spread, shards) * seconds
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="busy", dir=None if own_slurm else ".")))
        env = stack.enter_context(_own_slurm(gpus // 8)) if own_slurm else os.environ
        run(folder.resolve(), lengths, env)
        found = measure(folder.resolve(), gpus, env)
    cli.tell(f"{shards} shards of {lengths.min():.0f} to {lengths.max():.0f} s on {gpus} GPUs")
    cli.tell("first start to last end: {span:.0f} s; busy: {busy:.1%}".format(**found))
    cli.tell(
        "idle before first jobs {first:.1%}, between jobs {between:.1%}, after last jobs {last:.1%}".format(**found)
    )
    cli.tell(f"a perfect scheduler with these lengths: {perfect(lengths, gpus):.1%}")


def run(folder: Path, lengths: np.ndarray, env: Mapping[str, str]) -> None:
    """Run the workflow in a folder."""
    given = f"SHARDS = {len(lengths)}\nLENGTHS = {lengths.round(1).tolist()}\n"
    (folder / "Snakefile").write_text(given + WORKFLOW)
    shutil.copytree(ROOT / "profiles", folder / "profiles")
    (folder / "slurm").symlink_to("profiles/slurm")
    command = [sys.executable, "-m", "snakemake", "--profile", "slurm", "all"]
    paths = f"{ROOT}:{env.get('PYTHONPATH', '')}"
    with open(folder / "printed.txt", "w") as out:
        done = subprocess.run(command, cwd=folder, env={**env, "PYTHONPATH": paths}, stdout=out, stderr=out)
    if done.returncode:
        raise RuntimeError((folder / "printed.txt").read_text()[-3000:])


def measure(folder: Path, gpus: int, env: Mapping[str, str]) -> dict[str, float]:
    """Seconds from first start to last end; shares of the GPUs' time: busy, idle before, between and after jobs."""
    command = ["sacct", "-X", "-D", "-n", "-P", "--starttime=now-1day", "-o", FIELDS]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True, timeout=60)
    rows = [line.split("|") for line in done.stdout.splitlines()]
    times = [(_seconds(start), _seconds(end)) for start, end, tres, place in rows if place == str(folder) and tres]
    starts, ends = np.array(times).T
    span = ends.max() - starts.min()
    whole = gpus * span
    busy = (ends - starts).sum() / whole
    first = (np.sort(starts)[:gpus] - starts.min()).sum() / whole
    last = (ends.max() - np.sort(ends)[-gpus:]).sum() / whole
    return {"span": span, "busy": busy, "first": first, "between": 1 - busy - first - last, "last": last}


def perfect(lengths: np.ndarray, gpus: int) -> float:
    """Share of busy time if each shard, in order, starts at once on the GPU that is free first."""
    free = np.zeros(gpus)
    for length in lengths:
        free[free.argmin()] += length
    return lengths.sum() / (gpus * free.max())


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@contextlib.contextmanager
def _own_slurm(nodes: int):
    """Environment of a Slurm of the tests with this number of nodes of eight GPUs."""
    sys.path.insert(0, str(ROOT / "tests/slurm"))
    from cluster import Cluster

    folder = Path(tempfile.mkdtemp(prefix="slurm"))
    try:
        with Cluster(folder, gpu_nodes=nodes) as cluster:
            yield cluster.env
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    cli.run(slurm_busy)
