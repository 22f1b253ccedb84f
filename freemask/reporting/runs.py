"""Run cards: what made a number, as the run itself recorded it in its logs and work folder.

The versions are those of the process that trained or evaluated, never of the one that writes the page.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

from freemask.files import read_json, sha256
from freemask.segmentation.outputs import TIMES

STARTED = re.compile(r"^(\S+ \S+?)(?:,\d+)? freemask\.cli INFO: freemask (\S+), commit (\S+): (.*)$", re.MULTILINE)
PACKAGES = re.compile(r"freemask\.cli INFO: packages: (.*)$", re.MULTILINE)
SYSTEM = re.compile(r"System environment:\n(.*?)\n\s*\n(?:Runtime environment|-{20})", re.DOTALL)
SETTING = re.compile(r"^ {4}(\S[^:\n]*): (.+)$", re.MULTILINE)
LONG = ("PyTorch compiling details", "TorchVision compiling details")  # settings of mmengine's list that are left out
BAR = re.compile(r"\|[#\d ]*\| *\d+/\d+ \[")  # a line of a progress bar
HEAD, TAIL = 200_000, 20_000  # bytes of a log that are read at its start and at its end
LAST_LINES = 12
# Rules that make a training's files, in their order, and what each does.
STEPS = {"train": "Training", "import_checkpoint": "Import of a checkpoint", "import_log": "Import of a log",
         "evaluate": "Evaluation"}  # fmt: skip


@dataclass(frozen=True)
class Step:
    """One job of a run.

    title: What it does. log: Path of its log. started: Local time of its machine, as logged.
    version, commit: Of freemask. command: Its command line. versions: (name, version) of what it ran on.
    last: Last lines of its log, without progress bars.
    """

    title: str
    log: str
    started: str = ""
    version: str = ""
    commit: str = ""
    command: str = ""
    versions: list[tuple[str, str]] = field(default_factory=list)
    last: str = ""


@dataclass(frozen=True)
class Run:
    """One trained segmentor.

    seed: Train seed. config: Text of the resolved training config, "" if there is none.
    digests: (name, SHA-256) of its small files, and the digest of the training's inputs that it recorded.
    devices: e.g. "8 x Tesla V100-SXM2-32GB"; [] if no times were recorded. dates: Days on which a segment started.
    metrics: Content of metrics.json.
    """

    seed: int
    metrics: dict
    config: str
    digests: list[tuple[str, str]]
    devices: list[str]
    dates: list[str]
    steps: list[Step]

    @property
    def commits(self) -> list[str]:
        """Commits of its steps, each once."""
        return list(dict.fromkeys(step.commit for step in self.steps if step.commit))


def read_run(folder: Path, logs: Path, experiment: str, seed: int) -> Run:
    """Read what a training and its evaluation recorded; what wasn't recorded stays empty.

    Args:
        folder: The training's folder, with metrics.json.
        logs: The data set's folder of logs.
        experiment: Name of the experiment.
        seed: Train seed.
    """
    times = [read_json(path) for path in sorted((folder / "work" / TIMES).glob("*.json"))]
    digests = [(f"inputs of the training (recorded {one['started']})", one["inputs"]) for one in times[-1:]]
    for name in ("config.py", "metrics.json", "per_class_iou.tsv"):
        if (folder / name).exists():
            digests.append((f"SHA-256 of {folder / name}", sha256(folder / name)))
    paths = {step: logs / step / experiment / f"seed-{seed}.log" for step in STEPS}
    config = folder / "config.py"
    return Run(
        seed=seed,
        metrics=read_json(folder / "metrics.json"),
        config=config.read_text() if config.exists() else "",
        digests=digests,
        devices=list(dict.fromkeys(_device(one) for one in times)),
        dates=sorted({one["started"][:10] for one in times}),
        steps=[read_step(STEPS[step], path) for step, path in paths.items() if path.exists()],
    )


def _device(segment: dict) -> str:
    return f"{segment['gpus']} x {segment['device']}" if segment["gpus"] > 1 else str(segment["device"])


def read_step(title: str, log: Path) -> Step:
    """Read what the log of a job says of itself."""
    with open(log, "rb") as file:
        head = file.read(HEAD).decode(errors="replace")
        file.seek(max(0, log.stat().st_size - TAIL))
        tail = file.read().decode(errors="replace")
    started = STARTED.search(head)
    when, version, commit, command = started.groups() if started else ("", "", "", "")
    lines = [line.rstrip() for line in tail.splitlines() if line.strip() and not BAR.search(line)]
    return Step(title, str(log), when, version, commit, command, read_versions(head), "\n".join(lines[-LAST_LINES:]))


def read_versions(head: str) -> list[tuple[str, str]]:
    """Names and versions that the start of a log lists: mmengine's list of the system, and the packages."""
    system = SYSTEM.search(head)
    found = dict(SETTING.findall(system[1])) if system else {}
    if packages := PACKAGES.search(head):
        found |= dict(re.findall(r"([^\s,]+) ([^\s,]+)", packages[1]))
    return [(name, value) for name, value in found.items() if name not in LONG]
