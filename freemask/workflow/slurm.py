"""The commands of profiles/slurm: submit a job, tell its state, cancel what is left.

Snakemake's executor cluster-generic starts one process per call, so this file uses the standard library only and imports
little. A job is recognized in the queue by its comment: `freemask <what it makes> <from what> <run>`. What one
Snakemake process knows (its answers from squeue, what it said) is in .snakemake/slurm/<run>.json.
"""

import fcntl
import json
import os
import re
import subprocess
import sys
import time

FOLDER = ".snakemake/slurm"
LOGS = "logs/slurm"
JOB = os.path.join(os.path.dirname(os.path.abspath(__file__)), "slurm_job.sh")

# Seconds
SOON = 10  # between two queries, while jobs end
SELDOM = 60  # between two queries in quiet hours
GRACE = 180  # for a state that Slurm leaves by itself, e.g. PREEMPTED before the job is back in the queue
STUCK = 30  # for a reason that never ends, before the job is cancelled
DOUBTFUL = 600  # the same for PartitionConfig: often too many CPUs, maybe a node that is away
UNKNOWN = 900  # until a job that neither squeue nor sacct knows counts as failed
AWAY = 1800  # until a submission gives up on a controller that doesn't answer
WARNING = 180  # before the time limit: SIGUSR1

