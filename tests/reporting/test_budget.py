"""Cost of a run before it is paid, by hand: from its own times, a card's measurements, the authors' figures."""

import copy
import json
import math
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from test_cost import segment

from freemask import files
from freemask.reporting import budget, gpu_seconds
from rules import load_rules

ROOT = Path(__file__).parents[2]
FIGURES = {
    "gpu": "V100",
    "gpus": 8,
    "iterations": {"world": 1000},
    "hours": {"world": {"small_a": 5, "small_b": 10, "large_c": 1}},
    "seconds_per_scored_image": 0.5,
    "weights": {"small_a": 1e6},
}
NUMBERS = {
    "machine": {"gpu": "Card"},
    "eager": {"image_float16_8": 0.4},
    "compiled": {"image_8": 0.2, "first_call": 20.0, "vae_first_call": 10.0},
    "scoring_tf32_on_batch_8": {"seconds": 2.0, "images": 20},
    "training_small_a": {
        "theirs_iterations_a_second": 2.0,
        "ours-launched_iterations_a_second": 4.0,
        "ours_iterations_a_second": 8.0,
    },
}
GENERATOR = {"image_size": 512, "steps": 50}
PLAN = {"generator": "g", "strategy": "hardness", "n_max": 4, "images": 0}
RUN = {
    "gpus": 4,
    "training_gpus": 2,
    "shards": 2,
    "views": 1,
    "rules": {
        "resize_masks": {"stage": "data", "files": 3, "gpus": 0},
        "class_loss": {"stage": "selection", "files": 3, "gpus": 1},
        "synthesize": {"stage": "generation", "files": 3, "gpus": 1},
        "train": {"stage": "segmentation", "files": 3, "gpus": 2},
    },
    "generators": {"g": GENERATOR},
    "models": {name: {"gpus": 8, "way": "merged", "validated": True} for name in ("small_a", "small_b", "large_c")},
    "datasets": {
        "world": {
            "pairs": {"train": 100, "val": 10},
            "mask_size": 512,
            "fold_losses": 0,
            "jobs": {"resize_masks": 1, "class_loss": 1, "synthesize": 2, "train": 2},
            "plans": [PLAN],
            "trainings": [
                {"name": "real/seed-0", "model": "small_a", "updates": 100},
                {"name": "joint/seed-0", "model": "small_a", "updates": 200},
            ],
        }
    },
}
IMAGES = 289  # min(1 + round(4 p / 100), 4) over p = 1..100: 12 * 1 + 25 * 2 + 25 * 3 + 38 * 4
PAPER = gpu_seconds.Paper(FIGURES, 6.0)
CARD = gpu_seconds.Card(NUMBERS, PAPER, {"small_a": 8, "small_b": 8, "large_c": 8})


def row(estimate, stage, rule=""):
    return estimate.rows[stage, rule]


def test_the_authors_figures():
    estimate = budget.Estimate(RUN, PAPER)
    assert row(estimate, "generation", "synthesize").gpu_seconds == pytest.approx(IMAGES * 6.0)
    assert row(estimate, "selection", "class_loss").gpu_seconds == pytest.approx(100 * 0.5)
    train = row(estimate, "segmentation", "train")
    # 5 hours on 8 GPUs for 1000 updates: 4 and 8 GPU hours, 2 and 4 hours on 2 GPUs, both at a time on 4
    assert train.times == pytest.approx([2 * 3600, 4 * 3600]) and train.gpu_seconds == pytest.approx(12 * 3600)
    assert train.wall(4) == pytest.approx(4 * 3600) and train.wall(2) == pytest.approx(6 * 3600)
    assert math.isinf(train.wall(1))
    assert train.sources == {"V100, authors' figures"}


def test_disk_and_files():
    estimate = budget.Estimate(RUN, PAPER)
    images = row(estimate, "generation", "synthesize")
    assert (images.jobs, images.files) == (2, 2 * 3 + IMAGES + 256)
    assert images.bytes == pytest.approx(IMAGES * 512**2 * 0.9)
    train = row(estimate, "segmentation", "train")
    assert train.bytes == 2 * 2e6  # last and best weights of both
    assert train.files == 2 * 3 + 2 * (10 + 2)
    assert row(estimate, "data").files == 3 + 100 + 256


