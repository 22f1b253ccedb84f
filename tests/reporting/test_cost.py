"""Hours and GPU hours of trainings, from segments written by hand."""

import numpy as np
import pandas as pd
import pytest
from command_line import run_script

from freemask import files, tables
from freemask.errors import InputError
from freemask.reporting import cost
from freemask.segmentation.outputs import read_segments

EXPERIMENTS = """experiment	dataset	model	regime	schedule	synthetic_set	train_seeds
real	world	small	real	1		0,1
joint	world	small	joint	2	filtered	0
imported	world	small	joint	1	filtered	0
"""


def segment(training, name, seconds, gpus, device="Some GPU"):
    """One segment as the hook leaves it."""
    record = {"inputs": "abc", "started": f"2026-01-0{name}T00:00:00+00:00", "seconds": seconds, "gpus": gpus}
    files.write_json(training / "work/time" / f"2026010{name}.json", {**record, "device": device})


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "experiments.tsv").write_text(EXPERIMENTS)
    real, joint = tmp_path / "training/real", tmp_path / "training/joint"
    segment(real / "seed-0", 1, 3600, 8)  # killed after an hour
    segment(real / "seed-0", 2, 1800, 4)  # went on with four
    segment(real / "seed-1", 1, 5400, 8)
    segment(joint / "seed-0", 1, 90, 0, "CPU")
    return tmp_path


def tabulate(folder, **more):
    """Run the script; its table."""
    run_script("training_cost", experiments=folder / "experiments.tsv", dataset="world", training=folder / "training",
               cost=folder / "cost.tsv", html=folder / "cost.html", **more)  # fmt: skip
    return tables.read_table(folder / "cost.tsv", cost.COLUMNS).set_index("experiment")


def test_every_segment_counts(folder):
    """real: 1 + 0.5 + 1.5 hours; 1 * 8 + 0.5 * 4 + 1.5 * 8 GPU hours."""
    table = tabulate(folder)
    assert table.index.tolist() == ["real", "joint", "imported"]
    np.testing.assert_allclose(table.hours, [3.0, 0.025, np.nan])
    np.testing.assert_allclose(table.gpu_hours, [22.0, 0.0, np.nan])
    assert table.trainings.tolist() == [2, 1, 1] and table.segments.tolist() == [3, 1, 0]
    assert table.gpus["real"] == "8, 4" and table.device["joint"] == "CPU"
    page = "".join(line.strip() for line in (folder / "cost.html").read_text().splitlines())
    assert "<td>2</td><td>3</td><td>Some GPU</td><td>8, 4</td><td>3.000</td><td>22.0</td>" in page
    assert "<td><b>3.025</b></td><td><b>22.0</b></td>" in page
    assert page.count("<td>–</td><td>–</td>") == 2  # imported: neither device and GPUs nor hours


def test_the_authors_hours_stand_beside_joint_training(folder):
    """17 hours on eight GPUs; the log of another data set and of another model isn't shown."""
    logs = "- {model: small, dataset: world, hours: 17.0}\n- {model: small, hours: 3.0}\n- {model: b, hours: 4.0}\n"
    (folder / "reported.yaml").write_text(f"cost: {{training_gpus: 8}}\nlogs:\n{logs}")
    table = tabulate(folder, reported=folder / "reported.yaml")
    np.testing.assert_allclose(table.reported_hours, [np.nan, 17, np.nan])  # `imported` is of schedule 1
    assert table.reported_gpu_hours["joint"] == 136
    page = "".join(line.strip() for line in (folder / "cost.html").read_text().splitlines())
    assert "<td>17.0</td><td>136.0</td></tr>" in page and "by their logs, on V100s" in page
    on_four = (folder / "reported.yaml").read_text().replace("hours: 17.0", "gpus: 4, hours: 17.0")
    (folder / "reported.yaml").write_text(on_four)
    table = tabulate(folder, reported=folder / "reported.yaml")
    assert table.reported_hours["joint"] == 17 and table.reported_gpu_hours["joint"] == 68


def test_a_training_without_times_leaves_its_experiment_without_a_sum(folder):
    for path in (folder / "training/real/seed-1/work/time").iterdir():
        path.unlink()
    assert np.isnan(tabulate(folder).hours["real"])


def test_a_broken_segment_is_named(folder):
    path = folder / "training/real/seed-1/work/time/20260101.json"
    path.write_text('{"started": "2026"}')
    with pytest.raises(InputError, match=r"20260101.json: seconds is missing"):
        tabulate(folder)


def test_no_segments_is_an_empty_table(tmp_path):
    assert isinstance(read_segments(tmp_path), pd.DataFrame) and not len(read_segments(tmp_path))
