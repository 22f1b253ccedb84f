"""The commands of profiles/slurm: submit a job, tell its state, cancel what is left.

Snakemake's executor cluster-generic starts one process per call, so this file uses the standard library only and
imports little. A job is recognized in the queue by its comment: `freemask <what it makes> <from what> <run>`. What one
run of Snakemake knows (Slurm's last answer, earlier jobs) is in .snakemake/slurm/<run>.json.
"""

import atexit
import contextlib
import fcntl
import json
import os
import re
import subprocess
import sys
import time

FOLDER = ".snakemake/slurm"
LOGS = "logs/slurm"
HERE = os.path.dirname(os.path.abspath(__file__))

# Seconds
SOON = 10  # between two queries, while jobs end
SELDOM = 60  # between two queries in quiet hours
GRACE = 180  # for a state that Slurm leaves by itself, e.g. PREEMPTED before the job is back in the queue
STUCK = 30  # for a reason that never ends, before the job is cancelled
DOUBTFUL = 600  # the same for PartitionConfig: often too many CPUs, maybe a node that is away
UNKNOWN = 900  # until a job that neither squeue nor sacct knows counts as failed
AWAY = 1800  # until a submission gives up on a controller that doesn't answer
WARNING = 180  # before the time limit: SIGUSR1

HELD = {"REQUEUE_HOLD", "SPECIAL_EXIT"}
LIVING = {"PENDING", "CONFIGURING", "RUNNING", "SUSPENDED", "REQUEUED", "REQUEUE_FED", "RESIZING", "STOPPED"} | HELD
LIVING |= {"SIGNALING", "STAGE_OUT"}
PASSING = {"PREEMPTED", "NODE_FAIL", "BOOT_FAIL"}  # or the end, if Slurm doesn't put the job back into the queue
NEVER = re.compile(
    r"PartitionTimeLimit|PartitionNodeLimit|BadConstraints|AccountNotAllowed|InvalidAccount|InvalidQOS|MaxMemPerLimit"
    r"|PartitionConfig|DependencyNeverSatisfied|(Assoc|QOS)Max\w*(PerJob|PerNode|WallDuration)"
)
WAITING = re.compile(r"ReqNodeNotAvail|PartitionDown|PartitionInactive|JobHeld|held|(Assoc|QOS)Grp|FrontEndDown")

BUSY = re.compile(r"Max\w*Submit|GrpSubmit|job submit limit for", re.IGNORECASE)  # submit limits
ABSENT = re.compile(
    r"controller|timed out|Zero Bytes|refused|temporarily|standby|not connected|Munge|authentication|try again"
    r"|Unable to resolve|fetch config|Connection|Communication|unavailable$|Unspecified|I/O error|Too many|too busy",
    re.IGNORECASE,
)
# Words of sbatch, or reasons that a job waits -> what to change. The first that matches counts.
REMEDIES = {
    r"time.?limit|WallDuration": "WALLTIME in the profile must not exceed the partition's or your account's limit"
    " (`sinfo -o '%P %l'`)",
    r"account or|InvalidAccount|AccountNotAllowed": "ACCOUNT in the profile must be one of"
    " `sacctmgr show associations user=$USER`, and may be bound to a partition",
    r"partition(?!Config)": "PARTITION and GPU_PARTITION in the profile must be partitions of `sinfo` that you may use",
    r"qos|policy|Assoc": "the limits of your account are in `sacctmgr show associations user=$USER` and"
    " `sacctmgr show qos`; QOS, WALLTIME and the rule's resources are in the profile",
    r"memory": "mem_mb of the rule is more than a node has (`sinfo -o '%P %m'`); set-resources in the profile"
    " changes it",
    r"cpu|processors": "the rule takes more threads than a node has CPUs (`sinfo -o '%P %c'`); set-threads in the"
    " profile changes it",
    r"node configuration|PartitionConfig|generic resource|gres|BadConstraints": "no node has these GPUs, CPUs and"
    " memory together (`sinfo -o '%P %G %c %m'` lists what nodes have); GPU in the profile is the type of the GPUs",
    r"reservation": "RESERVATION in the profile must be one of `scontrol show reservation`",
    r"feature|constraint": "`sinfo -o '%P %f'` lists what `constraint` may be",
    r"option": "see slurm_extra in the profile",
}


class Unanswered(Exception):
    """Slurm gave no answer; the message says what its client printed."""