def test_a_cards_measurements():
    estimate = budget.Estimate(RUN, CARD)
    # 144.5 images a job: compiled 0.2 + 30 / 144.5 = 0.41 s isn't worth it
    assert row(estimate, "generation", "synthesize").gpu_seconds == pytest.approx(IMAGES * 0.4)
    assert row(estimate, "selection", "class_loss").gpu_seconds == pytest.approx(100 * 0.1)
    assert row(estimate, "segmentation", "train").gpu_seconds == pytest.approx(300 * 8 / 4.0)
    assert CARD.image(GENERATOR, 300) == pytest.approx(0.2 + 0.1)
    assert CARD.image(GENERATOR | {"compile": False}, 300) == pytest.approx(0.4)
    assert CARD.image({"image_size": 256, "steps": 101}, 1) == pytest.approx(0.4 / 4 * 2)


def test_a_model_that_a_card_did_not_run():
    """small_b takes twice small_a's hours on the authors' cards; large_c has no relative with its head."""
    assert CARD.training("small_b", "world", 100, "captured") == pytest.approx(2 * 100 * 8 / 8.0)
    assert CARD.training("large_c", "world", 100, "merged") is None
    run = copy.deepcopy(RUN)
    run["datasets"]["world"]["trainings"][0]["model"] = "large_c"
    run["datasets"]["world"]["trainings"][1]["model"] = "unknown"
    run["models"]["unknown"] = run["models"]["small_a"]
    train = row(budget.Estimate(run, CARD), "segmentation", "train")
    assert train.times == [pytest.approx(8 * 360 / 2), None]
    assert train.sources == {"V100, authors' figures; not known"}
    assert not train.known and budget.hours(train.gpu_seconds, train.known) == "> 0.80"


def test_the_runs_own_times_come_first(tmp_path):
    """One training took 100 s on two GPUs for 100 updates, so the other takes 200 s; images 3 s; a job 7 s."""
    training = tmp_path / "results/world/training/real/seed-0"
    segment(training, 1, 100, 2)
    files.write_atomic(training / "weights.pth", b"x")
    shard = tmp_path / "logs/world/synthesize/g/p/1-of-2"
    files.write_atomic(f"{shard}.log", b"synthesize 1-of-2: 10 images made, 0 were there\n")
    files.write_atomic(f"{shard}.benchmark.tsv", b"s\th:m:s\n30.0\t0:00:30\n")
    files.write_atomic(tmp_path / "logs/world/class_loss/1-of-1.benchmark.tsv", b"s\th:m:s\n7.0\t0:00:07\n")
    estimate = budget.Estimate(RUN, CARD, gpu_seconds.Done(tmp_path / "results", tmp_path / "logs"))
    train = row(estimate, "segmentation", "train")
    assert train.times == [100, 200] and train.sources == {"measured in this run"}
    assert row(estimate, "generation", "synthesize").gpu_seconds == pytest.approx(IMAGES * 3.0)
    assert row(estimate, "selection", "class_loss").times == [7.0]


def test_what_is_saved():
    saved = budget.savings(RUN, CARD)
    hours = {text: None if value is None else round(3600 * value, 3) for text, value in saved.items()}
    assert list(hours.values()) == [
        pytest.approx((400 - IMAGES) * 0.4, abs=1e-3),
        None,  # compilation doesn't pay for so few images
        300 * 8 * (1 / 2 - 1 / 4),
        300 * 8 * (1 / 4 - 1 / 8),
    ]
    run = copy.deepcopy(RUN)
    run["datasets"]["world"]["plans"] = [PLAN | {"images": 1000, "n_max": 20}]
    assert 3600 * budget.savings(run, CARD)["compiled generators"] == pytest.approx(1000 * 0.2 - 2 * 30)
    assert list(budget.savings(RUN, PAPER).values())[1:] == [None] * 3


def test_the_shipped_figures():
    """Swin-T has no hours on ADE20K: twice those of COCO-Stuff for twice the updates. Rates: docs/benchmarks.md."""
    authors = gpu_seconds.read_paper(ROOT / "config/reported.yaml", ROOT / "resources/costs/v100.yaml", 5.8)
    assert authors.training("mask2former_swin-t", "ade20k", 320_000, "merged") == pytest.approx(8 * 33.0 * 3600)
    assert authors.training("segformer_mit-b4", "ade20k", 160_000, "merged") == pytest.approx(8 * 33.3 * 3600 / 2)
    assert authors.training("segformer_mit-b4", "cocostuff164k", 80_000, "merged") == pytest.approx(8 * 17.2 * 1800)
    # the authors' log of Segmenter ViT-S on COCO-Stuff: 4 GPUs, 7.0 hours
    assert authors.training("segmenter_vit-s", "cocostuff164k", 160_000, "merged") == pytest.approx(4 * 7.0 * 3600)
    models = yaml.safe_load((ROOT / "config/models.yaml").read_text())
    assert authors.figures["weights"].keys() == models.keys() - {"segformer_mini"}
    h200 = gpu_seconds.Card(files.read_json(ROOT / "resources/costs/h200.json"), authors, dict.fromkeys(models, 8))
    assert h200.name == "NVIDIA H200" and h200.scored() == pytest.approx(2.16 / 128)
    assert h200.eager_and_compiled(GENERATOR) == pytest.approx((0.331, 0.235), abs=1e-3)
    assert h200.training("segformer_mit-b4", "ade20k", 1000, "captured") == pytest.approx(8000 / 15.9, rel=1e-2)


