"""The paper's configuration without its data: the plan, what is missing, and where to get it."""

import os
import re
import resource
import subprocess

import pandas as pd
import pytest
from tiny_run import ROOT, announced, environment, planned, rules, run_snakemake

PLANNING = 20.0  # seconds of one core


def missing(output: str) -> str:
    """Return the message, from its first line to its last."""
    found = re.findall(r"^.*raw data missing.*(?:\n  (?!File).*)+", output, flags=re.MULTILINE | re.IGNORECASE)
    assert len(found) == 1, output
    return found[0]


def check_message(text: str) -> None:
    for dataset, source in [
        ("ade20k", "ADEChallengeData2016.zip"),
        ("cocostuff164k", "stuffthingmaps_trainval2017.zip"),
    ]:
        assert re.search(rf"data set {dataset}: folder data/{dataset}\S* .*data_roots.{dataset}.*{source}", text), text
        assert re.search(rf"generator freestyle-{dataset}: weights/\S+\.ckpt; from https://", text), text
    assert len(text.splitlines()) == 5


@pytest.fixture(scope="module")
def dry_run(fresh) -> tuple[str, float]:
    """What `snakemake -n` prints, and the processor time that it takes [s]."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = run_snakemake(fresh, "-n", config=None)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stdout
    return done.stdout, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_dry_run_names_what_is_missing(dry_run):
    check_message(missing(dry_run[0]))


def test_dry_run_lists_each_training_once(dry_run):
    table = pd.read_csv(ROOT / "config/experiments.tsv", sep="\t", dtype=str)
    wanted = [
        f"dataset={row.dataset}, experiment={row.experiment}, train_seed={seed}"
        for row in table.itertuples()
        for seed in row.train_seeds.split(",")
    ]
    trainings = [wildcards for rule, wildcards in announced(dry_run[0]).values() if rule == "train"]
    assert sorted(trainings) == sorted(wanted)
    counts = rules(planned(dry_run[0]))
    assert counts["evaluate"] == len(wanted)
    # one synthesis per shard and data set, whatever the number of trainings; filters: two margins and one
    assert (counts["synthesize"], counts["measure_margins"], counts["filter_masks"]) == (48, 48, 72)


def test_planning_is_quick(dry_run):
    assert dry_run[1] < PLANNING


def test_cluster_profile_plans_the_same(fresh, dry_run):
    """The line that users type, without --cores; profiles/slurm is found by its short name."""
    done = subprocess.run(["snakemake", "--profile", "slurm", "all", "-n"], cwd=fresh, env=environment(fresh),
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300)  # fmt: skip
    assert done.returncode == 0, done.stdout
    check_message(missing(done.stdout))
    assert planned(done.stdout) == planned(dry_run[0])
    block = next(part for part in done.stdout.split("\n\n") if re.search(r"^rule train:", part, flags=re.MULTILINE))
    assert re.search(r"resources: .*gpu=8.*gpu_model=v100.*nodes=1", block), block


def test_a_run_stops_before_its_first_job(fresh):
    done = run_snakemake(fresh, config=None)
    assert done.returncode != 0
    check_message(missing(done.stdout))
    assert "Traceback" not in done.stdout
    assert not re.search(r"^(?:local)?rule ", done.stdout, flags=re.MULTILINE)
    assert not os.path.exists(fresh / "results")
    assert not list((fresh / ".snakemake/locks").glob("*"))
