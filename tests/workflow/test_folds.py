"""Cross-fitted class losses: segmentors of folds score what they weren't trained on, and nothing else is made again."""

import re

import pandas as pd
import pytest
import tiny_run
from tiny_run import hashes, planned, rules, snakemake

from freemask import tables


@pytest.mark.slow
def test_a_set_of_folds_that_relabels(rerun):
    """Beside a finished run: its own scorer, masks and images are used, and its results stay."""
    before = hashes(rerun)
    config = tiny_run.read_yaml(rerun / tiny_run.CONFIG)
    config["synthetic_sets"]["crossed"] = config["synthetic_sets"]["filtered"] | {"folds": 2, "filter": "relabel"}
    tiny_run.write_yaml(rerun / tiny_run.CONFIG, config)
    target = "results/miniworld/synthetic/crossed/train.tsv"
    done = rules(planned(snakemake(rerun, target)))
    assert done == {
        **dict.fromkeys(("split_fold", "training_config", "train", "measure_margins", "filter_masks"), 2),
        "fold_loss": 4,
        "gather_fold_losses": 1,
        "synthetic_set": 1,
    }
    after = hashes(rerun)
    assert {path: after[path] for path in before} == before

    folder = rerun / "results/miniworld"
    index = tables.read_table(folder / "index/train.tsv", ["mask_id"])
    for fold in ("1-of-2", "2-of-2"):
        train, held, scored = (
            tables.read_table(folder / path, ["mask_id"]).mask_id.tolist()
            for path in (f"folds/{fold}/train.tsv", f"folds/{fold}/held.tsv", f"folds/{fold}/class_loss/1-of-2.tsv")
        )
        config_py = (folder / f"training/real.fold-{fold}/seed-0/config.py").read_text()
        assert f"folds/{fold}/train.tsv" in config_py and not re.search(r"index/train\.tsv", config_py)
        assert sorted(train + held) == index.mask_id.tolist() and not set(train) & set(scored)
    own, crossed = (pd.read_csv(folder / name, sep="\t") for name in ("class_loss.tsv", "class_loss~2-folds.tsv"))
    assert own.pixels.equals(crossed.pixels) and not own.class_loss.equals(crossed.class_loss)
    table = tables.read_table(rerun / target, ["filter", "margin", "image"])
    assert set(table["filter"]) == {"relabel"}
    plain = tables.read_table(folder / "synthetic/filtered/train.tsv", ["margin", "image"])
    assert table.image.equals(plain.image) and not set(table.margin) & set(plain.margin)
    assert "Nothing to be done" in snakemake(rerun, "-n", target)


def test_folds_of_the_run_limit_hardness_and_every_filter(fresh):
    """The class losses are those of the folds; the paper's way, one job of the scorer, isn't run."""
    config = tiny_run.read_yaml(fresh / tiny_run.CONFIG) | {"class_loss": {"folds": 3}}
    tiny_run.write_yaml(fresh / "config/folds.yaml", config)
    target = "results/miniworld/class_loss.tsv"
    done = rules(planned(snakemake(fresh, "-n", target, config="config/folds.yaml")))
    assert (done["split_fold"], done["fold_loss"], done["train"], done["class_loss"]) == (3, 6, 3, 0)