def export() -> None:
    """Tell the profile's commands where they are and which run they serve, in the environment of this process."""
    run = f"{time.time():.0f}-{os.getpid()}"
    os.environ |= {"FREEMASK_PYTHON": sys.executable, "FREEMASK_SLURM": HERE, "FREEMASK_SLURM_RUN": run}
    atexit.register(cancel_rest)


def cancel_rest() -> None:
    """Cancel jobs that this run watched to its end: Ctrl-C misses those being looked at, or all if it comes twice."""
    if os.path.exists(f"{FOLDER}/{run_id()}.json"):
        with State() as state:
            left = state.get("watched")
        if left:
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
    number = earlier_job(key, version, name_of(properties))
    if number is None:
        command = sbatch_options(properties, walltime)
        os.makedirs(os.path.dirname(log_of(properties)), exist_ok=True)
        command.append(f"--comment=freemask {key} {version} {run_id()}")
        command += [f"{HERE}/slurm_job.sh", jobscript, os.path.abspath(FOLDER)]
        number = _submit_patiently(["sbatch", "--parsable", *command], key, name_of(properties))
    with State() as state:
        state.setdefault("watched", {}).setdefault(number, {})
    return number


def _submit_patiently(command: list[str], key: str, name: str) -> str:
    """Call sbatch until Slurm takes the job. Raises: SystemExit if it refuses for good, or doesn't answer for AWAY."""
    started, pause = time.time(), 5
    while True:
        done = call(command, seconds=120)
        if done.returncode == 0:
            return done.stdout.strip().partition(";")[0]
        said = " ".join(re.sub(r"^sbatch: |error: ", "", line) for line in done.stderr.splitlines()).strip()
        if BUSY.search(said):
            tell(
                f"submit limit reached ({said}); waiting for jobs to end. Fewer `jobs` in the profile avoid it", "busy"
            )
        elif not ABSENT.search(said):
            raise SystemExit(f"Slurm refuses {name!r}: {said}\n{remedy(said)}\n{_asked(command)}")
        elif time.time() - started > AWAY:
            raise SystemExit(f"Slurm hasn't answered for {AWAY // 60} minutes: {said}")
        else:
            tell(f"Slurm doesn't answer ({said}); submitting again until it does", "away")
        time.sleep(pause)
        pause = min(2 * pause, 30)
        # The controller may have taken the job although its answer was lost.
        for job in _patient_queue():
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

    if properties["type"] == "group":
        makes = [properties.get("output") or properties["groupid"]]
    else:
        makes = [properties["rule"], properties["wildcards"]]
    inputs = []
    for path in properties.get("input") or []:
        if "/preflight/" not in path and os.path.exists(path):  # checks made again change no job
            status = os.stat(path)
            inputs.append([path, status.st_mtime_ns, status.st_size])
    return digest(os.getcwd(), makes), digest(properties.get("params"), inputs)


def earlier_job(key: str, version: str, name: str) -> str | None:
    """The job of an earlier Snakemake in this folder that makes the same from the same.

    It lives, or it ended well after this Snakemake had looked at the files. One made from something else is cancelled.
    """
    with State() as state:
        known = state.get("earlier")
    if known is None:
        jobs = [job for job in _patient_queue() if job["run"] != run_id()]
        known = {job["key"]: [job["id"], job["version"]] for job in jobs if _counts(job)}
    number, made_from = known.pop(key, (None, None))
    with State() as state:
        state["earlier"] = known
        if number and made_from == version:
            state.setdefault("adopted", []).append(number)
    if not number:
        return None
    now = next((job for job in _patient_queue() if job["id"] == number), None)
    if made_from != version:
        if now and now["state"] in LIVING:
            tell(f"Slurm job {number} of an earlier run makes {name!r} from other inputs or parameters: cancelled")
            call(["scancel", number])
            _await_end(number)
        return None
    if not now or not _counts(now):
        return None
    tell(f"Slurm job {number} of an earlier run makes {name!r} ({now['state']}): it isn't submitted again")
    return number


def _counts(job: dict) -> bool:
    if job["state"] == "COMPLETED":
        return job["end"] >= float(run_id().partition("-")[0])  # this run's start
    return job["state"] in LIVING | {"COMPLETING"}


def _await_end(number: str) -> None:
    """Wait until a cancelled job has ended, at most five minutes: it may write the files of the next."""
    end = time.time() + 300
    while time.time() < end:
        if not any(job["id"] == number and job["state"] in LIVING | {"COMPLETING"} for job in _patient_queue()):
            return
        time.sleep(2)


