"""The commands of profiles/slurm against a made-up Slurm: every state, patience, names, options, adopted jobs.

tests/slurm has their twin with a real one.
"""

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from freemask.workflow import slurm

ROOT = Path(__file__).parents[2]
START = 1_000_000.0  # of the run [s]
BUSY = (
    "sbatch: error: AssocMaxSubmitJobLimit\nsbatch: error: Batch job submission failed: Job violates accounting/QOS"
    " policy (job submit limit, user's size and/or time limits)"
)


class Clock:
    """Time that passes only in sleep()."""

    mktime, strptime = staticmethod(time.mktime), staticmethod(time.strptime)

    def __init__(self):
        self.now = START

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Slurm:
    """Answers in place of Slurm's clients, and notes what they were asked."""

    def __init__(self):
        self.jobs: dict[str, dict] = {}
        self.accounted: dict[str, str] = {}  # number -> line of sacct
        self.errors: list[str] = []  # of the next calls of sbatch
        self.down: str = ""  # what clients print while the controller is away
        self.accounting = ""  # what sacct prints on stderr if it fails
        self.lost = False  # sbatch times out although the job was taken
        self.calls: list[list[str]] = []

    def add(self, number: str, state: str = "RUNNING", reason: str = "None", run: str = "", **more: str) -> None:
        self.jobs[number] = {"state": state, "reason": reason, "key": "k", "version": "v", "run": run or slurm.run_id()}
        self.jobs[number] |= {"name": "train ade20k", "end": "Unknown"} | more

    def __call__(self, command: list[str], seconds: float = 30) -> subprocess.CompletedProcess[str]:
        self.calls.append(command)
        code, out, error = getattr(self, command[0])(command) if not self.down else (1, "", self.down)
        return subprocess.CompletedProcess(command, code, out, error)

    def asked(self, client: str) -> list[list[str]]:
        return [call for call in self.calls if call[0] == client]

    def squeue(self, command: list[str]) -> tuple[int, str, str]:
        lines = [
            f"{number}|{job['state']}|{job['reason']}|gpu1|2-00:00:00|128000M|gpus|{job['end']}"
            f"|freemask {job['key']} {job['version']} {job['run']}|{job['name']}"
            for number, job in self.jobs.items()
        ]
        others = ["99|RUNNING|None|gpu2|1:00|1G|gpus|Unknown|(null)|another's | job", "of two lines"]
        return 0, "\n".join([*lines, *others]), ""

    def sacct(self, command: list[str]) -> tuple[int, str, str]:
        if self.accounting:
            return 1, "", self.accounting
        numbers = command[command.index("-j") + 1].split(",")
        return 0, "\n".join(self.accounted[number] for number in numbers if number in self.accounted), ""

    def sbatch(self, command: list[str]) -> tuple[int, str, str]:
        if self.errors:
            return 1, "", self.errors.pop(0)
        number = str(len(self.jobs) + 1)
        comment = next(option for option in command if option.startswith("--comment=")).split()
        self.add(number, "PENDING", key=comment[1], version=comment[2], run=comment[3])
        if self.lost:
            self.lost = False
            return 1, "", "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"
        return 0, f"{number};cluster\n", ""

    def scancel(self, command: list[str]) -> tuple[int, str, str]:
        for number in command[1:]:
            self.jobs[number]["state"] = "CANCELLED"
        return 0, "", ""


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(slurm, "time", clock)
    return clock


