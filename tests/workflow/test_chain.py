"""The whole chain at the smallest size, and what each change makes it do again: jobs, images and bytes are counted."""

import re

import pandas as pd
import pytest
from tiny_run import CONFIG, ROWS, WORLD, change, finished, hashes, planned, rules, run_snakemake, snakemake, stamps

pytestmark = pytest.mark.slow
IMAGES = "results/miniworld/synthesis/miniature/images/*/*.jpg"
PLAN = "results/miniworld/plans/hardness-2.tsv"
NOTHING = "Nothing to be done"


def plan_of(folder) -> pd.DataFrame:
    return pd.read_csv(folder / PLAN, sep="\t")


def experiments(jobs, rule="train") -> set[str]:
    """Experiments that a rule is planned for."""
    return {re.search(r"experiment=([^,]+)", wildcards)[1] for name, wildcards in jobs if name == rule}


def images_made(folder) -> int:
    """What the logs of the last run of each shard say."""
    text = "".join(path.read_text() for path in (folder / "logs/miniworld/synthesize").rglob("*.log"))
    return len(re.findall(r"\bmade results/\S+\.jpg", text))


def maps_measured(folder) -> int:
    """Margin maps in all packs."""
    return sum(path.read_text().count("\n") for path in folder.glob("results/miniworld/margins/miniature/*/*.index"))


def append(path) -> None:
    """Change a file of code; a comment would start nothing."""
    path.write_text(path.read_text() + "\nCHANGED = True\n")


def test_the_chain_leaves_everything(chain):
    results = chain / "results/miniworld"
    plots = ("most_improved", "class_loss", "hardness", "filtered_share", "training", "confusion")
    figures = {f"{name}.{suffix}" for name in plots for suffix in ("png", "pdf")}
    figures |= {"contact_sheet.png", "predictions.png"}
    assert {path.name for path in (results / "figures").iterdir()} == figures
    tables = {"miou.html", "miou.md", "miou.csv", "miou.tex", "per_class_iou.tsv", "most_improved.tsv"}
    tables |= {"cost.tsv", "cost.html", "warnings.tsv", "warnings.html"}
    assert {path.name for path in (results / "tables").iterdir()} == tables
    table = pd.read_csv(results / "tables/miou.csv")
    assert len(table) == len(ROWS)
    assert table.best_mIoU.notna().tolist() == [model == "other" for _, model, *_ in ROWS]
    cost = pd.read_csv(results / "tables/cost.tsv", sep="\t")
    assert (cost.segments == 1).all() and (cost.hours > 0).all() and (cost.gpu_hours == 0).all()
    page = (chain / "results/report/report.html").read_text()
    assert page.count('<details class="card"') == len(ROWS) and "not recorded" not in page and "<img src=" in page
    assert len(list((results / "masks").glob("*/*.png"))) == WORLD["training"]
    for name, *_ in ROWS:
        made = results / f"training/{name}/seed-0"
        files = {"metrics.json", "per_class_iou.tsv", "image_areas.npz", "confusion.tsv"}
        assert files <= {path.name for path in made.iterdir()}
        pictures = {path.name for path in (made / "predictions").iterdir()}
        assert pictures == {f"{number}.png" for number in range(1, 5)}


def test_every_job_ran_once(chain):
    jobs = finished(chain)
    assert len(jobs) == len(set(jobs))
    counts = rules(set(jobs))
    assert (counts["train"], counts["synthesize"], counts["measure_margins"], counts["filter_masks"]) == (5, 2, 2, 4)
    assert images_made(chain) == len(plan_of(chain)) == len(stamps(chain, IMAGES)) == maps_measured(chain)


def test_a_filtered_mask_is_stored_nowhere(chain):
    assert {path.suffix for path in (chain / "results/miniworld/filtered").rglob("*") if path.is_file()} == {".tsv"}
    train = pd.read_csv(chain / "results/miniworld/synthetic/filtered/train.tsv", sep="\t")
    assert set(train["mask"].str.split("/").str[2]) == {"masks"} and train.filtered.gt(0).any()