def name_of(properties: dict) -> str:
    """What a job does, for squeue: `train ade20k segformer_b4_joint train_seed-0`."""
    if properties["type"] == "group":
        return f"group {properties['groupid']}"
    wildcards = properties["wildcards"].items()
    values = [f"{name}-{value}" if value.isdigit() else value for name, value in wildcards]
    return re.sub(r"[\s|]+", " ", " ".join([properties["rule"], *values]))


def log_of(properties: dict) -> str:
    """The file of a job's own output; %j is the number of the Slurm job."""
    rule, *wildcards = [re.sub(r"[^\w.+=-]+", "_", part) for part in name_of(properties).split(" ")]
    return f"{LOGS}/{rule}/{'_'.join(wildcards)[:150] or rule}/%j.log"


def sbatch_options(properties: dict, walltime: int) -> list[str]:
    """The options of sbatch for a job's threads and resources: time [minutes], memory [MB] and CPUs of each node."""
    resources = properties["resources"]
    minutes = min(int(resources.get("runtime") or walltime), walltime)
    options = [f"--job-name={name_of(properties)}", f"--output={log_of(properties)}", f"--chdir={os.getcwd()}"]
    options += ["--requeue", "--open-mode=append", f"--time={minutes}"]
    # Slurm sends it up to a minute early. The most of a very short limit is for work.
    options.append(f"--signal=B:USR1@{min(WARNING, minutes * 60 // 4)}")
    options += _placement(resources, name_of(properties))
    cpus = int(resources.get("cpus_per_task") or properties["threads"])
    options += [f"--cpus-per-task={cpus}"] if cpus > 0 else []
    if per_cpu := resources.get("mem_mb_per_cpu"):
        options.append(f"--mem-per-cpu={per_cpu}")
    elif memory := resources.get("mem_mb"):
        options.append(f"--mem={memory}")
    if resources.get("gpu_partition") and int(resources.get("gpu") or 0):
        resources = resources | {"slurm_partition": resources["gpu_partition"]}
    for name in ("partition", "account", "qos", "reservation", "constraint"):
        if value := resources.get(f"slurm_{name}") or resources.get(name):
            options.append(f"--{name}={value}")
    if extra := resources.get("slurm_extra"):
        import shlex

        options += shlex.split(extra)
    return options


def _placement(resources: dict, name: str) -> list[str]:
    """Nodes, tasks, and each node's share of the job's GPUs."""
    nodes, gpus = int(resources.get("nodes") or 1), int(resources.get("gpu") or 0)
    if gpus % nodes:
        raise SystemExit(f"{name}: {gpus} GPUs can't be shared equally by {nodes} nodes")
    options = [f"--nodes={nodes}"]
    if tasks := resources.get("tasks"):
        options.append(f"--ntasks={tasks}")
    else:
        options.append(f"--ntasks-per-node={resources.get('tasks_per_node') or 1}")
    model = f"{resources['gpu_model']}:" if resources.get("gpu_model") else ""
    gres = resources.get("gres") or (f"gpu:{model}{gpus // nodes}" if gpus else "")
    return [*options, f"--gres={gres}"] if gres else options


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
        seen = state.setdefault("watched", {}).setdefault(number, {})
        code, remark = _exit_file(number)
        if code is not None:
            state["changed"] = time.time()
        verdict = "success" if code == 0 else _judge(state, number, seen, code, remark)
        if verdict != "running":
            del state["watched"][number]
            state["changed"] = time.time()
            for kind in ("exit", "continue", "done"):
                if os.path.exists(f"{FOLDER}/{number}.{kind}"):
                    os.unlink(f"{FOLDER}/{number}.{kind}")
    return verdict


def _judge(state: dict, number: str, seen: dict, code: int | None, remark: str) -> str:
    """What Slurm says of a job. No answer is no verdict.

    Args: seen: since when [s] the job has been in a state that counts only after a while.
    """
    _refresh(state)
    job = state["jobs"].get(number)
    if job is None and code is None:
        if not state["complete"] or _for(seen, "unknown") < UNKNOWN:
            return "running"
        tell(f"Slurm job {number}: neither squeue nor sacct have known it for {UNKNOWN // 60} minutes")
        return "failed"
    job = job or {"state": "FAILED"}
    seen.pop("unknown", None)
    if job["state"] not in PASSING:
        seen.pop("passing", None)
    if job["state"] == "COMPLETED":
        return "success"
    if job["state"] == "PENDING":
        return _judge_pending(number, job, seen)
    if job["state"] in LIVING | {"COMPLETING"}:
        seen.pop("never", None)
        return "running"
    if job["state"] in PASSING and _for(seen, "passing") < GRACE:
        return "running"
    _tell_failure(number, job, code, remark)
    return "failed"