@pytest.fixture
def cluster(tmp_path, monkeypatch, clock) -> Slurm:
    """A run of Snakemake in an empty folder; nothing is in the queue."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FREEMASK_SLURM_RUN", f"{START:.0f}-7")
    cluster = Slurm()
    monkeypatch.setattr(slurm, "call", cluster)
    return cluster


def properties(**changes: object) -> dict:
    wildcards = {"dataset": "ade20k", "experiment": "segformer_b4_joint", "train_seed": "0"}
    return {
        "type": "single", "rule": "train", "wildcards": wildcards, "threads": 32, "input": [], "params": {"a": 1},
        "resources": {"gpu": 8, "gpu_model": "v100", "runtime": 4320, "mem_mb": 128000, "nodes": 1},
    } | changes  # fmt: skip


def jobscript(folder: Path, **changes: object) -> str:
    path = folder / "snakejob.train.1.sh"
    path.write_text(f"#!/bin/sh\n# properties = {json.dumps(properties(**changes))}\ntrue && exit 0 || exit 1\n")
    return str(path)


def next_run(monkeypatch, clock: Clock) -> None:
    """Another Snakemake in the same folder, an hour later."""
    clock.now += 3600
    monkeypatch.setenv("FREEMASK_SLURM_RUN", f"{clock.now:.0f}-8")


# ---- options ---------------------------------------------------------------------------------------------------------


def options(resources: dict, walltime: int = 2880, **changes: object) -> set[str]:
    return set(slurm.sbatch_options(properties(resources=resources, **changes), walltime))


def test_a_training_asks_for_eight_gpus_of_one_node_as_long_as_the_site_gives():
    asked = set(slurm.sbatch_options(properties(), walltime=2880))
    assert {"--gres=gpu:v100:8", "--nodes=1", "--ntasks-per-node=1", "--cpus-per-task=32", "--mem=128000"} < asked
    assert {"--time=2880", "--signal=B:USR1@180", "--requeue"} < asked  # minutes, seconds


def test_two_nodes_share_the_gpus():
    assert {"--gres=gpu:v100:4", "--nodes=2", "--ntasks-per-node=1"} < options(
        {"gpu": 8, "gpu_model": "v100", "nodes": 2}
    )
    with pytest.raises(SystemExit, match="3 GPUs can't be shared equally by 2 nodes"):
        options({"gpu": 3, "nodes": 2})


def test_a_cpu_job_asks_for_no_gpu():
    asked = options({"runtime": 60, "mem_mb": 4000, "gpu_model": "v100"}, threads=1)
    assert not [option for option in asked if "gpu" in option]
    assert {"--time=60", "--mem=4000", "--cpus-per-task=1"} < asked


def test_names_of_resources_that_people_know():
    resources = {"slurm_partition": "p", "slurm_account": "a", "slurm_qos": "q", "slurm_reservation": "r"}
    further = {"constraint": "c", "gres": "gpu:2", "mem_mb_per_cpu": 5, "cpus_per_task": 3, "tasks_per_node": 2}
    asked = options(resources | further | {"slurm_extra": "--exclude='n 1' --nice"})
    assert {"--partition=p", "--account=a", "--qos=q", "--reservation=r", "--constraint=c", "--gres=gpu:2"} < asked
    assert {"--mem-per-cpu=5", "--cpus-per-task=3", "--ntasks-per-node=2", "--exclude=n 1", "--nice"} < asked


def test_the_signal_leaves_most_of_a_short_limit():
    assert "--signal=B:USR1@30" in options({"runtime": 2})


@pytest.mark.parametrize(("text", "minutes"), [("90", 90), ("90m", 90), ("48h", 2880), ("2d", 2880)])
def test_walltime_is_written_as_people_write_it(text, minutes):
    assert slurm.minutes_of(text) == minutes


def test_another_walltime_is_refused():
    with pytest.raises(SystemExit, match="WALLTIME '2 days' in the profile: write e.g. 90m, 48h or 2d"):
        slurm.minutes_of("2 days")


def test_the_queue_shows_what_runs():
    assert slurm.name_of(properties()) == "train ade20k segformer_b4_joint train_seed-0"
    assert slurm.log_of(properties()) == "logs/slurm/train/ade20k_segformer_b4_joint_train_seed-0/%j.log"


def test_odd_wildcards_are_arguments_not_shell(tmp_path, cluster):
    odd = {"dataset": "a b'\"$(touch x);%j/../../c"}
    script = jobscript(tmp_path, wildcards=odd)
    slurm.submit(script, 60)
    (asked,) = cluster.asked("sbatch")
    assert f"--job-name=train {odd['dataset']}" in asked
    (log,) = [option.partition("=")[2] for option in asked if option.startswith("--output=")]
    assert log == "logs/slurm/train/a_b_touch_x_j_.._.._c/%j.log"
    assert Path(log).parent.is_dir()
    assert asked[-2] == script


def test_variables_of_a_surrounding_job_are_no_options(monkeypatch):
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "5")
    monkeypatch.setenv("SLURM_CONF", "/c")
    assert slurm.call(["sh", "-c", "echo ${SLURM_MEM_PER_NODE:-none} $SLURM_CONF"]).stdout == "none /c\n"


def test_a_client_that_hangs_or_is_missing_is_an_exit_code():
    assert slurm.call(["sleep", "5"], seconds=0.1).returncode == 124
    assert slurm.call(["no-such-client"]).returncode == 127


# ---- submit ----------------------------------------------------------------------------------------------------------

AWAY = [
    "Batch job submission failed: Unable to contact slurm controller (connect failure)",
    "Batch job submission failed: Socket timed out on send/recv operation",
    "Batch job submission failed: Zero Bytes were transmitted or received",
    "Batch job submission failed: Slurm temporarily unable to accept job, sleeping and retrying",
    "If munged is up, restart with --num-threads=10\nsbatch: error: Munge encode failed: Failed to access socket",
    "Batch job submission failed: Resource temporarily unavailable",
    "Batch job submission failed: Connection refused",
]


@pytest.mark.parametrize("said", AWAY)
def test_a_controller_that_is_away_is_waited_for(said, tmp_path, cluster, clock, capsys):
    cluster.errors = [f"sbatch: error: {said}"] * 10
    assert slurm.submit(jobscript(tmp_path), 60) == "1"
    assert 200 < clock.now - START < 300
    assert capsys.readouterr().err.count("Slurm doesn't answer") == 1


def test_a_submit_limit_is_waited_for_without_end(tmp_path, cluster, clock, capsys):
    cluster.errors = [BUSY] * 500
    assert slurm.submit(jobscript(tmp_path), 60) == "1"
    assert clock.now - START > 3 * 3600
    assert capsys.readouterr().err.count("submit limit reached") == 1


def test_a_controller_that_stays_away_ends_the_job(tmp_path, cluster):
    cluster.errors = [f"sbatch: error: {AWAY[0]}"] * 500
    with pytest.raises(SystemExit, match="Slurm hasn't answered for 30 minutes: .*Unable to contact"):
        slurm.submit(jobscript(tmp_path), 60)


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("invalid partition specified: nope", "PARTITION and GPU_PARTITION in the profile"),
        ("Invalid account or account/partition combination specified", "ACCOUNT in the profile"),
        ("Invalid qos specification", "QOS"),
        ("Requested node configuration is not available", "GPU in the profile is the type of the GPUs"),
        ("Invalid generic resource (gres) specification", "GPU in the profile"),
        ("Memory specification can not be satisfied", "mem_mb"),
        ("Requested time limit is invalid (missing or exceeds some limit)", "WALLTIME"),
        ("Requested reservation is invalid", "RESERVATION"),
        ("unrecognized option '--foo'", "slurm_extra"),
    ],
)
def test_what_will_never_work_ends_with_words(said, advice, tmp_path, cluster):
    cluster.errors = [f"sbatch: error: {said}"] * 2
    with pytest.raises(SystemExit) as error:
        slurm.submit(jobscript(tmp_path), 60)
    first, second, third = str(error.value).splitlines()
    assert first == f"Slurm refuses 'train ade20k segformer_b4_joint train_seed-0': {said}"
    assert advice in second
    assert third.startswith("asked for: --time=60 --nodes=1 --ntasks-per-node=1 --gres=gpu:v100:8")
    assert len(cluster.asked("sbatch")) == 1


def test_a_lost_answer_makes_no_second_job(tmp_path, cluster):
    cluster.lost = True
    assert slurm.submit(jobscript(tmp_path), 60) == "1"
    assert len(cluster.asked("sbatch")) == 1


def test_a_retry_is_a_new_job(tmp_path, cluster):
    assert slurm.submit(jobscript(tmp_path), 60) == "1"
    cluster.jobs["1"]["state"] = "FAILED"
    assert slurm.submit(jobscript(tmp_path), 60) == "2"


# ---- jobs of an earlier Snakemake ------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "COMPLETING", "SUSPENDED", "REQUEUED"])
def test_a_living_job_is_not_submitted_again(state, tmp_path, cluster, clock, monkeypatch, capsys):
    slurm.submit(jobscript(tmp_path), 60)
    cluster.jobs["1"]["state"] = state
    next_run(monkeypatch, clock)
    assert slurm.submit(jobscript(tmp_path), 60) == "1"
    assert f"Slurm job 1 of an earlier run makes 'train ade20k segformer_b4_joint train_seed-0' ({state})" in (
        capsys.readouterr().err
    )
    # If it fails then, its retry is a new job.
    cluster.jobs["1"]["state"] = "FAILED"
    assert slurm.submit(jobscript(tmp_path), 60) == "2"


@pytest.mark.parametrize(("minutes", "number"), [(-5, "2"), (5, "1")])
def test_a_job_that_ended_after_the_plan_was_made_counts(minutes, number, tmp_path, cluster, clock, monkeypatch):
    slurm.submit(jobscript(tmp_path), 60)
    next_run(monkeypatch, clock)
    end = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(clock.now + 60 * minutes))
    cluster.jobs["1"] |= {"state": "COMPLETED", "end": end}
    assert slurm.submit(jobscript(tmp_path), 60) == number
    # If its outputs are missing, its retry is a new job.
    assert slurm.submit(jobscript(tmp_path), 60) == str(int(number) + 1)


def test_a_living_job_with_other_parameters_is_cancelled_first(tmp_path, cluster, clock, monkeypatch, capsys):
    slurm.submit(jobscript(tmp_path), 60)
    next_run(monkeypatch, clock)
    assert slurm.submit(jobscript(tmp_path, params={"a": 2}), 60) == "2"
    assert cluster.asked("scancel") == [["scancel", "1"]]
    assert "from other inputs or parameters: cancelled" in capsys.readouterr().err


def test_a_living_job_with_newer_inputs_is_cancelled_first(tmp_path, cluster, clock, monkeypatch):
    (tmp_path / "config.py").write_text("1")
    slurm.submit(jobscript(tmp_path, input=["config.py"]), 60)
    next_run(monkeypatch, clock)
    os.utime("config.py", (5, 5))
    assert slurm.submit(jobscript(tmp_path, input=["config.py"]), 60) == "2"


def test_another_folders_job_is_another(tmp_path, cluster, clock, monkeypatch):
    slurm.submit(jobscript(tmp_path), 60)
    next_run(monkeypatch, clock)
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert slurm.submit(jobscript(tmp_path), 60) == "2"


# ---- status ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "verdict"),
    [
        *((state, "running") for state in ["PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "STOPPED"]),
        *((state, "running") for state in ["REQUEUED", "REQUEUE_HOLD", "PREEMPTED", "NODE_FAIL", "RESIZING"]),
        ("COMPLETED", "success"),
        *((state, "failed") for state in ["CANCELLED", "FAILED", "TIMEOUT", "OUT_OF_MEMORY", "DEADLINE"]),
    ],
)
def test_states(state, verdict, cluster):
    cluster.add("1", state)
    assert slurm.status("1") == verdict


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("CANCELLED", "on gpu1 was cancelled by root"),
        ("TIMEOUT", "reached its time limit 2-00:00:00: raise runtime of rule train"),
        ("OUT_OF_MEMORY", "needed more than its memory 128000M: raise mem_mb of rule train"),
        ("FAILED", "failed with exit code 3"),
    ],
)
def test_a_failure_is_explained(state, words, cluster, capsys):
    cluster.add("1", state)
    cluster.accounted["1"] = f"1|{state}{' by 0' if state == 'CANCELLED' else ''}|gpu1|1-0|1G|gpus|train ade20k"
    log = Path("logs/slurm/train/ade20k/1.log")
    log.parent.mkdir(parents=True)
    log.write_text("no snakemake here\n")
    os.makedirs(slurm.FOLDER)
    Path(f"{slurm.FOLDER}/1.exit").write_text("3 \n")
    assert slurm.status("1") == "failed"
    said = capsys.readouterr().err
    assert words in said
    assert said.endswith("its log: logs/slurm/train/ade20k/1.log\n    no snakemake here\n")


@pytest.mark.parametrize(
    ("log", "words"),
    [
        ("Error in rule a\nerror: logs/a: No space left on device\n", "    error: logs/a: No space left on device"),
        (
            "slurmstepd: error: Job 1 exceeded memory limit (2 > 1), being killed\n",
            "raise mem_mb of rule train",
        ),
        ("Error in rule a\nlong\n", "failed with exit code 3; its log: logs/slurm/train/ade20k/1.log\n"),
    ],
)
def test_errors_of_the_jobs_own_log_are_told(log, words, cluster, capsys):
    """Also where the rule's log couldn't be written. Other failures are in the rule's log, which Snakemake shows."""
    cluster.add("1", "FAILED")
    cluster.accounted["1"] = "1|FAILED|None assigned|1-0|1G|gpus|train ade20k"
    path = Path("logs/slurm/train/ade20k/1.log")
    path.parent.mkdir(parents=True)
    path.write_text(log)
    os.makedirs(slurm.FOLDER)
    Path(f"{slurm.FOLDER}/1.exit").write_text("3 \n")
    assert slurm.status("1") == "failed"
    said = capsys.readouterr().err
    assert words in said and "None assigned" not in said and "long" not in said