LIVING = {"PENDING", "CONFIGURING", "RUNNING", "SUSPENDED", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESIZING"}
LIVING |= {"SPECIAL_EXIT", "STOPPED", "SIGNALING", "STAGE_OUT"}
PASSING = {"PREEMPTED", "NODE_FAIL", "BOOT_FAIL"}  # or the end, if Slurm doesn't put the job back into the queue
NEVER = re.compile(
    r"PartitionTimeLimit|PartitionNodeLimit|BadConstraints|AccountNotAllowed|InvalidAccount|InvalidQOS|MaxMemPerLimit"
    r"|PartitionConfig|DependencyNeverSatisfied|(Assoc|QOS)Max\w*(PerJob|PerNode|WallDuration)"
)
WAITING = re.compile(r"ReqNodeNotAvail|PartitionDown|PartitionInactive|JobHeld|held|(Assoc|QOS)Grp|FrontEndDown")

BUSY = re.compile(r"Max\w*Submit|GrpSubmit|job submit limit for", re.IGNORECASE)  # submit limits
ABSENT = re.compile(
    r"controller|timed out|Zero Bytes|refused|temporarily|standby|not connected|Munge|authentication|try again"
    r"|Unable to resolve|fetch config|Connection|Communication|unavailable$",
    re.IGNORECASE,
)
# Words of sbatch, or reasons that a job waits -> what to change. The first that matches counts.
REMEDIES = {
    r"time.?limit|WallDuration": "WALLTIME in the profile must not exceed the partition's or your account's limit"
    " (`sinfo -o '%P %l'`)",
    r"partition(?!Config)": "PARTITION and GPU_PARTITION in the profile must be partitions of `sinfo` that you may use",
    r"account or": "ACCOUNT in the profile must be one of `sacctmgr show associations user=$USER`",
    r"qos|policy|Assoc": "the limits of your account are in `sacctmgr show associations user=$USER` and"
    " `sacctmgr show qos`; QOS, WALLTIME and the rule's resources are in the profile",
    r"memory": "mem_mb of the rule is more than a node has (`sinfo -o '%P %m'`); set-resources in the profile changes it",
    r"cpu|processors": "the rule takes more threads than a node has CPUs (`sinfo -o '%P %c'`); set-threads in the"
    " profile changes it",
    r"node configuration|PartitionConfig|generic resource|gres|BadConstraints": "no node has these GPUs, CPUs and memory together"
    " (`sinfo -o '%P %G %c %m'` lists what nodes have); GPU in the profile is the type of the GPUs",
    r"reservation": "RESERVATION in the profile must be one of `scontrol show reservation`",
    r"feature|constraint": "`sinfo -o '%P %f'` lists what `constraint` may be",
    r"option": "see slurm_extra in the profile",
}


class Unanswered(Exception):
    """Slurm gave no answer; the message says what its client printed."""


def export() -> None:
    """Tell the profile's commands where they are and which run they serve, in the environment of this process."""
    run = f"{time.time():.0f}-{os.getpid()}"
    os.environ |= {"FREEMASK_PYTHON": sys.executable, "FREEMASK_SLURM": os.path.abspath(__file__), "FREEMASK_RUN": run}


def cancel_rest() -> None:
    """Cancel jobs of this process's run that still live when it ends; a Ctrl-C can miss those being looked at."""
    if os.path.exists(f"{FOLDER}/{run_id()}.json"):
        cancel()


# ---- submit ----------------------------------------------------------------------------------------------------------


def submit(jobscript: str, walltime: int) -> str:
    """Submit a job, or find the one of an earlier run that still makes the same from the same.

    Args: jobscript: Snakemake's. walltime: the site's longest job [minutes].
    Returns: the number of the Slurm job.
    Raises: SystemExit with words if Slurm won't ever take it.
    """
    with open(jobscript, encoding="utf-8") as lines:
        properties = json.loads(re.search(r"^# properties = (.*)$", lines.read(), re.MULTILINE)[1])
    key, version = identity(properties)
    found = earlier_job(key, version, name_of(properties))
    if found:
        return found
    command = sbatch_options(properties, walltime)
    os.makedirs(os.path.dirname(log_of(properties)), exist_ok=True)
    command += [f"--comment=freemask {key} {version} {run_id()}", JOB, jobscript, os.path.abspath(FOLDER)]
    return _submit_patiently(["sbatch", "--parsable", *command], key, name_of(properties))


def _submit_patiently(command: list[str], key: str, name: str) -> str:
    started, pause, told = time.time(), 5.0, ""
    while True:
        done = call(command, seconds=120)
        if done.returncode == 0:
            return done.stdout.strip().partition(";")[0]
        said = " ".join(line.removeprefix("sbatch: ").removeprefix("error: ") for line in done.stderr.splitlines())
        busy = BUSY.search(said)
        away = ABSENT.search(said) and not busy
        if not (busy or away):
            raise SystemExit(f"Slurm refuses {name!r}: {said.strip()}\n{remedy(said)}\n{_asked(command)}")
        if away and time.time() - started > AWAY:
            raise SystemExit(f"Slurm's controller hasn't answered for {AWAY // 60} minutes: {said}")
        if not told:
            told = "submit limit reached" if busy else "Slurm doesn't answer"
            hint = "; fewer `jobs` in the profile avoid this" if busy else ""
            tell(f"{told} ({said.strip()}); submitting {name!r} again until it is taken{hint}", once=told)
        time.sleep(pause)
        pause = min(2 * pause, 60)
        # The controller may have taken the job although its answer was lost.
        for job in _patient_queue(until=started + AWAY):
            if job["key"] == key and job["run"] == run_id() and job["state"] in LIVING:
                return job["id"]


def _asked(command: list[str]) -> str:
    aside = ("--parsable", "--job-name", "--output", "--chdir", "--requeue", "--open-mode", "--signal", "--comment")
    return "asked for: " + " ".join(option for option in command[1:-3] if not option.startswith(aside))


def remedy(said: str) -> str:
    """What to change, by what Slurm said."""
    return next((what for words, what in REMEDIES.items() if re.search(words, said, re.IGNORECASE)), "see the profile")


def identity(properties: dict) -> tuple[str, str]:
    """Digests of what a job makes (this folder, rule, wildcards) and of what it is made from (parameters, inputs)."""
    import hashlib

    def digest(*what: object) -> str:
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:12]

    inputs = []
    for path in properties.get("input") or []:
        if os.path.exists(path):
            status = os.stat(path)
            inputs.append([path, status.st_mtime_ns, status.st_size])
    rule, wildcards = properties.get("rule", properties.get("groupid")), properties.get("wildcards")
    return digest(os.getcwd(), rule, wildcards or properties.get("output")), digest(properties.get("params"), inputs)


