"""Runs from another folder, as a module, from a checkout that can't be written, and without git."""

import os
import shutil
import subprocess

import pytest
import tiny_run
from tiny_run import ROOT, environment, planned, rules

MODULE = """
configfile: "my.yaml"
module freemask:
    snakefile: "{checkout}/Snakefile"
    config: config
use rule * from freemask as freemask_*
rule all:
    default_target: True
    input: rules.freemask_all.input
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A checkout that can't be written, without .git, inside another git repository."""
    outer = tmp_path_factory.mktemp("outer")
    subprocess.run(["git", "init", "-q", outer], check=True)
    folder = tiny_run.copy_repository(outer / "freemask-1.0")
    subprocess.run(["chmod", "-R", "a-w", folder], check=True)
    yield folder
    subprocess.run(["chmod", "-R", "u+w", folder], check=True)


@pytest.fixture
def elsewhere(tmp_path):
    """A folder with a run of the user's own."""
    shutil.copy(ROOT / "config/demo.yaml", tmp_path / "my.yaml")
    return tmp_path


def run(folder, *arguments):
    """Snakemake in a folder, without an installed library; as root, permissions are read only by others' eyes."""
    chosen = {name: value for name, value in environment(folder).items() if name != "PYTHONPATH"}
    return subprocess.run(["snakemake", *arguments, "--cores", "2"], cwd=folder, env=chosen, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=600)  # fmt: skip


def tree(folder):
    return {str(path) for path in folder.rglob("*") if "__pycache__" not in path.parts}


def test_from_another_folder(checkout, elsewhere):
    before = tree(checkout)
    arguments = ["-s", f"{checkout}/Snakefile", "--directory", str(elsewhere), "--configfile", "my.yaml"]
    here = run(ROOT, "-n", "--configfile", "config/demo.yaml").stdout
    done = run(elsewhere, *arguments, "-n")
    assert done.returncode == 0, done.stdout
    assert rules(planned(done.stdout)) == rules(planned(here)) or os.path.exists(ROOT / "results")
    done = run(elsewhere, "results/miniworld/masks.tsv", *arguments)
    assert done.returncode == 0, done.stdout
    assert (elsewhere / "results/miniworld/masks.tsv").is_file()
    assert tree(checkout) == before
    log = (elsewhere / "logs/miniworld/resize_masks.log").read_text()
    assert "commit unknown" in log.splitlines()[0]  # not the outer repository's
    assert not planned(run(elsewhere, "results/miniworld/masks.tsv", *arguments, "-n").stdout)


def test_as_a_module(checkout, elsewhere):
    (elsewhere / "Snakefile").write_text(MODULE.format(checkout=checkout))
    done = run(elsewhere, "-n", "-p", "all", "freemask_cost")
    assert done.returncode == 0, done.stdout
    assert rules(planned(done.stdout))["freemask_train"] == 12
    assert '"train": {"stage": "segmentation"' in done.stdout  # cost knows rules by their own names
    done = run(elsewhere, "results/miniworld/masks.tsv")
    assert done.returncode == 0, done.stdout
    assert (elsewhere / "results/miniworld/masks.tsv").is_file()


def test_a_data_set_beside_the_checkout(checkout, elsewhere):
    """The user's config/datasets/*.yaml is found in the working directory, the checkout's others stay known."""
    folder = elsewhere / "config/datasets"
    folder.mkdir(parents=True)
    text = (ROOT / "config/datasets/miniworld.yaml").read_text()
    (folder / "mine.yaml").write_text(text.replace("data/miniworld", "data/mine"))
    for name in ("my.yaml", "mine.tsv"):
        source = "config/demo.yaml" if name == "my.yaml" else "config/demo_experiments.tsv"
        (elsewhere / name).write_text((ROOT / source).read_text().replace("miniworld", "mine"))
    config = tiny_run.read_yaml(elsewhere / "my.yaml") | {"experiments": "mine.tsv"}
    models = tiny_run.read_yaml(ROOT / "config/models.yaml")
    models["segformer_mini"]["iterations"] = {"mine": 10}
    tiny_run.write_yaml(elsewhere / "config/models.yaml", models)
    tiny_run.write_yaml(elsewhere / "my.yaml", config)
    done = run(elsewhere, "-s", f"{checkout}/Snakefile", "-n", "--configfile", "my.yaml")
    assert done.returncode == 0, done.stdout
    assert "dataset=mine" in done.stdout


def test_the_papers_run_is_the_default_anywhere(checkout, elsewhere):
    done = run(elsewhere, "-s", f"{checkout}/Snakefile", "-n")
    assert done.returncode == 0, done.stdout
    assert rules(planned(done.stdout))["train"] == 65