def test_a_preflight_that_was_passed_by_hand_names_no_card(tmp_path):
    folder = tmp_path / "world/preflight"
    folder.mkdir(parents=True)
    (folder / "submitting.json").touch()
    (folder / "synthesis.json").write_text('{"gpu": "NVIDIA H200"}')
    (h200,) = (ROOT / "resources/costs").glob("*.json")
    source, *_ = gpu_seconds.read_sources(
        RUN | {"seconds_per_image": 1},
        ROOT / "config/reported.yaml",
        ROOT / "resources/costs/v100.yaml",
        [h200],
        "",
        tmp_path,
    )
    assert source.name == "NVIDIA H200"


def test_plans_of_one_generator_share_images():
    run = copy.deepcopy(RUN)
    run["datasets"]["world"]["plans"] += [PLAN | {"strategy": "all"}]
    assert budget.Estimate(run, PAPER).images("world") == {"g": 400}
    assert budget.images_of(PLAN | {"strategy": "my:own"}, 100) == 400
    assert budget.images_of(PLAN | {"n_max": 20}, 20_210) == 221_814  # the paper's


def test_jobs_are_packed_onto_gpus():
    assert budget.makespan([3, 3, 2, 2, 2], 2) == 7  # 3 + 2 + 2 and 3 + 2
    assert budget.makespan([], 3) == 0


def test_the_report_names_stages_and_cards(tmp_path):
    text = budget.report(RUN, CARD, [PAPER, CARD], gpu_seconds.Done(tmp_path, tmp_path))
    assert text.startswith("world as configured, on 4 GPUs, Card\n")
    assert re.search(r"\ngeneration, synthesize +2 +0\.03 +1\.0 min +68\.2 MB +551  Card\n", text), text
    unknown = copy.deepcopy(RUN)
    unknown["datasets"]["world"]["pairs"] = {"train": 0, "val": 0}
    assert "\nworld: number of pairs not known" in budget.report(
        unknown, CARD, [CARD], gpu_seconds.Done(tmp_path, tmp_path)
    )
    on_cpu = budget.report(RUN | {"training_gpus": 0}, CARD, [CARD], gpu_seconds.Done(tmp_path, tmp_path))
    assert "CPU hours" in on_cpu and "Card" not in on_cpu
    assert re.search(r"\nsegmentation, train +\d+ +– +– .* not known", on_cpu), on_cpu
    assert re.search(r"\nall, one after another +\d+ +> [\d.]+ +> [\d.]+ min ", on_cpu), on_cpu


@pytest.mark.parametrize("cores", [None, 3])
def test_a_run_is_described_without_cores_as_through_slurm(cores, monkeypatch):
    """`--profile slurm` gives none; the plan that `status` reads is written at every start."""
    rules = load_rules("config/demo.yaml")
    workflow = rules["cost"].workflow
    monkeypatch.setattr(workflow.resource_settings, "cores", cores)
    described = json.loads(rules["cost"].params.run(None))
    assert described["gpus"] == (cores or 2) and described["shards"] == 2


def test_a_job_keeps_the_name_of_its_rule():
    """export_synthetic_set isn't synthetic_set, which its name ends with."""
    rules = load_rules("config/demo.yaml")
    plan_of = rules["cost"].params.run.__globals__["plan_of"]
    for name in ("export_synthetic_set", "synthetic_set"):
        job = SimpleNamespace(rule=rules[name], wildcards_dict={"dataset": "miniworld", "synthetic_set": "filtered"},
                              resources={}, log=[], benchmark="proof")  # fmt: skip
        assert (plan_of(job, [])["rule"], plan_of(job, [])["name"]) == (name, "filtered")