def test_a_second_run_does_nothing(rerun):
    """Nor with evaluations from before there were areas."""
    for path in rerun.glob("results/*/training/*/*/image_areas.npz"):
        path.unlink()
    before = hashes(rerun)
    assert NOTHING in snakemake(rerun)
    assert hashes(rerun) == before


def test_alpha_reruns_filtering_and_what_follows(rerun):
    change(rerun / CONFIG, "synthetic_sets", "filtered", "alpha", value=0.9)
    jobs = planned(snakemake(rerun, "-n"))
    assert set(rules(jobs)) == {
        "filter_masks", "synthetic_set", "training_config", "train", "evaluate", "result_tables", "most_improved",
        "list_warnings",
        "plot_most_improved", "plot_filtered_share", "plot_training", "plot_contact_sheet", "plot_confusion",
        "plot_predictions", "training_cost", "write_report",
    }  # fmt: skip
    assert rules(jobs)["filter_masks"] == 2  # two shards of the one alpha
    assert experiments(jobs) == {"synthetic", "finetune", "joint"}


def test_more_images_are_the_missing_ones_only(rerun):
    plan, before = plan_of(rerun), stamps(rerun, IMAGES)
    change(rerun / CONFIG, "plans", "hardness-2", "n_max", value=4)
    done = rules(planned(snakemake(rerun, "--until", "synthesize")))
    assert done == {"plan_synthesis": 1, "synthesize": 2}
    after = stamps(rerun, IMAGES)
    assert {path: after[path] for path in before} == before
    assert images_made(rerun) == len(after) - len(before) == len(plan_of(rerun)) - len(plan) > 0


def test_more_shards_make_no_image_and_no_margin_map_again(rerun):
    before = stamps(rerun, IMAGES)
    change(rerun / CONFIG, "shards", value=3)
    assert rules(planned(snakemake(rerun, "--until", "measure_margins"))) == {"synthesize": 3, "measure_margins": 3}
    assert stamps(rerun, IMAGES) == before
    assert maps_measured(rerun) == len(before)
    manifests = [pd.read_csv(path, sep="\t") for path in rerun.glob("results/*/synthesis/miniature/*/*-of-3.tsv")]
    assert sum(map(len, manifests)) == len(before)


def test_what_verify_finds_is_made_again_and_nothing_else(rerun):
    before, images = hashes(rerun), stamps(rerun, IMAGES)
    flipped, gone = list(images)[1], list(images)[4]
    content = bytearray((rerun / flipped).read_bytes())
    content[-20] ^= 1
    (rerun / flipped).write_bytes(content)
    (rerun / gone).unlink()
    mask, *_ = sorted((rerun / "results/miniworld/masks").glob("*/*.png"))
    mask.write_bytes(mask.read_bytes()[:-5])
    assert "1 of " in (printed := snakemake(rerun, "verify_miniworld")) and " files missing, 2 damaged" in printed
    report = pd.read_csv(rerun / "results/miniworld/verify/report.tsv", sep="\t")
    assert set(report.path) == {str(path.relative_to(rerun)) for path in (rerun / flipped, rerun / gone, mask)}
    for log in (rerun / "logs/miniworld/synthesize").rglob("*.log"):
        log.unlink()
    done = rules(planned(snakemake(rerun, "synthesis_all")))
    assert "train" not in done
    assert images_made(rerun) == 2
    after = stamps(rerun, IMAGES)
    assert {path for path in images if after[path] != images[path]} == {flipped, gone}
    made = {path: digest for path, digest in hashes(rerun).items() if "/verify/" not in path}
    assert made == before
    assert NOTHING in snakemake(rerun, "-n")


