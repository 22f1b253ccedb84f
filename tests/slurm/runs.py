"""A small workflow in a folder of its own, started through `--profile slurm` and watched while it runs."""

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from cluster import Cluster, wait_until

ROOT = Path(__file__).parents[2]
TOY = Path(__file__).parent / "toy"
SNAKEMAKE = [sys.executable, "-m", "snakemake"]
# A small cluster may be asked often.
POLLING = ["--seconds-between-status-checks", "2", "--latency-wait", "5"]


class Run:
    """The toy workflow in `folder`, which needs not exist.

    Args:
        cluster: Where it runs; None: only on this machine.
        folder: Of the workflow.
        shards: Number of jobs.
        images: Images of a job.
        seconds: That an image takes.
        resources: Of the jobs, e.g. slurm_partition, runtime [minutes].
    """

    def __init__(
        self, cluster: Cluster | None, folder: Path, shards: int = 2, images: int = 8, seconds: float = 1, **resources
    ):
        self.cluster, self.folder = cluster, folder
        shutil.copytree(TOY, folder, dirs_exist_ok=True)
        shutil.copytree(ROOT / "profiles", folder / "profiles")
        (folder / "slurm").symlink_to("profiles/slurm")
        self.settings = {"shards": list(range(shards)), "images": images, "seconds": seconds, "resources": resources}
        self.change()
        paths = [str(ROOT), os.environ.get("PYTHONPATH")]
        self.env = (cluster.env if cluster else os.environ) | {"PYTHONPATH": ":".join(filter(None, paths))}
        self.process: subprocess.Popen | None = None
        self.printed = folder / "printed.txt"

    def change(self, **settings: object) -> None:
        """Change settings; shards that run see them."""
        self.settings |= settings
        written = self.folder / "settings.new"
        written.write_text(json.dumps(self.settings))
        written.rename(self.folder / "settings.json")

    def profile(self, old: str, new: str) -> None:
        """Change the profile as a user does."""
        path = self.folder / "profiles/slurm/config.yaml"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    def start(self, *options: str) -> "Run":
        """Start Snakemake in the background; what it prints is added to the run's text."""
        with open(self.printed, "a") as out:
            self.process = subprocess.Popen(
                [*SNAKEMAKE, "--profile", "slurm", "all", *POLLING, *options],
                cwd=self.folder, env=self.env, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        return self

    def execute(self, command: list[str], seconds: float) -> int:
        """Run a command in the folder; what it prints is added to the run's text. Returns its exit code."""
        with open(self.printed, "a") as out:
            return subprocess.run(
                command, cwd=self.folder, env=self.env, stdout=out, stderr=subprocess.STDOUT, timeout=seconds
            ).returncode

    def end(self, seconds: float) -> int:
        """Wait for Snakemake's end; returns its exit code. Killed, with its words, after `seconds`."""
        try:
            return self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"Snakemake still runs after {seconds} s:\n{self.text()}") from None

    def kill(self) -> None:
        """SIGKILL to Snakemake and its children; the jobs live on."""
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def text(self) -> str:
        """What Snakemake has printed."""
        return self.printed.read_text() if self.printed.exists() else ""

    def await_text(self, pattern: str, seconds: float = 60) -> str:
        """Wait for a line; returns what matched."""
        wait_until(lambda: re.search(pattern, self.text()), seconds, f"{pattern!r} in\n{self.text()}")
        return re.search(pattern, self.text())[0]

    def events(self, kind: str) -> list[str]:
        """What the shards noted: `image` (generated), `start` and `end` of their processes."""
        path = self.folder / "events.txt"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line.partition(" ")[2] for line in lines if line.startswith(f"{kind} ")]

    def await_images(self, number: int, seconds: float = 90) -> None:
        """Wait until so many images were generated."""
        wait_until(lambda: len(self.events("image")) >= number, seconds, f"{number} images;\n{self.text()}")

    def jobs(self, *states: str) -> list[str]:
        """Slurm's jobs of this run, by number."""
        lines = self.cluster.run(["squeue", "-h", "-o", "%i %T %Z"]).splitlines()
        found = [line.split(maxsplit=2) for line in lines]
        return [job for job, state, folder in found if folder == str(self.folder) and (not states or state in states)]

    def await_jobs(self, *states: str, number: int = 1, seconds: float = 60) -> list[str]:
        """Wait for jobs in these states; returns their numbers."""
        wait_until(lambda: len(self.jobs(*states)) >= number, seconds, f"{number} jobs {states};\n{self.text()}")
        return self.jobs(*states)

    def lost(self) -> int:
        """Images that were generated more than once, or generated and not kept."""
        return len(self.events("image")) - len(set(self.events("image")))

    def hashes(self) -> dict[str, str]:
        """Path -> SHA-256 of every result."""
        paths = [*self.folder.glob("images/*/*.jpg"), *self.folder.glob("shards/*.tsv"), self.folder / "table.txt"]
        return {str(path.relative_to(self.folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
