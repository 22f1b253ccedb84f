"""Logs of finished runs: every format as its program writes it, and what is refused."""

import json
import math

import pytest
from command_line import run_script

from freemask import files, tables
from freemask.data.label_space import LabelSpace
from freemask.errors import InputError
from freemask.segmentation.run_logs import choose, read_log

NAMES = ("wall", "bed", "window pane")
SPACE = LabelSpace((1, 2, 3), NAMES, NAMES, ((120, 120, 120), (204, 5, 255), (230, 230, 230)), ignored=0)

NEWER = """\
2023/05/29 13:00:00 - mmengine - INFO - Iter(train) [ 50/200]  base_lr: 1.0e-04 lr: 1.0e-05  eta: 0:01:00  loss: 2.1
2023/05/29 13:01:00 - mmengine - INFO - Iter(train) [100/200]  base_lr: 1.0e-04 lr: 1.0e-05  eta: 0:00:30  loss: 1.1
2023/05/29 13:01:00 - mmengine - INFO - Saving checkpoint at 100 iterations
2023/05/29 13:01:10 - mmengine - INFO - Iter(val) [ 50/100]    eta: 0:00:01  time: 0.0219  data_time: 0.0012
2023/05/29 13:01:20 - mmengine - INFO - per class results:
2023/05/29 13:01:20 - mmengine - INFO -
+-------------+-------+-------+
|    Class    |  IoU  |  Acc  |
+-------------+-------+-------+
|     wall    |  70.0 |  80.0 |
|     bed     |  40.0 |  50.0 |
| window pane |  55.0 |  65.0 |
+-------------+-------+-------+
2023/05/29 13:01:20 - mmengine - INFO - Iter(val) [100/100]    aAcc: 81.5000  mIoU: 55.0000  mAcc: 65.0000  time: 0.1
2023/05/29 13:02:00 - mmengine - INFO - Iter(train) [150/200]  base_lr: 1.0e-04 lr: 1.0e-05  eta: 0:00:10  loss: 1.0
2023/05/29 13:03:00 - mmengine - INFO - Iter(train) [200/200]  base_lr: 1.0e-04 lr: 1.0e-05  eta: 0:00:00  loss: 0.9
2023/05/29 13:03:00 - mmengine - INFO - Saving checkpoint at 200 iterations
2023/05/29 13:03:20 - mmengine - INFO - per class results:
2023/05/29 13:03:20 - mmengine - INFO -
+-------------+--------+-----------+--------+-------+-------+
|    Class    | Fscore | Precision | Recall |  IoU  |  Acc  |
+-------------+--------+-----------+--------+-------+-------+
|     wall    |  80.0  |    81.0   |  82.0  |  60.0 |  75.5 |
|     bed     |  70.0  |    71.0   |  72.0  | 43.98 |  52.0 |
| window pane |  nan   |    nan    |  nan   |  nan  |  nan  |
+-------------+--------+-----------+--------+-------+-------+
2023/05/29 13:03:20 - mmengine - INFO - Iter(val) [100/100]    aAcc: 80.2500  mIoU: 51.9900  mAcc: 63.7500  time: 0.1
2023/05/29 13:04:00 - mmengine - INFO - per class results:
2023/05/29 13:04:00 - mmengine - INFO -
|    Class    |  IoU  |  Acc  |
|     wall    |  99.0 |  99.0 |
2023/05/29 13:04:00 - mmengine - INFO - Iter(test) [100/100]    aAcc: 99.0000  mIoU: 99.0000  mAcc: 99.0000
"""
OLDER = """\
2021-10-05 07:50:00,001 - mmseg - INFO - Iter [50/200]\tlr: 1.0e-05, eta: 0:01:00, time: 0.5, data_time: 0.01, loss: 2.1
2021-10-05 07:51:00,001 - mmseg - INFO - Saving checkpoint at 100 iterations
[>>>>>>>>>>>>>>>] 100/100, 9.9 task/s, elapsed: 10s, ETA: 0s2021-10-05 07:51:31,771 - mmseg - INFO - per class results:
2021-10-05 07:51:31,771 - mmseg - INFO -
+-------------+-------+-------+
| Class       | IoU   | Acc   |
+-------------+-------+-------+
| wall        | 70.0  | 80.0  |
| bed         | 40.0  | 50.0  |
| window pane | 55.0  | 65.0  |
+-------------+-------+-------+
2021-10-05 07:51:31,771 - mmseg - INFO - Summary:
2021-10-05 07:51:31,771 - mmseg - INFO -
+-------+------+------+
| aAcc  | mIoU | mAcc |
+-------+------+------+
| 81.5  | 55.0 | 65.0 |
+-------+------+------+
2021-10-05 07:51:31,771 - mmseg - INFO - Iter(val) [77]\taAcc: 0.8150, mIoU: 0.5500, mAcc: 0.6500, IoU.wall: 0.7
2021-10-05 07:52:00,001 - mmseg - INFO - Iter [150/200]\tlr: 1.0e-05, eta: 0:00:10, data_time: 0.01, loss: 1.0
2021-10-05 07:53:00,001 - mmseg - INFO - Saving checkpoint at 200 iterations
2021-10-05 07:53:31,771 - mmseg - INFO - per class results:
Class                  IoU        Acc
wall                 60.00      75.50
bed                  43.98      52.00
window pane            nan        nan
Summary:
Scope                 mIoU       mAcc       aAcc
global               51.99      63.75      80.25

2021-10-05 07:53:31,771 - mmseg - INFO - Iter(val) [200]\tmIoU: 0.5199, mAcc: 0.6375, aAcc: 0.8025
"""
OWN = """\
11/25 10:00:00 - mmengine - INFO - Iter(train) [  2/200]  lr: 1.0e-05  loss: 2.1
11/25 10:00:00 - mmengine - INFO - Saving checkpoint at 200 iterations
11/25 10:00:01 - mmengine - INFO - wall: IoU 60.00, Acc 75.50
11/25 10:00:01 - mmengine - INFO - bed: IoU 43.98, Acc 52.00
11/25 10:00:01 - mmengine - INFO - window pane: IoU nan, Acc nan
11/25 10:00:01 - mmengine - INFO - Iter(val) [100/100]    mIoU: 51.9900  mAcc: 63.7500  aAcc: 80.2500  time: 0.1
"""
SCALARS = "\n".join(
    json.dumps(row)
    for row in [
        {"lr": 0.1, "loss": 1.0, "iter": 50, "step": 50},
        {"aAcc": 81.5, "mIoU": 55.0, "mAcc": 65.0, "data_time": 0.1, "step": 100},
        {"lr": 0.1, "loss": 0.9, "iter": 200, "step": 200},
        {"aAcc": 80.25, "mIoU": 51.99, "mAcc": 63.75, "data_time": 0.1, "step": 200},
    ]
)
NEWER, OLDER = (log.replace("INFO -\n", "INFO - \n") for log in (NEWER, OLDER))  # a blank ends these lines
LOGS = {"newer": NEWER, "older": OLDER, "own": OWN, "scalars": SCALARS}
LAST = {"mIoU": 51.99, "mAcc": 63.75, "aAcc": 80.25}
BEST = {"mIoU": 55.0, "mAcc": 65.0, "aAcc": 81.5}