@pytest.mark.parametrize("state", ["CANCELLED by 0", "FAILED", "TIMEOUT", "COMPLETED"])
def test_a_job_that_the_queue_has_forgotten_is_in_the_accounting(state, cluster):
    cluster.accounted["1"] = f"1|{state}|gpu1|1-0|1G|gpus|train ade20k"
    assert slurm.status("1") == ("success" if state == "COMPLETED" else "failed")


def test_the_exit_file_tells_where_slurm_does_not(cluster):
    cluster.down = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"
    os.makedirs(slurm.FOLDER)
    Path(f"{slurm.FOLDER}/1.exit").write_text("0 \n")
    assert slurm.status("1") == "success"
    assert not Path(f"{slurm.FOLDER}/1.exit").exists()


def test_a_site_without_accounting(cluster, capsys):
    cluster.accounting = "Slurm accounting storage is disabled"
    assert slurm.status("1") == "running"
    Path(f"{slurm.FOLDER}/1.exit").write_text("143 saved no progress before its time limit came near\n")
    assert slurm.status("1") == "failed"
    assert "Slurm job 1 (?) saved no progress before its time limit came near" in capsys.readouterr().err


def test_no_answer_is_no_verdict(cluster, clock, capsys):
    cluster.add("1")
    assert slurm.status("1") == "running"
    cluster.down = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"
    for _ in range(100):
        clock.sleep(30)
        assert slurm.status("1") == "running"
    cluster.down = ""
    cluster.jobs["1"]["state"] = "COMPLETED"
    clock.sleep(60)
    assert slurm.status("1") == "success"
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "slurm: Slurm doesn't answer (Unable to contact slurm controller (connect failure)); jobs count as running"
        " until it does",
        "slurm: Slurm answers again",
    ]


