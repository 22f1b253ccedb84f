"""What holds for every rule; Snakemake is asked, not the text of its files."""

import re
from collections import Counter
from types import SimpleNamespace

import pandas as pd
import pytest
from snakemake.shell import shell
from tiny_run import CONFIG, planned, read_yaml, snakemake, write_yaml

from freemask import watchdog
from freemask.workflow.code import code_digest, code_files
from rules import ROOT, load_rules

JOBS = {name: rule for name, rule in load_rules().items() if rule.shellcmd}
# no outputs: they run whenever asked for
BY_REQUEST = {name for name in JOBS if re.match(r"(fetch|look|verify|unused|prune)_|(cost|paper)$", name)}


def script_of(name: str) -> str:
    """The script that a rule runs; a figure's has the name of its rule."""
    found = re.search(r"(\w+)\.py", JOBS[name].shellcmd)
    return found[1] if found else name


@pytest.mark.parametrize("name", JOBS)
def test_every_job_says_what_it_is(name):
    rule = JOBS[name]
    assert rule.docstring, "no docstring"
    assert list(rule.log), "no log"
    assert rule.conda_env, "no environment"
    assert rule.benchmark or name in BY_REQUEST, "no benchmark"


@pytest.mark.parametrize("name", sorted(JOBS.keys() - BY_REQUEST))
def test_cpu_rules_rerun_with_their_code_and_gpu_rules_dont(name):
    """What a rerun costs decides what triggers it."""
    rule = JOBS[name]
    expensive = "gpu" in rule.resources or name == "fetch_weights_file"
    code = rule.params.get("code")
    assert callable(code) or code == (None if expensive else code_digest(script_of(name)))  # with the code of plug-ins
    assert bool(code) != expensive


@pytest.mark.parametrize("name", JOBS)
def test_paths_and_texts_are_quoted(name):
    """A field of a shell command is quoted, or can hold no character that a shell reads."""
    bare = re.findall(r"\{(input|output|log)((?:\.\w+)?)\}", JOBS[name].shellcmd)
    assert not bare


def test_jobs_are_told_the_limit_of_their_watchdog():
    """No parameter: another limit makes no result outdated."""
    assert f" export {watchdog.MINUTES}=30; " in shell._process_prefix


def test_scripts_and_rules_share_one_name():
    scripts = {path.stem for path in (ROOT / "scripts").glob("*.py")}
    assert {script_of(name) for name in JOBS} == scripts


def test_a_fix_of_the_label_space_reruns_what_reads_labels(tmp_path):
    """By hand: these scripts import it, directly or not."""
    readers = {path.stem for path in (ROOT / "scripts").glob("*.py") if "label_space.py" in
               {file.name for file in code_files(path.stem)}}  # fmt: skip
    assert {"resize_masks", "check_dataset", "filter_masks", "synthetic_set", "gather_class_loss"} <= readers
    assert not {"fetch_dataset", "fetch_weights", "plot_hardness"} & readers


def test_every_target_with_a_name_plans(fresh):
    """Of a data set: table, export, look, verify, unused, prune, ablations, experiments; of a run: all, paper, cost."""
    rows = pd.read_csv(fresh / "config/tiny_experiments.tsv", sep="\t", dtype=str)
    rows["study"] = ["main"] * (len(rows) - 1) + ["ablation"]
    rows.to_csv(fresh / "config/with_ablation.tsv", sep="\t", index=False)
    asked = read_yaml(ROOT / "config/evidence.yaml")["evidence"] | {"classes": ["joint", "real"], "judge": "real"}
    asked |= {"advice": [], "sheets": [], "questions": {"gain": {"question": "?", "differences": [["joint", "real"]]}}}
    config = read_yaml(fresh / CONFIG) | {"experiments": "config/with_ablation.tsv", "evidence": asked}
    write_yaml(fresh / "config/with_ablation.yaml", config)
    targets = {
        name
        for name, rule in load_rules(str(fresh / "config/with_ablation.yaml"), folder=fresh).items()
        if not rule.wildcard_names
    }
    kinds = ("ablations", "export", "look", "prune", "table", "unused", "verify")
    assert {f"{kind}_miniworld" for kind in kinds} | {"all", "cost", "paper", "preflight", "synthesis_all"} <= targets
    jobs = planned(snakemake(fresh, "-n", *sorted(targets), config="config/with_ablation.yaml"))
    assert targets - {"all"} <= {rule for rule, _ in jobs}


def test_a_generator_that_is_trained_once_is_sampled_with_several_settings():
    rules = load_rules("config/evidence.yaml", "config/evidence-gpu.yaml")
    source, weights = (rules["prepare_generator"].input[name] for name in ("path", "weights"))
    for generator in ("miniature", "few-steps", "faulty"):
        of = SimpleNamespace(dataset="evidence-gpu", generator=generator)
        folder = "results/evidence-gpu/generator_training/miniature"
        assert (source(of), weights(of)) == (f"{folder}/pipeline/model_index.json", f"{folder}/weights.json")


def test_no_two_functions_of_rules_have_one_name():
    """They share one namespace: the later one would be used in place of the earlier."""
    files = [ROOT / "Snakefile", *sorted((ROOT / "rules").rglob("*.smk"))]
    names = Counter(re.findall(r"^def (\w+)", "\n".join(path.read_text() for path in files), re.MULTILINE))
    assert [name for name, number in names.items() if number > 1] == []