def chosen(folder, text, take="last", iterations=200):
    """What is taken of a log of this text."""
    path = folder / "run.log"
    path.write_text(text)
    return choose(read_log(path), iterations, take, path)


@pytest.mark.parametrize("name", LOGS)
def test_last_is_the_evaluation_at_the_runs_end(tmp_path, name):
    evaluation = chosen(tmp_path, LOGS[name])
    assert evaluation.iteration == 200
    assert evaluation.metrics == pytest.approx(LAST)
    if name != "scalars":
        assert [row[0] for row in evaluation.classes] == ["wall", "bed", "window pane"]
        assert [row[1:] for row in evaluation.classes[:2]] == [(60.0, 75.5), (43.98, 52.0)]
        assert all(map(math.isnan, evaluation.classes[2][1:]))


@pytest.mark.parametrize("name", ["newer", "older", "scalars"])
def test_best_is_the_highest_miou(tmp_path, name):
    evaluation = chosen(tmp_path, LOGS[name], "best")
    assert evaluation.iteration == 100
    assert evaluation.metrics == pytest.approx(BEST)
    wanted = [] if name == "scalars" else [("wall", 70.0, 80.0), ("bed", 40.0, 50.0), ("window pane", 55.0, 65.0)]
    assert evaluation.classes == wanted


def test_percent_or_fraction_is_the_formats_word(tmp_path):
    """A poor run: 0.52 percent in mmengine's log, not 52."""
    text = NEWER.replace("mIoU: 51.9900", "mIoU: 0.5199").replace("|  60.0 |  75.5 |", "| 0.60 | 75.5 |")
    text = text.replace("43.98", "0.4398")
    assert chosen(tmp_path, text).metrics["mIoU"] == pytest.approx(0.5199)


def test_a_line_without_numbers_leaves_them_to_the_summary(tmp_path):
    """A log of 2021."""
    text = OLDER.replace("[200]\tmIoU: 0.5199, mAcc: 0.6375, aAcc: 0.8025", "[200]")
    assert chosen(tmp_path, text).metrics == pytest.approx(LAST)


def test_the_bracket_stands_in_for_a_line_of_training_that_it_replaced(tmp_path):
    lines = [line for line in OLDER.splitlines() if "Saving checkpoint at 200" not in line]
    assert chosen(tmp_path, "\n".join(lines)).iteration == 200


def test_logs_of_a_resumed_run_may_be_joined(tmp_path):
    """The same evaluation twice is no conflict."""
    assert chosen(tmp_path, NEWER + NEWER).iteration == 200


def test_a_tests_table_isnt_the_validations(tmp_path):
    tested = NEWER[NEWER.index("2023/05/29 13:04:00") :]
    validated = next(line for line in NEWER.splitlines() if "mIoU: 51.9900" in line)
    text = NEWER[: NEWER.index("2023/05/29 13:03:20")] + tested + validated + "\n"
    assert chosen(tmp_path, text).classes == []