@pytest.mark.parametrize(("accounting", "verdict"), [("", "failed"), ("Connection refused", "running")])
def test_a_job_that_nobody_knows_for_long_has_failed(accounting, verdict, cluster, clock):
    cluster.accounting = accounting
    assert slurm.status("1") == "running"
    clock.sleep(600)
    assert slurm.status("1") == "running"
    clock.sleep(600)
    assert slurm.status("1") == verdict


def test_a_preempted_job_comes_back(cluster, clock, capsys):
    for state in ["RUNNING", "PREEMPTED", "PENDING", "RUNNING"]:
        cluster.add("1", state)
        clock.sleep(100)
        assert slurm.status("1") == "running"
    assert capsys.readouterr().err.count("is back in the queue") == 1


@pytest.mark.parametrize("state", ["PREEMPTED", "NODE_FAIL", "BOOT_FAIL"])
def test_a_job_that_slurm_does_not_put_back_has_failed(state, cluster, clock):
    cluster.add("1", state)
    assert slurm.status("1") == "running"
    clock.sleep(200)
    assert slurm.status("1") == "failed"


@pytest.mark.parametrize(
    "reason",
    ["PartitionTimeLimit", "PartitionNodeLimit", "BadConstraints", "AssocMaxWallDurationPerJobLimit",
     "QOSMaxWallDurationPerJobLimit", "QOSMaxGRESPerJob", "AssocMaxCpuPerJobLimit", "PartitionConfig"],
)  # fmt: skip
def test_a_job_that_can_never_start_is_cancelled(reason, cluster, clock, capsys):
    cluster.add("1", "PENDING", reason)
    assert slurm.status("1") == "running"  # it may be an old reason
    clock.sleep(700)
    assert slurm.status("1") == "failed"
    assert cluster.asked("scancel") == [["scancel", "1"]]
    said = capsys.readouterr().err
    assert f"Slurm job 1 (train ade20k) can never start: {reason} (time limit 2-00:00:00" in said
    if "Time" in reason or "Wall" in reason:
        assert "WALLTIME in the profile" in said


