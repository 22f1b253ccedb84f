"""Checks of a Slurm site against what a run asks of it; see workflow.preflight. Runs where jobs are submitted."""

import json
import os
import re
import shutil
import subprocess
from typing import Any

from freemask.workflow import slurm
from freemask.workflow.preflight import Findings

Asked = dict[str, Any]  # jobs, minutes of the longest job, partitions ("" is the default), seconds of a batch


def asked(workflow: Any, seconds: float) -> Asked:
    """What Snakemake will ask of Slurm in this run; {} if it submits no jobs.

    Args: workflow: Snakemake's; seconds: that one batch of images takes.
    """
    if workflow.local_exec or workflow.dryrun:
        return {}
    partitions, minutes = {""}, 0
    for rule in workflow.rules:
        if "gpu" in rule.resources and not rule.name.startswith("preflight"):
            minutes = max(minutes, minutes_of(_value(rule, "runtime")))
            partitions.add(str(_value(rule, "gpu_partition") or _value(rule, "slurm_partition") or ""))
    command = str(getattr(workflow.executor_settings, "submit_cmd", ""))
    if given := re.search(r'submit "?(\d+\w*)"?$', command):  # profiles/slurm: no job is longer than WALLTIME
        minutes = min(minutes, minutes_of(given[1]))
    if len(partitions) > 1:
        partitions.discard("")
    jobs = workflow.resource_settings.nodes or 0
    return {"jobs": jobs, "minutes": minutes, "partitions": sorted(partitions), "seconds": seconds}


def export(workflow: Any, seconds: float) -> None:
    """Hand what this run asks of Slurm to its jobs on this machine, each a process of its own."""
    os.environ["FREEMASK_ASKED"] = json.dumps(asked(workflow, seconds))


def _value(rule: Any, name: str) -> Any:
    """A rule's resource, if it has it and it is no function."""
    found = rule.resources.get(name)
    found = getattr(found, "raw", found)
    return None if callable(found) else found


def minutes_of(text: Any) -> int:
    """Minutes of 90, 90m, 48h or 2d; of Slurm's 2-00:00:00, 04:00:00 or 30:00; a large number of no limit."""
    text = str(text or 0).strip()
    if match := re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text):
        days, hours, minutes, _ = (int(part or 0) for part in match.groups())
        return days * 1440 + hours * 60 + minutes
    try:
        return slurm.minutes_of(text)
    except SystemExit:  # UNLIMITED, or what sbatch will refuse
        return 10**6


def check(findings: Findings, wanted: Asked) -> None:
    """Check partitions, time limits, limits of submission, accounting and requeueing."""
    if shutil.which("sinfo") is None:
        findings.errors.append(
            "no sinfo on this machine, but jobs shall go to Slurm; run snakemake on a login node, or without its "
            "profile"
        )
        return
    answer = _ask("scontrol", "show", "config")
    if answer is None:
        findings.errors.append(
            "Slurm doesn't answer (`scontrol show config`); is its controller up? The run would wait for it"
        )
        return
    settings = dict(re.findall(r"^(\w+)\s*= (.*?)\s*$", answer, re.MULTILINE))
    for partition in wanted["partitions"]:
        time_limits(findings, partition, wanted)
    if settings.get("JobRequeue") == "0":
        findings.warnings.append(
            "this cluster requeues no jobs by itself (JobRequeue = 0); profiles/slurm asks for it job by job. If that "
            "is forbidden, a job that reaches its time limit counts as failed and costs one of its `retries`"
        )
    accounting(findings, settings, wanted)


def time_limits(findings: Findings, partition: str, wanted: Asked) -> None:
    """Compare a partition's longest job with what jobs ask for, and with a batch of images."""
    answer = _ask("sinfo", "--noheader", "--format=%P|%l|%a", *([f"--partition={partition}"] if partition else []))
    rows = [line.split("|") for line in (answer or "").splitlines() if line.count("|") == 2]
    rows = [row for row in rows if partition or row[0].endswith("*")]
    if not rows:
        name = f"partition {partition!r}" if partition else "no default partition"
        findings.errors.append(
            f"{name}{' is unknown to Slurm' if partition else ''}; set PARTITION and GPU_PARTITION in the profile to "
            "one of `sinfo`"
        )
        return
    name, limit, state = rows[0][0].rstrip("*"), minutes_of(rows[0][1]), rows[0][2]
    findings.facts[f"minutes_of_{name}"] = limit
    if state != "up":
        findings.warnings.append(f"partition {name} is {state}; jobs wait until it is up")
    if wanted["minutes"] > limit:
        findings.errors.append(
            f"partition {name} allows {limit} minutes, jobs ask for {wanted['minutes']}: they would wait for ever "
            f"(PartitionTimeLimit); set WALLTIME in the profile to {limit}m, jobs go on after it"
        )
    if wanted["seconds"] > 60 * limit:
        findings.errors.append(
            f"partition {name} allows {limit} minutes, one batch of images takes {wanted['seconds']:.0f} s "
            "(batch_size times seconds_per_image): no job would get on; take another partition or a smaller batch_size"
        )


def accounting(findings: Findings, settings: dict[str, str], wanted: Asked) -> None:
    """Say what is lost without accounting; compare the limit of submitted jobs with `jobs` of the profile."""
    if settings.get("AccountingStorageType", "(null)").rpartition("/")[2] in ("none", "(null)", ""):
        findings.warnings.append(
            "this cluster keeps no accounts (AccountingStorageType = none): the state of a job is known for some "
            "minutes after its end only, from squeue, and `sacct` can't tell what it used"
        )
        return
    user = os.environ.get("USER") or os.environ.get("LOGNAME") or str(os.getuid())
    names = ["show", "associations", f"user={user}", "format=Partition,MaxSubmitJobs", "--noheader", "--parsable2"]
    answer = _ask("sacctmgr", *names)
    if answer is None:
        findings.warnings.append(
            "the accounting database (slurmdbd) doesn't answer sacctmgr; until it does, the state of a job is known "
            "for some minutes after its end only"
        )
        return
    rows = [line.split("|") for line in answer.splitlines() if "|" in line]
    limits = [int(row[1]) for row in rows if row[1].isdigit() and (not row[0] or row[0] in wanted["partitions"])]
    if limits and min(limits) < wanted["jobs"]:
        findings.warnings.append(
            f"your account may have {min(limits)} jobs submitted at a time (MaxSubmitJobs), the profile has jobs: "
            f"{wanted['jobs']}; further submissions wait: set jobs to {min(limits)}"
        )


def _ask(*command: str) -> str | None:
    """What a client of Slurm prints; None where it fails or doesn't answer."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout
    except (OSError, subprocess.SubprocessError):
        return None