def without(text, *words):
    """A log without the lines that hold a word."""
    return "\n".join(line for line in text.splitlines() if not any(word in line for word in words))


REFUSED = {
    "ends early": (NEWER.partition("[150/200]")[0], ["after iteration 100 of 200", "ends too early"]),
    "ends early, scalars": ("\n".join(SCALARS.splitlines()[:3]), ["after iteration 100 of 200"]),
    "the end wasn't evaluated": (without(NEWER, "mIoU: 51"), ["after iteration 100 of 200"]),
    "a longer run": (NEWER.replace("/200]", "/400]"), ["a run of 400 iterations", "has 200"]),
    "a shorter run": (OLDER.replace("/200]", "/100]"), ["a run of 100 iterations", "has 200"]),
    "a longer run, scalars": (SCALARS.replace('"step": 200', '"step": 400'), ["a run of 400 iterations"]),
    "two runs": (OLDER + OLDER.replace("mIoU: 0.5500", "mIoU: 0.5499"), ["iteration 100 differ", "55.00 and 54.99"]),
    "two runs, scalars": (SCALARS + "\n" + SCALARS.replace("51.99", "52.5"), ["iteration 200 differ", "51.99"]),
    "no mIoU": (without(NEWER, "mIoU"), ["no evaluation with mIoU"]),
    "no mIoU, older": (without(OLDER, "mIoU", "global", "81.5"), ["no evaluation with mIoU"]),
    "NaN": (NEWER.replace("mIoU: 51.9900", "mIoU: nan"), ["line 27", "mIoU is nan", "a percentage"]),
    "NaN, scalars": (SCALARS.replace("51.99", "NaN"), ["line 4", "mIoU is nan"]),
    "no mAcc": (NEWER.replace("  mAcc: 63.7500", ""), ["mAcc is None", "want a number"]),
    "percent where a fraction belongs": (OLDER.replace("mIoU: 0.5199", "mIoU: 51.99"), ["mIoU is 51.99", "0 to 1"]),
    "over 100 percent": (SCALARS.replace("51.99", "519.9"), ["mIoU is 519.9", "0 to 100"]),
    "a table of something else": (NEWER.replace("43.98", "83.98"), ["mIoU is 51.99", "mean above it 71.99"]),
    "both formats": (NEWER + OLDER, ["mixes mmengine's and mmseg 0.x's"]),
    "no log": ("hello\n", ["holds no line of mmengine or mmseg", "scalars.json"]),
    "empty": ("", ["holds no line"]),
    "cut scalars": (SCALARS[:-20], ["line 4", "damaged or cut"]),
    "mmseg 0.x's JSON": ('{"env_info": "x"}\n{"mode": "val", "iter": 100, "mIoU": 0.5}\n', ["give the run's text log"]),
    "a test only": (without(NEWER, "Iter(train)", "Iter(val)", "Saving"), ["no evaluation with mIoU"]),
    "evaluation without training": (without(NEWER, "Iter(train)"), ["before any line of training", "whole log"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_logs_are_refused(tmp_path, case):
    text, wanted = REFUSED[case]
    with pytest.raises(InputError) as raised:
        chosen(tmp_path, text)
    message = str(raised.value)
    assert [part for part in [str(tmp_path / "run.log"), *wanted] if part not in message] == [], message


def call(folder, text, **options):
    """Run the script on a log."""
    (folder / "run.log").write_text(text)
    SPACE.write(folder / "label_space.json")
    run_script(
        "import_log",
        run=folder / "run.log",
        iterations=200,
        label_space=folder / "label_space.json",
        metrics=folder / "metrics.json",
        per_class_iou=folder / "ious.tsv",
        **options,
    )
    return files.read_json(folder / "metrics.json"), tables.read_table(
        folder / "ious.tsv", ["label", "name", "iou", "acc"]
    )


def test_the_script_tells_what_it_took(tmp_path):
    metrics, table = call(tmp_path, NEWER.replace("|     bed ", "|    bed  "), take="best")
    assert metrics["checkpoint"] == "imported log, best"
    assert (metrics["mIoU"], metrics["iterations"]) == (55.0, 100)
    assert metrics["imported"]["sha256"] == files.sha256(tmp_path / "run.log")
    assert metrics["imported"]["format"] == "mmengine text log"
    assert table.iou.tolist() == [70.0, 40.0, 55.0]
    assert table.label.tolist() == [1, 2, 3]


def test_no_iou_of_classes_is_invented(tmp_path):
    metrics, table = call(tmp_path, SCALARS)
    assert metrics["checkpoint"] == "imported log, last"
    assert table.name.tolist() == ["wall", "bed", "window pane"]
    assert table.iou.isna().all() and table.acc.isna().all()


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (NEWER.replace("     wall    ", "     tree    "), "class 0 is 'tree', but the data set's is 'wall'"),
        (without(NEWER, "window pane"), "2 classes, but the data set has 3"),
    ],
)
def test_classes_of_another_data_set_are_refused(tmp_path, text, wanted):
    with pytest.raises(InputError, match=wanted):
        call(tmp_path, text)
