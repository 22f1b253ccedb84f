# What a run leaves for freemask.reporting.status. Functions are named after what they do.


def plan_of(job, waiting):
    """What `status` is told of a job (see freemask.reporting.status.Job)."""
    name, values = job.rule.name, {key: str(value) for key, value in job.wildcards_dict.items() if key != "dataset"}
    return {
        "stage": Path(job.rule.snakefile).stem,
        "rule": name,
        "dataset": job.wildcards_dict.get("dataset", ""),
        "name": "{experiment}/seed-{train_seed}".format(**values) if name == "train" else " ".join(values.values()),
        "gpus": int(job.resources.get("gpu", 0)),
        "log": str(next(iter(job.log), "")),
        "proof": str(job.benchmark or job.output[0]),
        "todo": job in waiting,
    }


def write_plan():
    """Write the jobs of this run to logs/plan.json (of a named run plan@<run>.json), and what `cost` is told of them."""
    waiting = set(workflow.dag.needrun_jobs(exclude_finished=False))
    if not any(job.output for job in waiting):  # e.g. `paper`, beside a run
        return
    plan = {
        "started": time.time(),
        "run": json.loads(cost_of_run(None)),
        "jobs": [plan_of(job, waiting) for job in workflow.dag.jobs if job.output],
        "reported": REPORTED,
        "paper": str(place("resources/costs/v100.yaml")),
        "cards": measured_cards(None),
        "card": next((one for job in workflow.dag.jobs if (one := job.resources.get("gpu_model"))), ""),
    }
    path = f"logs/plan{OF_RUN}.json"
    write_json(path, plan)
    # By the clock of the disk, as the times of jobs' files.
    write_json(path, plan | {"started": os.stat(path).st_mtime})