def test_tables_that_were_cut_stop_the_run_and_are_made_again(rerun):
    """At the end of a line, where a table still looks whole: no smaller synthetic set is made."""
    before = hashes(rerun)
    cut = [rerun / "results/miniworld" / name for name in ("masks.tsv", "plans/hardness-2.tsv")]
    cut += sorted((rerun / "results/miniworld/synthesis").glob("*/*/1-of-2.tsv"))
    for path in cut:
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    stopped = run_snakemake(rerun, "synthesis_all")
    assert stopped.returncode != 0
    rows = WORLD["training"]
    assert f"error: results/miniworld/masks.tsv: {rows - 1} rows, but it was written with {rows} rows" in stopped.stdout
    assert f"{len(cut)} damaged" in (printed := snakemake(rerun, "verify_miniworld"))
    command = re.search(r"make the tables among them: snakemake (.*)", printed)[1]
    assert {str(path.relative_to(rerun)) for path in cut} <= set(command.split())
    done = rules(planned(snakemake(rerun, *command.split())))
    assert set(done) == {"resize_masks", "mask_hardness", "plan_synthesis", "synthesize"} and done["synthesize"] == 1
    assert {path: digest for path, digest in hashes(rerun).items() if "/verify/" not in path} == before
    assert NOTHING in snakemake(rerun, "-n")


@pytest.mark.parametrize("rule", ["plot_class_loss", "plot_contact_sheet"])
def test_a_changed_plot_reruns_that_plot(rerun, rule):
    append(rerun / f"scripts/{rule}.py")
    assert planned(snakemake(rerun)) == {(rule, "dataset=miniworld")}
    assert NOTHING in snakemake(rerun)


def test_only_a_changed_content_counts(rerun):
    for script in (rerun / "scripts").glob("*.py"):
        script.touch()
    assert NOTHING in snakemake(rerun, "-n")


# what depends on the model `other`, which no figure compares
OF_OTHER = {"training_config", "train", "evaluate", "evaluate_best", "result_tables", "training_cost", "plot_training",
            "write_report"}  # fmt: skip
GPU_CODE = [
    *(f"scripts/{name}.py" for name in ("train", "synthesize", "measure_margins", "class_loss")),
    "freemask/segmentation/runner.py",
    "envs/synthesis.yaml",
]


def test_code_of_gpu_rules_reruns_nothing(rerun):
    for path in GPU_CODE:
        append(rerun / path)
    assert NOTHING in snakemake(rerun, "-n")


def test_the_same_masks_made_again_train_nothing(rerun):
    append(rerun / "freemask/filtering/filters.py")
    done = rules(planned(snakemake(rerun, "synthesis_all")))
    assert {"filter_masks": 4, "synthetic_set": 2}.items() <= done.items()
    of_dataset = {(rule, "dataset=miniworld") for rule in ("list_warnings", "plot_contact_sheet")}
    filters_itself = {*of_dataset, ("write_report", "")}
    assert planned(snakemake(rerun, "-n")) == filters_itself


def test_a_models_learning_rate_reruns_its_trainings(rerun):
    change(rerun / "config/tiny_models.yaml", "other", "overrides", "optim_wrapper", "optimizer", "lr", value=0.001)
    jobs = planned(snakemake(rerun, "-n"))
    assert set(rules(jobs)) == OF_OTHER
    assert experiments(jobs) == {"joint-unfiltered"}


def test_the_scorers_learning_rate_reruns_the_plan(rerun):
    change(rerun / "config/tiny_models.yaml", "tiny", "overrides", "optim_wrapper", "optimizer", "lr", value=0.001)
    counts = rules(planned(snakemake(rerun, "-n")))
    assert {"class_loss", "mask_hardness", "plan_synthesis", "synthesize", "measure_margins"} <= set(counts)
    assert counts["train"] == len(ROWS)


def test_one_more_train_seed_is_one_more_training(rerun):
    path = rerun / "config/tiny_experiments.tsv"
    path.write_text(re.sub(r"^(joint-unfiltered.*)0$", r"\g<1>0,1", path.read_text(), flags=re.MULTILINE))
    jobs = planned(snakemake(rerun, "-n"))
    assert set(rules(jobs)) == OF_OTHER
    assert {wildcards for name, wildcards in jobs if name == "train"} == {
        "dataset=miniworld, experiment=joint-unfiltered, train_seed=1"
    }
