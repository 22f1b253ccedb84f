"""The filter of a synthetic set in the paths of its filtered masks."""

import json
from types import SimpleNamespace

import pytest
import yaml

from rules import ROOT, load_rules


@pytest.mark.parametrize(
    ("folder", "rule", "alpha"),
    [
        ("alpha-1.25", "margin", "1.25"),
        ("alpha-inf", "margin", "inf"),
        ("my_filters.keep-0.9", "my_filters:keep", "0.9"),
        ("my.filters.keep-inf", "my.filters:keep", "inf"),
    ],
)
def test_a_folder_names_rule_and_alpha(folder, rule, alpha):
    params, wildcards = load_rules()["filter_masks"].params, SimpleNamespace(filter=folder)
    assert (params.filter(wildcards), params.alpha(wildcards)) == (rule, alpha)


def test_a_set_names_its_folder(tmp_path, monkeypatch):
    (tmp_path / "my_filters.py").write_text(
        "def keep(scored): ...\ndef change(scored): ...\nchange.reads_predictions = True\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    config = yaml.safe_load((ROOT / "config/demo.yaml").read_text())
    chosen = config["synthetic_sets"]["filtered"]
    config["synthetic_sets"] |= {
        "kept": chosen | {"filter": "my_filters:keep"},
        "as-is": chosen | {"filter": "none", "folds": 5},
        "crossed": chosen | {"folds": 5},
        "changed": chosen | {"folds": 5, "filter": "my_filters:change"},
        "relabelled": chosen | {"folds": 1, "filter": "relabel"},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    shards = load_rules(str(tmp_path / "config.yaml"))["synthetic_set"].input.shards
    folders = {
        "filtered": "alpha-1.25",
        "unfiltered": "alpha-inf",
        "as-is": "alpha-inf",
        "kept": "my_filters.keep-1.25",
        "crossed": "~5-folds/alpha-1.25",
        "changed": "~5-folds~labels/my_filters.change-1.25",
        "relabelled": "~labels/relabel-1.25",
    }
    for name, folder in folders.items():
        paths = shards(SimpleNamespace(dataset="miniworld", synthetic_set=name))
        folder = folder if folder[0] == "~" else f"/{folder}"
        assert list(paths)[0] == f"results/miniworld/filtered/miniature/hardness-8{folder}/1-of-2.tsv"


def test_folds_stand_in_the_card_the_page_and_the_table_of_ablations():
    """Only where a filter uses them: results without folds stay as they are."""
    rules, folds = load_rules("config/evidence.yaml"), {"folds-5": 5, "filtered": None, "unfiltered": None}
    settings = rules["export_synthetic_set"].params.settings
    cards = {name: json.loads(settings(SimpleNamespace(synthetic_set=name)))["filter"] for name in folds}
    facts = json.loads(rules["write_report"].params.facts(None))["evidence"]["sets"]
    for found in (cards, facts):
        assert {name: found[name].get("folds") for name in folds} == folds
    varied = json.loads(rules["paper"].params.sets)
    assert [varied[name]["filter"] for name in folds] == ["alpha 1.25, 5 folds", "alpha 1.25", "none"]