def _for(seen: dict, what: str) -> float:
    """For how long [s] something has been so."""
    return time.time() - seen.setdefault(what, time.time())


def _judge_pending(number: str, job: dict, seen: dict) -> str:
    reason = job["reason"]
    if not NEVER.search(reason):
        seen.pop("never", None)
        return "running"
    if _for(seen, "never") < (DOUBTFUL if reason == "PartitionConfig" else STUCK):
        return "running"
    asked = f"time limit {job['limit']}, memory {job['memory']}, partition {job['partition']}"
    what = f"{reason} ({asked}); {remedy(reason)}"
    tell(f"Slurm job {number} ({job['name']}) can never start: {what}. Cancelled.", once=f"{reason} {asked}")
    call(["scancel", number])
    return "failed"


def _exit_file(number: str) -> tuple[int | None, str]:
    """What slurm_job.sh wrote at the end: exit code and remark; None while the job runs."""
    try:
        with open(f"{FOLDER}/{number}.exit", encoding="utf-8") as file:
            code, _, remark = file.read().partition(" ")
    except FileNotFoundError:
        return None, ""
    return int(code or 1), remark.strip()


def _tell_failure(number: str, job: dict, code: int | None, remark: str) -> None:
    """Write what Slurm says, where, what to do, and of the job's log its errors, or its end if Snakemake shows none."""
    if job["state"] == "CANCELLED" and "by" not in job:
        job = (accounts([number]) or {}).get(number, job)  # who did it
    rule = job.get("name", "").partition(" ")[0]
    more = f"of rule {rule} (set-resources in the profile)"
    failed = remark or (f"failed with exit code {code}" if code is not None else f"ended as {job['state']}")
    import glob

    log, lines = next(iter(glob.glob(f"{LOGS}/*/*/{number}.log")), None), []
    if log:
        with open(log, encoding="utf-8", errors="replace") as file:
            lines = [line.rstrip() for line in file.readlines()[-200:] if line.strip()]
    if any("exceeded memory limit" in line for line in lines):  # accounting's kill, which Slurm tells in the log alone
        job = job | {"state": "OUT_OF_MEMORY"}
    words = {
        "CANCELLED": f"was cancelled by {_user(job['by'])}" if job.get("by") else "was cancelled",
        "TIMEOUT": f"reached its time limit {job.get('limit')}: raise runtime {more}, or WALLTIME",
        "OUT_OF_MEMORY": f"needed more than its memory {job.get('memory')}: raise mem_mb {more}",
        "NODE_FAIL": "lost its node",
        "BOOT_FAIL": "got a node that didn't boot",
        "PREEMPTED": "gave way to a job of higher priority, and this cluster doesn't put it back into the queue",
        "DEADLINE": "couldn't end before its deadline",
    }.get(job["state"], failed)
    where = f" on {job['nodes']}" if job.get("nodes") else ""
    tell(f"Slurm job {number} ({job.get('name', '?')}){where} {words}" + (f"; its log: {log}" if log else ""))
    told = [line for line in lines if line.startswith("error:")]  # also where the rule's own log can't be written
    if not told and not any("Error in rule" in line for line in lines):  # else Snakemake shows the rule's log
        told = lines[-10:]
    sys.stderr.write("".join(f"    {line}\n" for line in told))


def _user(number: str) -> str:
    import pwd

    try:
        return pwd.getpwuid(int(number)).pw_name
    except (KeyError, ValueError):
        return f"user {number}"


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
        said = done.stderr.strip().removeprefix("slurm_load_jobs error: ")
        raise Unanswered(said or f"squeue: exit code {done.returncode}")
    jobs = []
    for line in done.stdout.splitlines():
        fields = line.split("|", 9)
        words = fields[8].split() if len(fields) == 10 else []  # a name may have a line break
        if len(words) == 4 and words[0] == "freemask":
            number, state, reason, nodes, limit, memory, partition, end, _, name = fields
            jobs.append(
                {"id": number, "state": state, "reason": reason, "nodes": nodes, "limit": limit, "memory": memory}
                | {"partition": partition, "end": _seconds(end), "name": name}
                | dict(zip(("key", "version", "run"), words[1:], strict=True))
            )
    return jobs