@pytest.mark.parametrize(
    ("reason", "said"),
    [("Priority", 0), ("Resources", 0), ("BeginTime", 0), ("QOSMaxJobsPerUserLimit", 0), ("AssocGrpGRES", 1),
     ("ReqNodeNotAvail, UnavailableNodes:gpu1", 1), ("JobHeldUser", 1), ("launch failed requeued held", 1)],
)  # fmt: skip
def test_a_job_waits_for_its_turn(reason, said, cluster, clock, capsys):
    cluster.add("1", "PENDING", reason)
    for _ in range(100):
        clock.sleep(60)
        assert slurm.status("1") == "running"
    printed = capsys.readouterr().err
    assert printed.count(f"waits: {reason}") == said
    assert printed.count("scontrol release 1") == ("held" in reason.lower())


def test_a_hundred_jobs_cost_one_query(cluster, clock):
    for number in range(1, 101):
        cluster.add(str(number))
    for number in range(1, 101):
        assert slurm.status(str(number)) == "running"
    first = len(cluster.asked("squeue"))
    clock.sleep(slurm.SOON + 1)
    for number in range(1, 101):
        assert slurm.status(str(number)) == "running"
    assert len(cluster.asked("squeue")) == first + 1
    for _ in range(120):  # in a quiet hour
        clock.sleep(30)
        slurm.status("1")
    assert len(cluster.asked("squeue")) < first + 100


