"""What a change of the classes makes run again: labels train, words caption, colors paint, names stand in tables."""

import base64
import json
import re

import pandas as pd
import pytest
import tiny_run
from tiny_run import planned, read_yaml, rules, snakemake, write_yaml

from freemask.data.label_space import LabelSpace
from freemask.workflow import classes

CLASSES = "config/datasets/miniworld.tsv"
OF_LABEL_SPACE = {"list_warnings", "plot_class_loss", "plot_confusion", "plot_contact_sheet", "plot_filtered_share",
                  "plot_predictions", "write_report"}  # fmt: skip
OF_NAMES = OF_LABEL_SPACE | {"result_tables", "most_improved", "plot_most_improved"}
GPU_ON_REAL = {"class_loss", "train_generator"}


def change_class(folder, column: str, value: str) -> None:
    """Change the class `sky`."""
    table = pd.read_csv(folder / CLASSES, sep="\t")
    table.loc[table.label == 3, column] = value
    table.to_csv(folder / CLASSES, sep="\t", index=False)


def trained(output: str) -> set[str]:
    """Experiments that are trained."""
    return {re.search(r"experiment=([\w-]+)", wildcards)[1] for rule, wildcards in planned(output) if rule == "train"}


@pytest.mark.slow
def test_each_part_of_a_class_starts_what_uses_it(rerun):
    change_class(rerun, "color", "#6ab4f1")
    assert set(rules(planned(snakemake(rerun, "-n")))) == OF_LABEL_SPACE
    change_class(rerun, "name", "heaven")
    counts = rules(planned(snakemake(rerun)))  # and the names stand in the tables
    assert set(counts) == OF_NAMES
    for table in ("tables/per_class_iou.tsv", "tables/most_improved.tsv"):
        assert "heaven" in (rerun / "results/miniworld" / table).read_text(), table
    assert "Nothing to be done" in snakemake(rerun, "-n")
    change_class(rerun, "word", "heaven")
    output = snakemake(rerun, "-n")
    assert {"synthesize", "measure_margins", "filter_masks", "synthetic_set"} <= set(rules(planned(output)))
    assert not GPU_ON_REAL & set(rules(planned(output)))
    assert trained(output) == {"synthetic", "finetune", "joint", "joint-unfiltered"}
    change_class(rerun, "word", "sky")
    table = pd.read_csv(rerun / CLASSES, sep="\t")
    table.iloc[::-1].to_csv(rerun / CLASSES, sep="\t", index=False)  # other train ids for the same labels
    output = snakemake(rerun, "-n")
    assert trained(output) == {"real", "synthetic", "finetune", "joint", "joint-unfiltered"}
    assert "class_loss" in rules(planned(output))


@pytest.mark.slow
def test_results_from_before_these_files_stay_until_the_classes_change(rerun):
    for record in (rerun / ".snakemake/metadata").iterdir():
        content = json.loads(record.read_text())
        path = base64.urlsafe_b64decode(record.name).decode()
        if re.search(r"weights\.pth|/class_loss/|/synthesis/|/margins/", path):
            inputs = [name for name in content["input"] if "/classes/" not in name]
            assert len(inputs) < len(content["input"]), path
            record.write_text(json.dumps(content | {"input": inputs}))
    assert "Nothing to be done" in snakemake(rerun, "-n")
    change_class(rerun, "color", "#6ab4f1")
    assert "class_loss" in rules(planned(snakemake(rerun, "-n")))


def inputs_of(output: str, rule: str) -> str:
    return re.search(rf"^rule {rule}:\n    input: (.*)$", output, flags=re.MULTILINE)[1]


def test_colors_count_where_a_generator_sees_them(fresh, tmp_path):
    assert "classes/colors.json" not in inputs_of(snakemake(fresh, "-n"), "synthesize")
    config = read_yaml(fresh / tiny_run.CONFIG)
    config["generators"]["miniature"]["method"] = "controlnet"
    write_yaml(fresh / "config/controlnet.yaml", config)
    found = inputs_of(snakemake(fresh, "-n", config="config/controlnet.yaml"), "synthesize")
    assert all(f"classes/{part}.json" in found for part in ("labels", "words", "colors"))


def test_a_part_that_stays_keeps_its_file(tmp_path):
    space = LabelSpace((7, 3), ("a", "b"), ("a", "b"), ((1, 2, 3), (4, 5, 6)), ignored=0)
    classes.notice(space, tmp_path)
    folder = tmp_path / "classes"
    before = {path.name: path.stat().st_ino for path in folder.iterdir()}
    (folder / "words.json").write_text("{")  # cut off
    classes.notice(LabelSpace((7, 3), ("a", "c"), ("a", "b"), ((1, 2, 3), (4, 5, 6)), ignored=0), tmp_path)
    after = {path.name: path.stat().st_ino for path in folder.iterdir()}
    assert {name for name in after if after[name] != before[name]} == {"names.json", "words.json"}
    assert json.loads((folder / "names.json").read_text()) == [[7, "a"], [3, "c"]]