def _patient_queue() -> list[dict]:
    """The queue, as soon as Slurm answers. Raises: SystemExit if it doesn't for AWAY."""
    started, pause = time.time(), 5
    while True:
        try:
            return queue()
        except Unanswered as error:
            if time.time() - started > AWAY:
                raise SystemExit(f"Slurm hasn't answered for {AWAY // 60} minutes: {error}") from None
            tell(f"Slurm doesn't answer ({error}); asking again until it does", "away")
        time.sleep(pause)
        pause = min(2 * pause, 30)


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
        nodes = nodes.removeprefix("None assigned")
        jobs[number] = {"state": state, "reason": "", "nodes": nodes, "limit": limit, "memory": memory}
        jobs[number] |= {"partition": partition, "name": name, "by": by}
    return jobs


def _refresh(state: dict) -> None:
    """Ask Slurm about all watched jobs, if its last answer is old: after SOON while jobs end, else more seldom."""
    now = time.time()
    pause = min(SELDOM, max(SOON, (now - state.setdefault("changed", now)) / 20))
    known = set(state.get("jobs", {})) | set(state.get("missed", []))
    if now - state.get("asked", 0) < (pause if known >= set(state["watched"]) else 2):
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
    calm = [number for number in state["watched"] if number in jobs and _is_calm(number, jobs[number], state)]
    path = f"{FOLDER}/{run_id()}.calm"
    with contextlib.suppress(OSError):
        with open(path, "w", encoding="utf-8") as file:
            file.write("".join(f"{number}\n" for number in calm))
        os.utime(path, (now, now + pause))


def _is_calm(number: str, job: dict, state: dict) -> bool:
    """Whether a job simply runs or waits; says it if it is back in the queue, or waits for something special."""
    seen, reason, who = state["watched"][number], job["reason"], f"Slurm job {number} ({job['name']})"
    if job["state"] == "RUNNING":
        seen["ran"] = True
        return True
    if job["state"] in HELD:
        tell(f"{who} is held; `scontrol release {number}` lets it go on", once=f"held {number}")
    if job["state"] != "PENDING" or NEVER.search(reason):
        return False
    if seen.pop("ran", None):
        tell(f"{who} is back in the queue (time limit, preemption or a lost node) and goes on from what it saved")
    if WAITING.search(reason):
        held = f"; `scontrol release {number}` lets it go on" if "held" in reason.lower() else ""
        tell(f"{who} waits: {reason}{held}. Other jobs may wait for the same", once=reason[:40])
    return True


# ---- what a run remembers --------------------------------------------------------------------------------------------


def run_id() -> str:
    """Start [s] and process of the Snakemake that calls, from export()."""
    return os.environ.get("FREEMASK_SLURM_RUN", "0-0")


class State:
    """The memory of a run, locked: a dictionary that is read at the start and written at the end of `with`."""

    def __enter__(self) -> dict:
        os.makedirs(FOLDER, exist_ok=True)
        self.path = f"{FOLDER}/{run_id()}.json"
        self.lock = open(f"{FOLDER}/lock", "w")
        with contextlib.suppress(OSError):  # a file system without locks: two answers may cross
            fcntl.lockf(self.lock, fcntl.LOCK_EX)
        self.state: dict = {}
        with contextlib.suppress(FileNotFoundError, ValueError), open(self.path, encoding="utf-8") as file:
            self.state = json.load(file)
        return self.state

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # a full disk: Slurm is asked more often then
            with open(f"{self.path}.tmp", "w", encoding="utf-8") as file:
                json.dump(self.state, file)
            os.replace(f"{self.path}.tmp", self.path)
        self.lock.close()


def tell(text: str, once: str = "") -> None:
    """Write a line to Snakemake's terminal; with `once` only the first time in a run."""
    path = f"{FOLDER}/{run_id()}.told"
    if once:
        with contextlib.suppress(OSError):
            os.makedirs(FOLDER, exist_ok=True)
            with open(path, "a+", encoding="utf-8") as file:
                file.seek(0)
                if once in file.read().splitlines():
                    return
                file.write(once + "\n")
    sys.stderr.write(f"slurm: {text}\n")


def main(arguments: list[str]) -> None:
    """Run a command: submit <walltime> <jobscript>, status <number>, or cancel."""
    if arguments[0] == "submit":
        try:
            number = submit(arguments[-1], minutes_of(" ".join(arguments[1:-1])))
            sys.stdout.write(f"{number}\n")
        except (SystemExit, OSError) as error:
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
