"""The paper's configuration without its data: the plan, what is missing, and where to get it."""

import importlib.util
import re
import resource
import subprocess
from collections import Counter

import pandas as pd
import pytest
import yaml
from tiny_run import ROOT, announced, environment, planned, rules, run_snakemake, told_to_cost

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


def timed(folder, *targets: str, dry: bool = True) -> tuple[str, float]:
    """What `snakemake -n` (or without -n) prints, and the processor time that it takes [s]."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = run_snakemake(folder, *targets, *(["-n"] if dry else []), config=None)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stdout
    return done.stdout, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.fixture(scope="module")
def dry_run(fresh) -> tuple[str, float]:
    """The paper's main results."""
    return timed(fresh)


@pytest.fixture(scope="module")
def whole_matrix(fresh) -> tuple[str, float]:
    """The main results and every ablation."""
    return timed(fresh, "all", "ablations_ade20k", "ablations_cocostuff164k")


def trainings(output: str) -> list[str]:
    """Return dataset/experiment/seed of the trainings that are planned."""
    jobs = [wildcards for rule, wildcards in announced(output).values() if rule == "train"]
    return sorted("/".join(part.partition("=")[2] for part in wildcards.split(", ")) for wildcards in jobs)


def rows(*studies: str) -> pd.DataFrame:
    """Return the rows of the experiments table, with the column `training` as above."""
    table = pd.read_csv(ROOT / "config/experiments.tsv", sep="\t", dtype=str, keep_default_na=False)
    table = table[table.study.isin(studies)]
    table = table.assign(train_seeds=table.train_seeds.str.split(",")).explode("train_seeds")
    return table.assign(training=table.dataset + "/" + table.experiment + "/" + table.train_seeds)


def test_dry_run_names_what_is_missing(dry_run):
    check_message(missing(dry_run[0]))


def test_dry_run_lists_each_training_once(dry_run):
    assert trainings(dry_run[0]) == sorted(rows("main").training)
    counts = rules(planned(dry_run[0]))
    assert counts["evaluate"] == counts["train"] == 65
    # one synthesis per shard and data set, whatever the number of trainings
    assert (counts["synthesize"], counts["measure_margins"], counts["filter_masks"]) == (48, 48, 48)


def test_the_whole_matrix_lists_each_training_once(whole_matrix):
    assert trainings(whole_matrix[0]) == sorted(rows("main", "ablation").training)
    counts = rules(planned(whole_matrix[0]))
    assert (counts["train"], counts["synthetic_set"], counts["result_tables"], counts["ablation_tables"]) == (
        87,
        22,
        2,
        2,
    )
    # five plans a data set, in 24 shards each; their images are shared where they are the same
    assert counts["synthesize"] == counts["measure_margins"] == 2 * 5 * 24


def test_planning_is_quick(dry_run, whole_matrix):
    assert dry_run[1] < PLANNING
    assert whole_matrix[1] < PLANNING


def test_cost_counts_the_planned_jobs_and_files(fresh, dry_run):
    """The configuration alone gives the numbers of the dry run, which fetches weights as well."""
    output, seconds = timed(fresh, "cost", "--resources", "gpu=24", dry=False)
    assert seconds < PLANNING
    wanted = rules(planned(dry_run[0]))
    del wanted["fetch_weights_file"]
    log = (fresh / "logs/cost.log").read_text()
    found = sum((Counter(facts["jobs"]) for facts in told_to_cost(log)["datasets"].values()), Counter())
    assert found == wanted
    (total,) = re.findall(r"\nall, one after another +(\d+) +([\d,]+) .* ([\d,]+)\n", output)
    assert (int(total[0]), total[1]) == (sum(wanted.values()), "9,563")
    assert 820_000 < int(total[2].replace(",", "")) < 835_000


def test_the_papers_run_makes_fewer_files_than_many_file_systems_hold(dry_run, whole_matrix):
    """Counted from the code that names them; another alpha adds tables and logs."""
    spec = importlib.util.spec_from_file_location("count_files", ROOT / "benchmarks/files.py")
    counting = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(counting)
    number, folders = counting.count(counting.declared(dry_run[0]))
    assert (number["images"], number["square masks"]) == (221_814 + 463_293, 20_210 + 118_287)
    assert sum(number.values()) < 0.9e6
    assert max(folders.values()) < 5000
    one_alpha = {path for path in counting.declared(whole_matrix[0]) if "alpha-1.75" in path and "ade20k" in path}
    sets = {path for path in one_alpha if "/training/" not in path and "_joint-alpha" not in path}
    assert 90 < len(sets) < 110 and {path.rpartition(".")[2] for path in sets} == {"tsv", "log"}