def earlier_job(key: str, version: str, name: str) -> str | None:
    """The job of an earlier Snakemake in this folder that still makes the same; one made from older inputs is cancelled.

    A job that ended well after this Snakemake had looked at the files counts as well.
    """
    with State() as state:
        known = state.setdefault("earlier", None)
    if known is None:
        known = {}
        for job in _patient_queue(until=time.time() + AWAY):
            done_since = job["state"] == "COMPLETED" and job["end"] >= _run_started()
            if job["run"] != run_id() and (job["state"] in LIVING or done_since):
                known[job["key"]] = [job["id"], job["version"]]
    number, made_from = known.pop(key, (None, None))
    with State() as state:
        state["earlier"] = known
        if number and made_from == version:
            state.setdefault("adopted", []).append(number)
    if not number:
        return None
    state_now = next((job["state"] for job in _patient_queue(until=time.time() + AWAY) if job["id"] == number), "")
    if made_from == version:
        if state_now in LIVING or state_now in {"COMPLETED", "COMPLETING"} or os.path.exists(f"{FOLDER}/{number}.exit"):
            tell(f"Slurm job {number} of an earlier run still makes {name!r} ({state_now}): waiting for it")
            return number
        return None
    if state_now in LIVING:
        tell(f"Slurm job {number} of an earlier run makes {name!r} from older inputs: cancelled")
        call(["scancel", number])
        end = time.time() + 300
        while time.time() < end and any(
            job["id"] == number and job["state"] in LIVING | {"COMPLETING"} for job in _patient_queue(until=end)
        ):
            time.sleep(2)
    return None


def _run_started() -> float:
    return float(run_id().partition("-")[0] or 0)


def name_of(properties: dict) -> str:
    """What a job does, for squeue: `train ade20k segformer_b4_joint train_seed-0`."""
    if properties["type"] == "group":
        return f"group {properties['groupid']}"
    wildcards = properties["wildcards"].items()
    return " ".join(
        [properties["rule"], *(f"{name}-{value}" if value.isdigit() else value for name, value in wildcards)]
    )


def log_of(properties: dict) -> str:
    """The file of a job's own output; %j is the number of the Slurm job."""
    rule, *wildcards = [re.sub(r"[^\w.+=-]+", "_", part) for part in name_of(properties).split(" ")]
    return f"{LOGS}/{rule}/{'_'.join(wildcards)[:150] or rule}/%j.log"


def sbatch_options(properties: dict, walltime: int) -> list[str]:
    """The options of sbatch for a job's threads and resources.

    Memory [MB], CPUs and GPUs are of each node. `gpu` counts the GPUs of all nodes.
    """
    resources = properties["resources"]
    nodes = int(resources.get("nodes") or 1)
    minutes = min(int(resources.get("runtime") or walltime), walltime)
    options = [f"--job-name={name_of(properties)}", f"--output={log_of(properties)}", f"--chdir={os.getcwd()}"]
    # Half of a very short limit is left for work.
    options += ["--requeue", "--open-mode=append", f"--time={minutes}"]
    options += [f"--signal=B:USR1@{min(WARNING, minutes * 60 // 4)}", f"--nodes={nodes}"]
    gpus = int(resources.get("gpu") or 0)
    if gpus % nodes:
        raise SystemExit(f"{name_of(properties)}: {gpus} GPUs can't be shared equally by {nodes} nodes")
    if gres := resources.get("gres"):
        options.append(f"--gres={gres}")
    elif gpus:
        model = resources.get("gpu_model")
        options.append(f"--gres=gpu:{model}:{gpus // nodes}" if model else f"--gres=gpu:{gpus // nodes}")
    if tasks := resources.get("tasks"):
        options.append(f"--ntasks={tasks}")
    else:
        options.append(f"--ntasks-per-node={resources.get('tasks_per_node') or 1}")
    cpus = int(resources.get("cpus_per_task") or properties["threads"])
    if cpus > 0:
        options.append(f"--cpus-per-task={cpus}")
    if per_cpu := resources.get("mem_mb_per_cpu"):
        options.append(f"--mem-per-cpu={per_cpu}")
    elif memory := resources.get("mem_mb"):
        options.append(f"--mem={memory}")
    for name in ("partition", "account", "qos", "reservation", "constraint"):
        if value := resources.get(f"slurm_{name}") or resources.get(name):
            options.append(f"--{name}={value}")
    if extra := resources.get("slurm_extra"):
        import shlex

        options += shlex.split(extra)
    return options