def shell_status(number: str, python: str) -> str:
    """What slurm_status.sh prints, with `python` in Python's place."""
    command = ["sh", str(ROOT / "freemask/workflow/slurm_status.sh"), number]
    env = os.environ | {"FREEMASK_PYTHON": python, "FREEMASK_SLURM": slurm.HERE}
    return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout


def test_a_calm_job_needs_no_python(cluster, clock):
    clock.now = time.time()
    cluster.add("1")
    cluster.add("12", "PENDING", "PartitionTimeLimit")
    for number in ["1", "12"]:
        slurm.status(number)
    clock.sleep(3)
    slurm.status("12")
    assert shell_status("1", "/nowhere/python") == "running\n"
    assert shell_status("12", "echo") == f"-IS {slurm.HERE}/slurm.py status 12\n"
    Path(f"{slurm.FOLDER}/1.exit").touch()
    assert shell_status("1", "echo") == f"-IS {slurm.HERE}/slurm.py status 1\n"
    os.utime(f"{slurm.FOLDER}/{slurm.run_id()}.calm", (5, 5))
    assert shell_status("1", "false") == "running\n"  # a status command that fails would end the run


# ---- cancel ----------------------------------------------------------------------------------------------------------


def test_cancel_ends_this_runs_jobs_and_no_others(tmp_path, cluster, clock, monkeypatch):
    slurm.submit(jobscript(tmp_path), 60)
    next_run(monkeypatch, clock)
    slurm.submit(jobscript(tmp_path), 60)  # adopts 1
    slurm.submit(jobscript(tmp_path, rule="other"), 60)
    cluster.add("3", run="1-1")
    cluster.add("4", "COMPLETED")
    slurm.cancel_rest()
    assert cluster.asked("scancel") == [["scancel", "1", "2"]]


def test_a_run_that_ended_well_asks_nothing(tmp_path, cluster):
    slurm.submit(jobscript(tmp_path), 60)
    cluster.jobs["1"]["state"] = "COMPLETED"
    assert slurm.status("1") == "success"
    cluster.calls.clear()
    slurm.cancel_rest()
    assert cluster.calls == []


# ---- slurm_job.sh ----------------------------------------------------------------------------------------------------


@pytest.fixture
def wrapper(tmp_path):
    """Starts slurm_job.sh with a job script of these lines; returns the process once its first line is printed."""
    started = []

    def start(*lines: str, requeue: int = 0, restarts: int = 0) -> subprocess.Popen:
        (tmp_path / "bin").mkdir()
        scontrol = tmp_path / "bin/scontrol"
        scontrol.write_text(
            f"#!/bin/sh\necho $* >> {tmp_path}/asked\n[ {requeue} = 0 ] || echo denied\nexit {requeue}\n"
        )
        scontrol.chmod(0o755)
        script = tmp_path / "snakejob.sh"
        script.write_text("\n".join(["#!/bin/sh", *lines]) + "\n")
        env = os.environ | {
            "SLURM_JOB_ID": "5",
            "SLURM_RESTART_COUNT": str(restarts),
            "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
        }
        command = ["bash", str(ROOT / "freemask/workflow/slurm_job.sh"), str(script), str(tmp_path)]
        started.append(subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True, start_new_session=True))
        started[-1].stdout.readline()
        return started[-1]

    yield start
    for process in started:
        for group in [process.pid, *_groups(process.pid)]:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
        process.wait()


