"""Where each rule's jobs run on a cluster: none that takes less than a minute at full size goes to Slurm."""

import pytest

from rules import load_rules

# Seconds and some hundred MB each with 118,287 masks and 463,293 images (docs/benchmarks.md), or waits for a network.
LOCAL = {
    "ablation_tables",
    "cost",
    "fetch_weights",
    "fetch_weights_file",
    "gather_class_loss",
    "gather_fold_losses",
    "import_log",
    "list_warnings",
    "mask_hardness",
    "most_improved",
    "paper",
    "plan_synthesis",
    "preflight",
    "preflight_submitting",
    "result_tables",
    "split_fold",
    "synthetic_set",
    "training_config",
    "training_cost",
    "write_evidence",
    "write_report",
}
LOCAL_KINDS = ("plot_", "fetch_")
# Minutes of several cores, or GB of memory.
CLUSTER = {"check_dataset", "filter_kinds", "filter_masks", "import_checkpoint", "index_dataset", "make_miniworld"}
CLUSTER |= {"export_synthetic_set", "prepare_generator", "resize_masks"}
CLUSTER_KINDS = ("look_", "verify_", "unused_", "prune_")
RULES = {name: rule for name, rule in load_rules().items() if rule.shellcmd or name in LOCAL}


@pytest.mark.parametrize("name", RULES)
def test_every_rule_has_its_place(name):
    on_gpu = "gpu" in RULES[name].resources
    local = name in LOCAL or name.startswith(LOCAL_KINDS)
    assert [on_gpu, local, name in CLUSTER or name.startswith(CLUSTER_KINDS)].count(True) == 1
    assert (name in RULES[name].workflow._localrules) == local


def test_the_lists_name_rules():
    assert RULES.keys() >= LOCAL | CLUSTER