def minutes_of(text: str) -> int:
    """Minutes of `90`, `90m`, `48h` or `2d`."""
    match = re.fullmatch(r"(\d+)\s*(m|min|h|d)?", text.strip())
    if not match:
        raise SystemExit(f"WALLTIME {text!r} in the profile: write e.g. 90m, 48h or 2d")
    return int(match[1]) * {"h": 60, "d": 1440}.get(match[2] or "m", 1)


# ---- status ----------------------------------------------------------------------------------------------------------


def status(number: str) -> str:
    """Running, success or failed, as cluster-generic wants it; reasons go to stderr."""
    with State() as state:
        code, remark = _exit_file(number)
        if code == 0:
            return _ended(state, number, "success")
        watched = state.setdefault("watched", {})
        watched.setdefault(number, {})
        _refresh(state)
        seen = watched[number]
        job = state["jobs"].get(number)
        return _judge(state, number, job, seen, code, remark)


def _judge(state: dict, number: str, job: dict | None, seen: dict, code: int | None, remark: str) -> str:
    now = time.time()
    if job is None or job["state"] in {"", "UNKNOWN"}:
        if code is not None:
            _tell_failure(number, job or {"state": "FAILED"}, code, remark)
            return _ended(state, number, "failed")
        if not state["complete"]:  # no answer is no verdict
            seen.pop("unknown", None)
        elif now - seen.setdefault("unknown", now) > UNKNOWN:
            tell(f"Slurm job {number}: neither squeue nor sacct have known it for {UNKNOWN // 60} minutes")
            return _ended(state, number, "failed")
        return "running"
    seen.pop("unknown", None)
    name = job["state"]
    if name == "COMPLETED":
        return _ended(state, number, "success")
    if name not in PASSING:
        seen.pop("passing", None)
    if name == "PENDING":
        return _judge_pending(state, number, job, seen)
    if name in LIVING or name == "COMPLETING":
        if name == "REQUEUE_HOLD":
            tell(f"Slurm job {number} ({job['name']}) is held; `scontrol release {number}` lets it go on", once=number)
        return "running"
    if name in PASSING and now - seen.setdefault("passing", now) < GRACE:
        return "running"
    _tell_failure(number, job, code, remark)
    return _ended(state, number, "failed")


def _judge_pending(state: dict, number: str, job: dict, seen: dict) -> str:
    reason = job["reason"]
    if not NEVER.search(reason):
        seen.pop("never", None)
        if WAITING.search(reason):
            held = f"; `scontrol release {number}` lets it go on" if "held" in reason.lower() else ""
            tell(f"Slurm job {number} ({job['name']}) waits: {reason}{held}", once=reason[:40])
        return "running"
    patience = DOUBTFUL if reason == "PartitionConfig" else STUCK
    if time.time() - seen.setdefault("never", time.time()) < patience:
        return "running"
    asked = f"time limit {job['limit']}, memory {job['memory']}, partition {job['partition']}"
    what = f"{reason} ({asked}); {remedy(reason)}"
    tell(f"Slurm job {number} ({job['name']}) can never start: {what}. Cancelled.", once=f"{reason} {asked}")
    call(["scancel", number])
    return _ended(state, number, "failed")


def _ended(state: dict, number: str, verdict: str) -> str:
    state.get("watched", {}).pop(number, None)
    state["changed"] = time.time()
    for kind in ("exit", "continue"):
        if os.path.exists(f"{FOLDER}/{number}.{kind}"):
            os.unlink(f"{FOLDER}/{number}.{kind}")
    return verdict


def _exit_file(number: str) -> tuple[int | None, str]:
    """What slurm_job.sh wrote at the end: exit code and remark; None while the job runs."""
    try:
        with open(f"{FOLDER}/{number}.exit", encoding="utf-8") as file:
            code, _, remark = file.read().partition(" ")
    except FileNotFoundError:
        return None, ""
    return int(code or 1), remark.strip()


