"""The paper's tables from recorded evaluation files: the numbers that the authors report come out where they belong."""

import json
import shutil

import pandas as pd
import pytest
import recorded
import yaml
from command_line import run_script

from freemask.segmentation.areas import NAME

TITLES = {"ade20k": "ADE20K", "cocostuff164k": "COCO-Stuff-164K"}
TABLES = ["ablations", "classes", "cost", "main", "pretraining"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Evaluations of the 13 pairs and five regimes, of few images, and one ablation of ADE20K's; tables made once."""
    folder = tmp_path_factory.mktemp("paper")
    for dataset in TITLES:
        recorded.write(folder, dataset, images=60)
    training = folder / "results/ade20k/training"
    shutil.copytree(training / "mask2former_swin-t_finetune", training / "mask2former_swin-t_joint-alpha-2")
    write(folder)
    return folder


def write(folder):
    """Run the script on what is evaluated; bytes of its files by name."""
    config = yaml.safe_load((recorded.CONFIG / "config.yaml").read_text())
    roles = ("baseline", "control", "improved")
    compared = {
        name: {"title": title, **{role: config["report"][name][role] for role in roles}}
        for name, title in TITLES.items()
    }
    sets = {
        name: {"strategy": "hardness", "n_max": 20, "filter": f"alpha {chosen['alpha']:g}"}
        for name, chosen in config["synthetic_sets"].items()
    }
    run_script("paper", experiments=recorded.CONFIG / "experiments.tsv", results=folder / "results",
               comparisons=json.dumps(compared), sets=json.dumps(sets), reported=recorded.CONFIG / "reported.yaml",
               tables=folder / "paper")  # fmt: skip
    return {path.name: path.read_bytes() for path in (folder / "paper").iterdir()}


def read(folder, name) -> pd.DataFrame:
    return pd.read_csv(folder / f"paper/{name}.csv", dtype=str)


def test_every_table_in_every_format_with_the_same_bytes(folder):
    before = {path.name: path.read_bytes() for path in (folder / "paper").iterdir()}
    assert sorted(before) == sorted(f"{name}.{suffix}" for name in TABLES for suffix in ("csv", "html", "md", "tex"))
    assert write(folder) == before


def test_the_main_table_holds_the_13_pairs(folder):
    table = read(folder, "main")
    assert len(table) == 13 and table["Data set"].value_counts().to_dict() == {"ADE20K": 7, "COCO-Stuff-164K": 6}
    for ours, authors in (("Real", "real"), ("Joint", "joint"), ("over real", "gain")):
        pd.testing.assert_series_equal(
            table[ours].astype(float), table[f"authors: {authors}"].astype(float), check_names=False
        )
    first = table.iloc[0]
    assert (first["Real 2x"], first["over real 2x"], first.n) == ("49.80", "+2.20", "1")  # 52.00 - 49.80
    assert table["interval, over real 2x"].str.fullmatch(r"\[[+-]\d+\.\d\d, [+-]\d+\.\d\d\]").all()
    latex, page = ((folder / f"paper/main.{suffix}").read_text() for suffix in ("tex", "html"))
    assert r"ADE20K & mask2former\_swin-t & 1 & 48.70 & 49.80 & 50.35 & \textbf{52.00} & +3.30 & [" in latex
    assert r"\label{tab:freemask-main}" in latex and latex.count("{") == latex.count("}") and r"\toprule" in latex
    assert "<b>52.00</b>" in page and "**" not in page + latex and "60 validation images" in page


def test_pretraining_stands_against_joint_training(folder):
    table = read(folder, "pretraining")
    first = table.iloc[0]
    assert (first["Synthetic, then real"], first.Joint, first["joint over it"]) == ("50.35", "52.00", "+1.65")
    authors = table[table.Model == "authors, model not named"]
    assert authors[["Real", "Synthetic", "Joint"]].to_numpy().tolist() == [["48.5", "48.3", "–"], ["50.5", "49.3", "–"]]


def test_an_ablation_made_is_shown_and_one_that_was_not_run_says_so(folder):
    table = read(folder, "ablations").set_index(["Data set", "Experiment"])
    made = table.loc["ADE20K", "mask2former_swin-t_joint-alpha-2"]
    assert (made["filter"], made.mIoU, made["over real"], made["over the main row"]) == (
        "alpha 2",
        "50.35",
        "+1.65",
        "-1.65",
    )
    missing = table.loc["ADE20K", "mask2former_swin-t_joint-repeat"]
    assert (missing.balance, missing.mIoU, missing["interval, over real"]) == ("repeat", "not run", "not run")
    assert len(table) == 24 and '"not run": no evaluation yet.' in (folder / "paper/ablations.md").read_text()


def test_the_supplements_classes_stand_beside_ours(folder):
    table = read(folder, "classes")
    mine = table[table["Data set"] == "ADE20K"]
    ten = recorded.REPORTED["most_improved_ade20k"]
    assert mine.Class.tolist() == [row["class"] for row in ten]
    assert mine["over real"].tolist() == [f"{row['gain']:+.2f}" for row in ten]
    assert mine["authors: rank (gain)"].tolist() == [f"{rank} ({row['gain']:+.2f})" for rank, row in enumerate(ten, 1)]
    assert len(table) == 20 and mine.Control.iloc[0] == "37.73"  # 15 + a third of 68.19


def test_the_authors_hours(folder):
    table = read(folder, "cost").set_index(["Data set", "Model"])
    found = table.loc["ADE20K", "segmenter_vit-s"]
    assert found[["authors: hours", "authors: GPU hours", "authors: last mIoU", "authors: best mIoU"]].tolist() == \
        ["9.3", "74", "47.94", "48.02"]  # fmt: skip


def test_what_is_missing_is_said_cell_by_cell(folder, tmp_path):
    """No joint training of one model, no control's, nothing of the other data set; one evaluation without areas."""
    shutil.copytree(folder / "results/ade20k", tmp_path / "results/ade20k")
    training = tmp_path / "results/ade20k/training"
    for name in ("segformer_mit-b2_joint", "mask2former_swin-t_real-2x"):
        shutil.rmtree(training / name)
    (training / f"mask2former_swin-s_real/seed-0/{NAME}").unlink()
    write(tmp_path)
    table = read(tmp_path, "main").set_index(["Data set", "Model"])
    gone = table.loc["ADE20K", "segformer_mit-b2"]
    assert (gone.Real, gone.Joint, gone["over real"], gone["authors: joint"]) == ("45.60", "not run", "not run", "47.9")
    first = table.loc["ADE20K", "mask2former_swin-t"]
    assert first["Real 2x"] == first["over real 2x"] == "not run" and first["over real"] == "+3.30"
    old = table.loc["ADE20K", "mask2former_swin-s"]
    assert (old["interval, over real"], old.Joint) == ("not kept", "53.30")  # not bold either
    other = table.loc["COCO-Stuff-164K"]
    assert (other[["Real", "Joint", "interval, over real"]] == "not run").all(axis=None) and (other.n == "–").all()
    classes = read(tmp_path, "classes")
    assert classes["over control"].eq("not run").all() and classes.Class.iloc[0] == "ship"
    assert classes.iloc[-1].tolist()[:3] == ["COCO-Stuff-164K", "not run", "–"]
    for dataset in TITLES:
        shutil.rmtree(tmp_path / f"results/{dataset}", ignore_errors=True)
    write(tmp_path)
    classes = read(tmp_path, "classes")
    assert len(classes) == 11 and (classes.Joint == "not run").all() and classes.Class.iloc[9] == "wardrobe"