def test_the_table_holds_the_papers_matrix_and_its_ablations():
    main, ablations = rows("main"), rows("ablation")
    regimes = {("real", "1"), ("real", "2"), ("synthetic", "1"), ("finetune", "1"), ("joint", "2")}
    for dataset, models in (("ade20k", 7), ("cocostuff164k", 6)):
        mine = main[main.dataset == dataset]
        assert mine.model.nunique() == models
        for _, group in mine.groupby("model"):
            assert set(zip(group.regime, group.schedule, strict=True)) == regimes
    config = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    for dataset, n_max in (("ade20k", (20, 10, 5)), ("cocostuff164k", (6, 4, 2))):
        mine = ablations[ablations.dataset == dataset]
        sets = [config["synthetic_sets"][name] for name in mine.synthetic_set]
        found = {
            (config["plans"][s["plan"]]["strategy"], config["plans"][s["plan"]]["n_max"], s["alpha"]) for s in sets
        }
        largest = n_max[0]
        wanted = {("hardness", largest, alpha) for alpha in (1.0, 1.25, 1.5, 1.75, 2.0, float("inf"))}
        wanted |= {("hardness", smaller, 1.25) for smaller in n_max[1:]}
        wanted |= {("uniform", largest, 1.25), ("uniform", largest, float("inf")), ("class_balanced", largest, 1.25)}
        assert found == wanted
        assert mine[mine.balance == "repeat"].synthetic_set.tolist() == [f"{dataset}-filtered"]


def test_ablations_of_a_data_set_are_reached_by_name(fresh):
    done = trainings(run_snakemake(fresh, "-n", "ablations_ade20k", config=None).stdout)
    main, own = rows("main"), rows("ablation")
    compared = main[(main.dataset == "ade20k") & (main.model == "mask2former_swin-t")]
    scorer = "ade20k/segformer_mit-b4_real/0"
    assert done == sorted([*own[own.dataset == "ade20k"].training, *compared.training, scorer])


def test_the_papers_tables_start_no_training(fresh):
    done = run_snakemake(fresh, "-n", "-p", "paper", config=None)
    assert rules(planned(done.stdout)) == {"paper": 1}, done.stdout
    assert "mask2former_swin-t_real-2x" in done.stdout and '"filter": "alpha 1.75"' in done.stdout


def test_one_experiment_is_reached_by_name(fresh):
    name = "mask2former_swin-t_joint-alpha-1.5"
    done = run_snakemake(fresh, "-n", "-p", f"ade20k_{name}", config=None)
    assert trainings(done.stdout) == [f"ade20k/{name}/0", "ade20k/segformer_mit-b4_real/0"]
    repeat = run_snakemake(fresh, "-n", "-p", "ade20k_mask2former_swin-t_joint-repeat", config=None).stdout
    assert "--balance exact" in done.stdout and "--balance repeat" not in done.stdout
    assert "--balance repeat" in repeat


def test_precision_and_nodes_reach_the_trainings(fresh):
    done = run_snakemake(
        fresh, "-n", "-p", "all", "--config", "training_precision=fp16", "training_nodes=2", config=None
    )
    assert done.returncode == 0, done.stdout
    found = re.findall(r"--precision (\w+) .*training/(mask2former|segformer|segmenter)", done.stdout)
    assert set(found) == {("fp32", "mask2former"), ("fp16", "segformer"), ("fp16", "segmenter")}
    launched = re.findall(
        r"srun --ntasks=2 .* torchrun --nnodes 2 --nproc-per-node 4 .* -- \S*scripts/train\.py", done.stdout
    )
    assert len(launched) == 65


def test_cluster_profile_plans_the_same(fresh, dry_run):
    """The line that users type, without --cores; profiles/slurm is found by its short name."""
    done = subprocess.run(["snakemake", "--profile", "slurm", "all", "-n"], cwd=fresh, env=environment(fresh),
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300)  # fmt: skip
    assert done.returncode == 0, done.stdout
    check_message(missing(done.stdout))
    assert planned(done.stdout) == planned(dry_run[0])
    asked = re.search(r"^rule train:\n(?:    .*\n)*?    resources: (.*)", done.stdout, flags=re.MULTILINE)[1]
    assert {"gpu=8", "nodes=1", "gpu_model=v100"} <= set(asked.split(", "))


def test_a_run_stops_before_its_first_job(fresh):
    done = run_snakemake(fresh, config=None)
    assert done.returncode != 0
    check_message(missing(done.stdout))
    assert "Traceback" not in done.stdout
    assert not re.search(r"^(?:local)?rule ", done.stdout, flags=re.MULTILINE)
    made = {path.parent.name for path in (fresh / "results").rglob("*.*") if path.name != "label_space.json"}
    assert made <= {"index", "classes"}  # states of raw data and parts of classes, for the plan
    assert not list((fresh / ".snakemake/locks").glob("*"))