def _tell_failure(number: str, job: dict, code: int | None, remark: str) -> None:
    """One paragraph: what Slurm says, where, what to do, and the log's end if Snakemake won't show the rule's."""
    state = job["state"]
    rule = job.get("name", "").partition(" ")[0]
    words = {
        "CANCELLED": "was cancelled" + (f" by user {job['by']}" if job.get("by") else ""),
        "TIMEOUT": f"reached its time limit ({job.get('limit')}): raise runtime of rule {rule} or WALLTIME in the profile",
        "OUT_OF_MEMORY": f"needed more than its memory ({job.get('memory')}): raise mem_mb of rule {rule} in the profile",
        "NODE_FAIL": "lost its node",
        "BOOT_FAIL": "lost its node, which didn't boot",
        "PREEMPTED": "had to give way to a job of higher priority, and this cluster doesn't put it back into the queue",
        "DEADLINE": "couldn't end before its deadline",
    }.get(state, remark or f"failed with exit code {code}" if code is not None else f"ended as {state}")
    import glob

    logs = glob.glob(f"{LOGS}/*/*/{number}.log")
    where = f" on {job['nodes']}" if job.get("nodes") else ""
    tell(f"Slurm job {number} ({job.get('name', '?')}){where} {words}." + (f" Its log: {logs[0]}" if logs else ""))
    if logs:
        with open(logs[0], errors="replace", encoding="utf-8") as file:
            lines = [line.rstrip() for line in file.readlines()[-200:] if line.strip()]
        if lines and not any("Error in rule" in line for line in lines):
            sys.stderr.write("".join(f"    {line}\n" for line in lines[-10:]))


# ---- cancel ----------------------------------------------------------------------------------------------------------


def cancel() -> None:
    """Cancel every living job of this run. Tries for a minute."""
    with State() as state:
        adopted = state.get("adopted", [])
    for pause in (0, 10, 20, 30):
        time.sleep(pause)
        try:
            jobs = [job for job in queue() if job["run"] == run_id() or job["id"] in adopted]
        except Unanswered:
            continue
        living = [job["id"] for job in jobs if job["state"] in LIVING]
        if not living or call(["scancel", *living]).returncode == 0:
            return
    tell("Slurm doesn't answer, jobs of this run may go on; the next start finds them and waits for them")


# ---- Slurm's clients -------------------------------------------------------------------------------------------------


def call(command: list[str], seconds: float = 30) -> subprocess.CompletedProcess[str]:
    """Run a client of Slurm; a time-out (124) or a missing program (127) is an exit code too.

    Variables of a surrounding Slurm job would be options of the new one.
    """
    env = {key: value for key, value in os.environ.items() if not key.startswith("SLURM_") or key == "SLURM_CONF"}
    try:
        return subprocess.run(
            command, env=env | {"LC_ALL": "C"}, capture_output=True, text=True, errors="replace", timeout=seconds
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, "", f"{command[0]} timed out after {seconds:.0f} s")
    except FileNotFoundError:
        return subprocess.CompletedProcess(command, 127, "", f"no {command[0]} on this machine")


FIELDS = "%i|%T|%r|%N|%l|%m|%P|%e|%k|%j"


def queue() -> list[dict]:
    """This user's jobs of the workflow, also those that ended some minutes ago.

    Raises: Unanswered.
    """
    done = call(["squeue", "--noheader", "--states=all", f"--user={os.getuid()}", f"--format={FIELDS}"])
    if done.returncode:
        raise Unanswered(done.stderr.strip() or f"squeue: exit code {done.returncode}")
    jobs = []
    for line in done.stdout.splitlines():
        number, state, reason, nodes, limit, memory, partition, end, comment, name = line.split("|", 9)
        words = comment.split()
        if len(words) == 4 and words[0] == "freemask":
            jobs.append(
                {"id": number, "state": state, "reason": reason, "nodes": nodes, "limit": limit, "memory": memory}
                | {"partition": partition, "end": _seconds(end), "name": name}
                | dict(zip(("key", "version", "run"), words[1:], strict=True))
            )
    return jobs


def _patient_queue(until: float) -> list[dict]:
    pause = 5.0
    while True:
        try:
            return queue()
        except Unanswered as error:
            if time.time() > until:
                raise SystemExit(f"Slurm doesn't answer: {error}") from None
            tell(f"Slurm doesn't answer ({error}); asking again", once="Slurm doesn't answer")
        time.sleep(pause)
        pause = min(2 * pause, 60)


def _seconds(text: str) -> float:
    try:
        return time.mktime(time.strptime(text, "%Y-%m-%dT%H:%M:%S"))
    except ValueError:
        return 0.0