def _groups(session: int) -> set[int]:
    listed = subprocess.run(["ps", "-s", str(session), "-o", "pgid="], capture_output=True, text=True).stdout
    return {int(group) for group in listed.split()}


# Saves for a second after SIGTERM, below a shell that dies of it at once.
SAVES = (
    f"""{sys.executable} -u -c "import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (time.sleep(1), %s, sys.exit(143)))
print('ready')
time.sleep(60)" """,
    "exit $?",
)
PROGRESS = "open(os.environ['FREEMASK_CONTINUE'], 'w').close()"


@pytest.mark.parametrize("code", [0, 1, 143])
def test_the_end_of_a_job_is_noted(code, wrapper, tmp_path):
    (tmp_path / "5.exit").write_text("9 of the run before")
    assert wrapper("echo ready", f"exit {code}").wait(timeout=10) == code
    assert (tmp_path / "5.exit").read_text() == f"{code} \n"


def test_a_job_with_progress_goes_back_to_the_queue(wrapper, tmp_path):
    job = wrapper(SAVES[0] % PROGRESS, SAVES[1])
    job.send_signal(signal.SIGUSR1)
    waited = time.monotonic()
    while not (tmp_path / "asked").exists():
        assert time.monotonic() < waited + 20
        time.sleep(0.05)
    assert (tmp_path / "asked").read_text() == "requeue 5\n"
    assert (tmp_path / "5.continue").exists()
    assert not (tmp_path / "5.exit").exists()


def test_a_job_without_progress_fails_with_words(wrapper, tmp_path):
    (tmp_path / "5.continue").touch()  # of the run before
    job = wrapper(SAVES[0] % "None", SAVES[1])
    job.send_signal(signal.SIGUSR1)
    assert job.wait(timeout=20) != 0
    assert "saved no progress before its time limit came near" in (tmp_path / "5.exit").read_text()
    assert not (tmp_path / "asked").exists()


FINISHES = SAVES[0] % "open(os.environ['FREEMASK_DONE'], 'w').close()"


def test_a_signal_that_comes_when_all_is_written_fails_no_job(wrapper, tmp_path):
    """Snakemake between says 143, and the job's outputs would be deleted: a training began at 0."""
    job = wrapper(FINISHES, SAVES[1])
    job.send_signal(signal.SIGUSR1)
    assert job.wait(timeout=20) == 0
    assert (tmp_path / "5.exit").read_text() == "0 \n"
    assert not (tmp_path / "asked").exists()


def test_a_job_that_was_preempted_when_all_was_written_is_done(wrapper, tmp_path):
    (tmp_path / "5.done").touch()
    assert wrapper("echo ready", "exit 1", restarts=1).wait(timeout=20) == 0
    assert (tmp_path / "5.exit").read_text() == "0 \n"


def test_an_older_job_of_this_number_is_not_this_one(wrapper, tmp_path):
    (tmp_path / "5.done").touch()
    assert wrapper("echo ready", "exit 1").wait(timeout=20) == 1


def test_a_cluster_that_forbids_requeue(wrapper, tmp_path):
    job = wrapper(SAVES[0] % PROGRESS, SAVES[1], requeue=1)
    job.send_signal(signal.SIGUSR1)
    assert job.wait(timeout=20) != 0
    assert "doesn't let a job go back to the queue" in (tmp_path / "5.exit").read_text()


def test_scancel_puts_nothing_back(wrapper, tmp_path):
    job = wrapper(SAVES[0] % PROGRESS, SAVES[1])
    for group in [job.pid, *(_groups(job.pid) - {job.pid})]:  # Slurm signals every process
        os.killpg(group, signal.SIGTERM)
    assert job.wait(timeout=20) != 0
    assert not (tmp_path / "asked").exists()
    assert not (tmp_path / "5.exit").exists()  # Slurm knows the state


def test_the_profile_finds_its_commands(monkeypatch):
    for name in ["FREEMASK_PYTHON", "FREEMASK_SLURM", "FREEMASK_SLURM_RUN"]:
        monkeypatch.delenv(name, raising=False)
    slurm.export()
    assert Path(os.environ["FREEMASK_SLURM"], "slurm_job.sh").exists()
    command = f"{shlex.quote(os.environ['FREEMASK_PYTHON'])} -IS $FREEMASK_SLURM/slurm.py submit 1x /dev/null"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "WALLTIME '1x' in the profile: write e.g. 90m, 48h or 2d\n")
