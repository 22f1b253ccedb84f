"""The experiments table: optional columns, checks, studies, and where a row's weights come from."""

import pytest

from freemask.errors import InputError
from freemask.segmentation.experiments import (
    check_training,
    pretraining_of,
    read_all_experiments,
    read_experiments,
    validates,
)

HEADER = "experiment\tdataset\tmodel\tregime\tschedule\tsynthetic_set\ttrain_seeds"
ROWS = [
    "real\tworld\tsmall\treal\t1\t\t1,0",
    "synthetic\tworld\tsmall\tsynthetic\t1\tset\t0,1",
    "other\tworld\tsmall\tsynthetic\t1\tother\t0,1",
    "finetune\tworld\tsmall\tfinetune\t1\tset\t1",
]
ENTRY = {"iterations": {"world": 9}, "gpus": 4, "batch_size": 2}


def table(folder, rows=ROWS, header=HEADER):
    path = folder / "experiments.tsv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_what_is_left_out_has_a_meaning(tmp_path):
    found = read_all_experiments(table(tmp_path))
    assert found.balance.tolist() == ["exact"] * 4 and found.study.tolist() == ["main"] * 4
    assert found.synthetic_set.tolist() == ["", "set", "other", "set"]
    assert found.schedule.tolist() == [1] * 4
    assert found.train_seeds.tolist() == [(0, 1), (0, 1), (0, 1), (1,)]
    rows = [f"{ROWS[0]}\t\tablation", f"{ROWS[1]}\trepeat\t"]
    found = read_all_experiments(table(tmp_path, rows, f"{HEADER}\tbalance\tstudy"))
    assert found.balance.tolist() == ["exact", "repeat"] and found.study.tolist() == ["ablation", "main"]


def test_every_row_is_checked_as_it_is_written(tmp_path):
    seen = []
    path = table(tmp_path)
    read_all_experiments(path, lambda row, where: seen.append((where, row["experiment"], row["train_seeds"])))
    assert seen[0] == (f"{path}, line 2", "real", "1,0") and len(seen) == 4


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a\tw\tm\treal\t1\t\t0;1", "train_seeds want"),
        ("a\tw\tm\treal\t1.5\t\t0", "schedule wants"),
        ("a\tw\tm\treal\ttwo\t\t0", "schedule wants"),
        ("a\tw\tm\treal\t\t\t0", "schedule wants"),
    ],
)
def test_numbers_that_are_none_are_refused(tmp_path, row, message):
    with pytest.raises(InputError, match=rf"experiments\.tsv: {message}"):
        read_all_experiments(table(tmp_path, [row, ROWS[1]]))


def test_a_study_without_rows_is_refused(tmp_path):
    with pytest.raises(InputError, match="no experiment on data set 'mars' in study main"):
        read_experiments(table(tmp_path), "mars")


def test_a_pretraining_has_the_same_model_set_and_seeds(tmp_path):
    found = read_all_experiments(table(tmp_path))
    assert pretraining_of(found.iloc[3], found) == "synthetic"
    found = read_all_experiments(table(tmp_path, [*ROWS[:3], ROWS[3] + ",2"]))
    with pytest.raises(InputError, match="no row of regime synthetic with .*model 'small' and .*'set' and .*1,2 to"):
        pretraining_of(found.iloc[3], found)


def test_models_are_validated_unless_they_say_no():
    assert validates({}) and validates({"overrides": {"train_cfg": {"val_interval": 5}}})
    assert not validates({"overrides": {"train_cfg": {"val_interval": 0}}})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset": "mars"}, r"a: no iterations for 'mars' \(only world\)"),
        ({"regime": "jonit"}, "regime 'jonit' isn't known"),
        ({"balance": "repeat"}, "a: balance repeat is for regimes that mix"),
        ({"precision": "fp16"}, "a: training_precision = fp16 needs GPUs"),
        ({"gpus": 3}, "a: training_gpus = 3, but the models file gives gpus = 4; want a divisor"),
        ({"regime": "joint", "entry": ENTRY | {"batch_size": 3, "gpus": 1}}, r"batch_size \* gpus = 3 .*even"),
    ],
)
def test_unsuitable_trainings_are_refused(change, message):
    suitable = {
        "entry": ENTRY,
        "dataset": "world",
        "regime": "real",
        "balance": "exact",
        "gpus": 0,
        "precision": "fp32",
    }
    check_training("a", **suitable)
    with pytest.raises(InputError, match=message):
        check_training("a", **suitable | change)


def test_an_odd_batch_may_repeat_real_images():
    entry = ENTRY | {"batch_size": 3, "gpus": 1}
    check_training("a", entry, "world", "joint", "repeat", 0, "fp32")
