"""The filter of a synthetic set in the paths of its filtered masks."""

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


def test_a_set_names_its_folder(tmp_path):
    config = yaml.safe_load((ROOT / "config/demo.yaml").read_text())
    chosen = config["synthetic_sets"]["filtered"]
    config["synthetic_sets"] |= {"kept": chosen | {"filter": "my_filters:keep"}, "as-is": chosen | {"filter": "none"}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    shards = load_rules(str(tmp_path / "config.yaml"))["synthetic_set"].input.shards
    folders = {
        "filtered": "alpha-1.25",
        "unfiltered": "alpha-inf",
        "as-is": "alpha-inf",
        "kept": "my_filters.keep-1.25",
    }
    for name, folder in folders.items():
        paths = shards(SimpleNamespace(dataset="miniworld", synthetic_set=name))
        assert list(paths)[0] == f"results/miniworld/filtered/miniature/hardness-8/{folder}/1-of-2.tsv"