def accounts(numbers: list[str]) -> dict[str, dict] | None:
    """What the accounting database says of jobs that squeue has forgotten.

    Returns: number -> job; empty without accounting; None if the database doesn't answer.
    """
    fields = "JobIDRaw,State,NodeList,Timelimit,ReqMem,Partition,JobName"
    done = call(["sacct", "-X", "-n", "-P", "-j", ",".join(numbers), "-o", fields])
    if done.returncode:
        absent = done.returncode == 127 or "disabled" in done.stderr
        return {} if absent else None
    jobs = {}
    for line in done.stdout.splitlines():
        number, state, nodes, limit, memory, partition, name = line.split("|", 6)
        state, _, by = state.partition(" by ")
        jobs[number] = {"state": state, "reason": "", "nodes": nodes, "limit": limit, "memory": memory}
        jobs[number] |= {"partition": partition, "name": name, "by": by}
    return jobs


def _refresh(state: dict) -> None:
    """Ask Slurm about all watched jobs, if its last answer is old: after SOON while jobs end, else more seldom."""
    now = time.time()
    quiet = now - state.setdefault("changed", now)
    if now - state.get("asked", 0) < min(SELDOM, max(SOON, quiet / 20)) and "jobs" in state:
        if all(number in state["jobs"] or number in state.get("missed", []) for number in state["watched"]):
            return
    state["asked"] = now
    try:
        jobs = {job["id"]: job for job in queue()}
        forgotten = [number for number in state["watched"] if number not in jobs]
        found = accounts(forgotten) if forgotten else {}
        # The database can say RUNNING of a job that the queue has forgotten; it learns of the end later.
        jobs |= {number: job for number, job in (found or {}).items() if job["state"] not in LIVING}
        state["complete"] = found is not None
        if state.pop("silent", None):
            tell("Slurm answers again")
    except Unanswered as error:
        jobs = state.get("jobs", {})
        state["complete"] = False
        if not state.get("silent"):
            tell(f"Slurm doesn't answer ({error}); jobs count as running until it does")
        state["silent"] = True
    state["jobs"] = jobs
    state["missed"] = [number for number in state["watched"] if number not in jobs]


# ---- what a run remembers --------------------------------------------------------------------------------------------


def run_id() -> str:
    """Start [s] and process of the Snakemake that calls, from export()."""
    return os.environ.get("FREEMASK_RUN", "0-0")


class State:
    """The memory of a run, locked: a dictionary that is read at the start and written at the end of `with`."""

    def __enter__(self) -> dict:
        os.makedirs(FOLDER, exist_ok=True)
        self.path = f"{FOLDER}/{run_id()}.json"
        self.lock = open(f"{FOLDER}/lock", "w")  # noqa: SIM115
        fcntl.lockf(self.lock, fcntl.LOCK_EX)
        self.state: dict = {}
        if os.path.exists(self.path):
            with open(self.path, encoding="utf-8") as file:
                self.state = json.load(file)
        return self.state

    def __exit__(self, *_: object) -> None:
        with open(f"{self.path}.tmp", "w", encoding="utf-8") as file:
            json.dump(self.state, file)
        os.replace(f"{self.path}.tmp", self.path)
        self.lock.close()


def tell(text: str, once: str = "") -> None:
    """Write a line to Snakemake's terminal; with `once` only the first time in a run."""
    if once:
        os.makedirs(FOLDER, exist_ok=True)
        path = f"{FOLDER}/{run_id()}.told"
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                if once in file.read().splitlines():
                    return
        with open(path, "a", encoding="utf-8") as file:
            file.write(once + "\n")
    sys.stderr.write(f"slurm: {text}\n")


def main(arguments: list[str]) -> None:
    """submit <walltime> <jobscript> | status <number> | cancel."""
    if arguments[0] == "submit":
        try:
            sys.stdout.write(submit(arguments[2], minutes_of(arguments[1])) + "\n")
        except SystemExit as error:
            sys.stdout.write(f"{error}\n")  # Snakemake shows it with the rule
            raise SystemExit(1) from None
    elif arguments[0] == "status":
        sys.stdout.write(status(arguments[1]) + "\n")
    else:
        cancel()


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(130)
