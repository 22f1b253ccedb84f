"""Tables of results, from numbers worked by hand."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import recorded
from command_line import run_script

from freemask import files, tables
from freemask.data.label_space import LabelSpace
from freemask.errors import InputError
from freemask.reporting import class_gains, layout, results
from freemask.reporting.reported import read_all_reported
from freemask.segmentation import areas
from freemask.segmentation.experiments import read_experiments

EXPERIMENTS = """experiment	dataset	model	regime	schedule	synthetic_set	train_seeds
real	world	small	real	1		0,1
real-2x	world	small	real	2		0,1
joint	world	small	joint	2	filtered	0,1
joint_all	world	small	joint	2	unfiltered	0
other	elsewhere	small	real	1		0
"""
MIOU = {("real", 0): 40, ("real", 1): 42, ("real-2x", 0): 45, ("real-2x", 1): 44, ("joint", 0): 48, ("joint", 1): 49,
        ("joint_all", 0): 50.5}  # fmt: skip
IOUS = {("real", 0): [80, 20, "nan", 10], ("real", 1): [82, 24, "nan", 12],
        ("joint", 0): [81, 40, "nan", 70], ("joint", 1): [82, 34, "nan", 92]}  # fmt: skip
CONFIG = recorded.CONFIG
CLASSES = ["sky", "road", "fence", "ship"]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "experiments.tsv").write_text(EXPERIMENTS)
    (tmp_path / "classes.tsv").write_text(
        "label\tname\tword\tcolor\n" + "".join(f"{i + 1}\t{name}\tw\t#000000\n" for i, name in enumerate(CLASSES))
    )
    LabelSpace.of_class_table(tmp_path / "classes.tsv", 0).write(tmp_path / "label_space.json")
    (tmp_path / "masks.tsv").write_text("mask_id\tmask\tcounts\na\ta.png\t1:90 2:50 3:9\nb\tb.png\t1:9 4:5\n")
    (tmp_path / "reported.yaml").write_text(
        "world:\n  - {model: small, real: 39.0, joint: 44.5}\nmost_improved_world:\n  - {class: ship, gain: 68.19}\n"
    )
    for (experiment, seed), miou in MIOU.items():
        made = tmp_path / "training" / experiment / f"seed-{seed}"
        made.mkdir(parents=True)
        metrics = {"mIoU": miou, "mAcc": miou + 10, "aAcc": 90, "iterations": 600, "images": 150}
        (made / "metrics.json").write_text(json.dumps(metrics))
        ious = IOUS.get((experiment, seed), [1, 2, "nan", 3])
        lines = [f"{i + 1}\t{name}\t{iou}\t50" for i, (name, iou) in enumerate(zip(CLASSES, ious, strict=True))]
        (made / "per_class_iou.tsv").write_text("label\tname\tiou\tacc\n" + "\n".join(lines) + "\n")
    return tmp_path


def tabulate(folder, **more):
    run_script("result_tables", experiments=folder / "experiments.tsv", dataset="world", training=folder / "training",
               masks=folder / "masks.tsv", label_space=folder / "label_space.json",
               markdown=folder / "miou.md", csv=folder / "miou.csv", latex=folder / "miou.tex",
               html=folder / "miou.html",
               per_class=folder / "per_class_iou.tsv", **more)  # fmt: skip
    return pd.read_csv(folder / "miou.csv").set_index("experiment")


def improve(folder, **more):
    training = folder / "training"
    options = {
        kind: [training / kind / f"seed-{s}" / "per_class_iou.tsv" for s in (0, 1)] for kind in ("real", "joint")
    }
    options |= {"train_seeds": [0, 1]} | more
    run_script("most_improved", most_improved=folder / "most_improved.tsv", **options)
    return tables.read_table(folder / "most_improved.tsv", ["label", "name", "real", "joint", "gain"])


def summarize(miou: dict[tuple[str, int], float], resampled=None) -> pd.DataFrame:
    """The summary of two experiments, real and joint, from their mIoU by train seed."""
    experiments = pd.DataFrame({"experiment": ["real", "joint"], "regime": ["real", "joint"], "schedule": [1, 2]})
    experiments = experiments.assign(model="small", synthetic_set="", balance="exact")
    metrics = pd.DataFrame(
        [{"experiment": name, "train_seed": seed, "mIoU": value} for (name, seed), value in miou.items()]
    )
    same = {"rare_mIoU": 1.0, "mAcc": 1.0, "aAcc": 1.0, "best_mIoU": math.nan, "iterations": 9, "checkpoint": "last"}
    return results.summarize(experiments, metrics.assign(**same), resampled).set_index("experiment")


def test_mean_and_sample_deviation():
    table = summarize({("real", 0): 1.0, ("real", 1): 3.0, ("joint", 0): 5.0})
    assert table.mIoU.tolist() == [2, 5]
    assert table.mIoU_std["real"] == pytest.approx(math.sqrt(2)) and math.isnan(table.mIoU_std["joint"])
    assert table.best_mIoU.isna().all() and table.best_mIoU_std.isna().all()


def test_gains_are_paired_by_seed():
    """Seeds that both have: 0 gains 2, 1 gains 5; by hand."""
    table = summarize({("joint", 0): 5.0, ("joint", 1): 9.0, ("joint", 7): 1.0,
                       ("real", 1): 4.0, ("real", 0): 3.0, ("real", 2): 8.0})  # fmt: skip
    assert table.gain_over_real["joint"] == 3.5
    assert table.gain_over_real_std["joint"] == pytest.approx(math.sqrt(4.5))
    assert math.isnan(table.gain_over_real["real"]) and table.gain_over_real_2x.isna().all()


def test_numbers_of_the_csv_round_as_those_of_the_text(folder):
    """The mean 46.82498 is 46.82 everywhere; cut to 46.8250 first, the page would show 46.83."""
    for seed, miou in ((0, 45.27595), (1, 48.37401)):
        path = folder / f"training/real/seed-{seed}/metrics.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"mIoU": miou}))
    assert f"{tabulate(folder).mIoU['real']:.2f}" == "46.82"
    assert "46.82" in (folder / "miou.md").read_text()


def test_numbers_of_a_test_split_by_hand(folder):
    """Test: one point less than validation, two for joint; the best checkpoint has one point more there."""
    for (experiment, seed), miou in MIOU.items():
        for kind, value in (("test", miou - 1 - (experiment == "joint")), ("best", miou + 3), ("best/test", miou)):
            made = folder / "training" / experiment / f"seed-{seed}" / kind / "metrics.json"
            made.parent.mkdir(parents=True, exist_ok=True)
            made.write_text(json.dumps({"mIoU": value}))
    tested = ["real", "real-2x", "joint"]
    table = tabulate(folder, test=tested, best=["joint"])
    np.testing.assert_allclose(table.test_mIoU, [40, 43.5, 46.5, math.nan])
    np.testing.assert_allclose(table.best_test_mIoU, [math.nan, math.nan, 48.5, math.nan])
    np.testing.assert_allclose(table.test_gain_over_real, [math.nan, 3.5, 6.5, math.nan])
    np.testing.assert_allclose(table.mIoU, [41, 44.5, 48.5, 50.5])  # the comparison stays on validation
    text = (folder / "miou.md").read_text()
    assert "| Test | Test, over real 1x | Best, test |" in text and "the numbers to report" in text
    assert "| 46.50 ± 0.71 | +6.50 ± 0.71 | 48.50 ± 0.71 |" in text
    assert "test" not in "".join(tabulate(folder).columns)


def test_the_rare_group_is_the_quarter_with_the_fewest_pixels():
    assert results.rare_labels({1: 90, 2: 5, 3: 7, 4: 1, 5: 5}) == [4, 2]  # ceil(5 / 4) = 2; tie 2, 5: the lower label


def test_table_by_hand(folder):
    table = tabulate(folder, reported=folder / "reported.yaml", reported_set="filtered")
    assert table.index.tolist() == ["real", "real-2x", "joint", "joint_all"]
    np.testing.assert_allclose(table.mIoU, [41, 44.5, 48.5, 50.5])
    np.testing.assert_allclose(table.mIoU_std, [math.sqrt(2), math.sqrt(0.5), math.sqrt(0.5), math.nan], rtol=1e-4)
    np.testing.assert_allclose(table.gain_over_real, [math.nan, 3.5, 7.5, 10.5])  # joint: 8 and 7; joint_all: seed 0
    np.testing.assert_allclose(table.gain_over_real_std["joint"], math.sqrt(0.5), rtol=1e-4)
    np.testing.assert_allclose(table.gain_over_real_2x, [-3.5, math.nan, 4, 5.5])
    np.testing.assert_allclose(table.mIoU_seed_1, [42, 44, 49, math.nan])
    np.testing.assert_allclose(table.rare_mIoU, [11, 3, 81, 3])  # ship alone
    np.testing.assert_allclose(table.reported_mIoU, [39, math.nan, 44.5, math.nan])
    np.testing.assert_allclose(table.reported_gain, [math.nan, math.nan, 5.5, math.nan])
    per_class = tables.read_table(
        folder / "per_class_iou.tsv", ["label", "name", "real", "real-2x", "joint", "joint_all"]
    )
    np.testing.assert_allclose(per_class.real, [81, 22, math.nan, 11])


def test_the_authors_number_is_of_joint_training_at_twice_the_schedule(folder):
    path = folder / "experiments.tsv"
    path.write_text(EXPERIMENTS.replace("joint_all\tworld\tsmall\tjoint\t2\tunfiltered",
                                        "joint_all\tworld\tsmall\tjoint\t1\tfiltered"))  # fmt: skip
    for chosen in ({"reported_set": "filtered"}, {}):
        table = tabulate(folder, reported=folder / "reported.yaml", **chosen)
        np.testing.assert_allclose(table.reported_mIoU, [39, math.nan, 44.5, math.nan])


def test_ablations_stand_in_a_table_of_their_own(folder):
    """joint_all is an ablation, with repeated real images; `large` has none."""
    lines = EXPERIMENTS.splitlines()
    rows = [*(f"{line}\t\t" for line in lines[1:4]), f"{lines[4]}\trepeat\tablation", f"{lines[5]}\texact\tmain"]
    rows.append("large\tworld\tlarge\treal\t1\t\t0\texact\tmain")
    path = folder / "experiments.tsv"
    path.write_text("\n".join([f"{lines[0]}\tbalance\tstudy", *rows]) + "\n")
    for name in ("metrics.json", "per_class_iou.tsv"):
        made = folder / "training/large/seed-0" / name
        made.parent.mkdir(parents=True, exist_ok=True)
        made.write_text((folder / "training/real/seed-0" / name).read_text())
    assert tabulate(folder).index.tolist() == ["real", "real-2x", "joint", "large"]
    assert "repeated" not in (folder / "miou.md").read_text()
    table = tabulate(folder, study="ablation")
    assert table.index.tolist() == ["real", "real-2x", "joint", "joint_all"]
    np.testing.assert_allclose(table.gain_over_real["joint_all"], 10.5)
    assert "| small | real + synthetic, repeated | 2x | unfiltered | last | 1 |" in (folder / "miou.md").read_text()
    path.write_text(EXPERIMENTS)
    with pytest.raises(InputError, match="no experiment on data set 'world' in study ablation"):
        read_experiments(path, "world", "ablation")


def test_markdown_and_latex_show_the_same_numbers(folder):
    tabulate(folder)
    lines = (folder / "miou.md").read_text().splitlines()
    start = "| small | real + synthetic | 2x | filtered | last | 2 | "
    gains = "+7.50 ± 0.71 | not kept | +4.00 ± 1.41 | not kept |"
    assert f"{start}48.50 ± 0.71 | 81.00 ± 15.56 | {gains}" in lines
    gains = "+10.50 | not kept | +5.50 | not kept |"
    assert f"| small | real + synthetic | 2x | unfiltered | last | 1 | 50.50 | 3.00 | {gains}" in lines
    assert "Authors" not in lines[2] and "Best" not in lines[2]
    assert "on the 150 validation images, single scale;" in lines[-1] and "Best:" not in lines[-1]
    assert "Not in mIoU, since neither masks nor predictions show them: fence." in lines[-1]
    tex = (folder / "miou.tex").read_text()
    gains = r"+7.50 $\pm$ 0.71 & not kept & +4.00 $\pm$ 1.41 & not kept \\"
    assert rf"& 48.50 $\pm$ 0.71 & 81.00 $\pm$ 15.56 & {gains}" in tex
    assert r"\textbf" not in tex  # no interval says that one is better
    assert tex.count("{") == tex.count("}")


def keep_areas(folder, experiment, seed, miou):
    """Areas of two images that are alike, one class: every resample has this mIoU [percent]."""
    made = folder / "training" / experiment / f"seed-{seed}"
    hits, union = np.full((2, 1), round(10 * miou)), np.full((2, 1), 1000)
    areas.write_areas(made / areas.NAME, areas.Areas(np.array(["a", "b"]), np.array([1]), hits, union, union))
    (made / "per_class_iou.tsv").write_text(f"label\tname\tiou\tacc\n1\tsky\t{miou}\t50\n")


def test_intervals_and_bold_by_hand(folder):
    """Gains of joint over real: 8 and 7 in every resample. joint_all is the best, until it equals joint in seed 0."""
    for (experiment, seed), miou in MIOU.items():
        keep_areas(folder, experiment, seed, miou)
    table = tabulate(folder)
    np.testing.assert_allclose(table.gain_over_real_low, [math.nan, 3.5, 7.5, 10.5])
    np.testing.assert_allclose(table.gain_over_real_2x_high, [-3.5, math.nan, 4, 5.5])
    assert table.gain_over_real_interval.fillna("").tolist() == ["", "images", "images", "images"]
    assert table.clearly_best.tolist() == [False, False, False, True]
    text = (folder / "miou.md").read_text()
    assert "| 1 | **50.50** | " in text and "| +10.50 | [+10.50, +10.50] | +5.50 | [+5.50, +5.50] |" in text
    assert "Intervals: 95%, paired bootstrap over the validation images, 1,000 resamples." in text and "†" not in text
    assert "not kept" not in text.lower()
    keep_areas(folder, "joint_all", 0, MIOU["joint", 0])
    assert not tabulate(folder).clearly_best.any() and "**" not in (folder / "miou.md").read_text()
    (folder / "training/joint_all/seed-0" / areas.NAME).unlink()
    table = tabulate(folder)
    assert table.gain_over_real_interval["joint_all"] == "not kept" and table.gain_over_real["joint_all"] == 10.5
    assert "| +10.50 | not kept | +5.50 | not kept |" in (folder / "miou.md").read_text()


def test_three_seeds_are_marked():
    """The chance of seeds is in the interval: gains 2, 3 and 4 have the mean 3 and 4.3027 / sqrt(3) on each side."""
    miou = {("real", seed): 40.0 for seed in range(3)} | {
        ("joint", seed): 40.0 + gain for seed, gain in enumerate((2, 3, 4))
    }
    resampled = {name: {seed: np.full(1000, miou[name, seed]) for seed in range(3)} for name in ("real", "joint")}
    table = summarize(miou, resampled).loc["joint"]
    assert (table.gain_over_real_low, table.gain_over_real_high) == pytest.approx((0.516, 5.484), abs=1e-3)
    cell = layout.interval(table.gain_over_real_low, table.gain_over_real_high, table.gain_over_real_interval)
    assert cell == "[+0.52, +5.48]†" and table.clearly_best
    assert "Student's interval over train seeds" in layout.note_on_intervals(pd.DataFrame([[cell]]))


def test_the_best_checkpoint_stands_beside_the_last(folder):
    """Two seeds with best 43 and 44: mean 43.5, deviation sqrt(0.5); gains stay those of the last."""
    before = tabulate(folder)
    for seed, miou in ((0, 43), (1, 44)):
        path = folder / "training" / "real" / f"seed-{seed}" / "best/metrics.json"
        files.write_json(path, {"mIoU": miou, "checkpoint": "best"})
    assert tabulate(folder).best_mIoU.isna().all()  # left by an earlier configuration: not asked for, not shown
    table = tabulate(folder, best="real")
    np.testing.assert_allclose(table.best_mIoU, [43.5, math.nan, math.nan, math.nan])
    np.testing.assert_allclose(table.best_mIoU_std["real"], math.sqrt(0.5), rtol=1e-4)
    assert table.checkpoint.tolist() == ["last"] * 4
    pd.testing.assert_frame_equal(table.drop(columns=["best_mIoU", "best_mIoU_std"]),
                                  before.drop(columns=["best_mIoU", "best_mIoU_std"]))  # fmt: skip
    lines = (folder / "miou.md").read_text().splitlines()
    assert "| Checkpoint | Seeds | mIoU | Best | Rare |" in lines[2]
    assert "| small | real | 1x | – | last | 2 | 41.00 ± 1.41 | 43.50 ± 0.71 | 11.00 ± 1.41 | – |" in lines[4]
    assert "| last | 1 | 50.50 | – |" in lines[7]
    assert "<td>43.50 ± 0.71</td>" in (folder / "miou.html").read_text() and "flatters" in lines[-1]


def test_the_note_tells_checkpoint_and_augmentation(folder):
    for (experiment, seed), miou in MIOU.items():
        how = {"checkpoint": "best" if experiment == "joint" else "last", "scales": [0.5, 1.0], "flip": True}
        metrics = {"mIoU": miou, "mAcc": 1, "aAcc": 1, "iterations": 600, **how}
        files.write_json(folder / "training" / experiment / f"seed-{seed}" / "metrics.json", metrics)
    assert tabulate(folder).checkpoint.tolist() == ["last", "last", "best", "last"]
    said = "test-time augmentation: mean over scale(s) 0.5, 1, each with its mirror image"
    for name in ("miou.md", "miou.tex", "miou.html"):
        assert said in (folder / name).read_text() and "single scale;" not in (folder / name).read_text()
    path = folder / "training/joint_all/seed-0/metrics.json"
    files.write_json(path, files.read_json(path) | {"scales": [1.0], "flip": False})
    tabulate(folder)
    assert f"{said} (real, real-2x, joint); single scale (joint_all)" in (folder / "miou.md").read_text()


def test_text_of_numbers():
    assert layout.number(math.nan) == "–"
    assert layout.number(1.005, 0.3, sign=True) == "+1.00 ± 0.30"
    assert layout.number(-2.0, sign=True) == "-2.00"
    assert layout.number(-0.004, sign=True) == "+0.00"


def test_reported_numbers_of_the_repository_can_be_read():
    path = CONFIG / "reported.yaml"
    assert {"model": "segformer_mit-b4", "real": 48.5, "joint": 50.6} in read_all_reported(path)["ade20k"]
    assert len(read_all_reported(path)["most_improved_ade20k"]) == 10
    assert "miniworld" not in read_all_reported(path)


def test_most_improved_by_hand(folder):
    table = improve(folder, reported=folder / "reported.yaml", dataset="world")
    assert table.name.tolist() == ["ship", "road", "sky", "fence"]
    np.testing.assert_allclose(table.gain, [70, 15, 0.5, math.nan])
    np.testing.assert_allclose(table.real, [11, 22, 81, math.nan])
    np.testing.assert_allclose(table.joint, [81, 37, 81.5, math.nan])
    np.testing.assert_allclose(table.gain_seed_0, [60, 20, 1, math.nan])
    np.testing.assert_allclose(table.gain_seed_1, [80, 10, 0, math.nan])
    np.testing.assert_allclose(table.reported_gain, [68.19, math.nan, math.nan, math.nan])
    assert "reported_gain" not in improve(folder)


def test_a_class_without_an_iou_in_a_seed_is_compared_over_the_same_seeds():
    """Real has the class in both seeds, joint in one: 20 and 60 are means over different seeds. By hand: 50, 60."""
    table = pd.DataFrame({"label": [1, 2], "name": ["sky", "road"], "iou": [-10.0, 7.0]})
    real = {0: table.assign(iou=[50.0, 7]), 1: table}
    joint = {0: table.assign(iou=[60.0, 7]), 1: table.assign(iou=[math.nan, 7])}
    compared = class_gains.most_improved(class_gains.Classes(real), class_gains.Classes(joint))
    assert compared[["real", "joint", "gain", "seeds"]].to_numpy().tolist() == [[50, 60, 10, 1], [7, 7, 0, 2]]
    means = class_gains.class_means({"real": [*real.values()], "joint": [*joint.values()]})
    assert means["fewer seeds"].tolist() == ["joint", ""]


def test_bad_results_are_refused(folder):
    with pytest.raises(InputError, match="want one --real and one --joint"):
        improve(folder, train_seeds=[0])
    other = pd.DataFrame({"label": [1], "name": ["sky"], "iou": [1.0]})
    with pytest.raises(InputError, match="different classes"):
        class_gains.most_improved(class_gains.Classes({0: other}), class_gains.Classes({0: other.assign(label=2)}))
    with pytest.raises(InputError, match="seeds differ"):
        class_gains.most_improved(class_gains.Classes({0: other}), class_gains.Classes({1: other}))
    metrics = folder / "training" / "joint" / "seed-1" / "metrics.json"
    metrics.write_text('{"mIoU": 4}')
    with pytest.raises(InputError, match=r"seed-1.metrics.json: mAcc is missing"):
        tabulate(folder)
    metrics.unlink()
    with pytest.raises(InputError, match=r"seed-1.metrics.json: no such file"):
        tabulate(folder)
    path = folder / "experiments.tsv"
    with pytest.raises(InputError, match="no experiment on data set 'mars'"):
        read_experiments(path, "mars")
    path.write_text(EXPERIMENTS.replace("0,1", "0;1"))
    with pytest.raises(InputError, match="train_seeds want whole numbers"):
        read_experiments(path, "world")
    assert not (folder / "miou.csv").exists()


@pytest.fixture(scope="module")
def recorded_results(tmp_path_factory):
    """Evaluation files of the paper's 13 pairs and five regimes, of 150 and 171 classes; few images."""
    folder = tmp_path_factory.mktemp("recorded")
    for dataset in recorded.IMAGES:
        recorded.write(folder, dataset, images=80)
    return folder / "results"


def tabulate_recorded(folder, dataset):
    """The mIoU table of recorded files, by experiment."""
    made = folder / dataset
    run_script("result_tables", experiments=CONFIG / "experiments.tsv", dataset=dataset, training=made / "training",
               masks=made / "masks.tsv", label_space=made / "label_space.json", reported=CONFIG / "reported.yaml",
               reported_set=f"{dataset}-filtered", markdown=made / "miou.md", csv=made / "miou.csv",
               latex=made / "miou.tex", html=made / "miou.html", per_class=made / "per_class_iou.tsv")  # fmt: skip
    return pd.read_csv(made / "miou.csv").set_index("experiment")


@pytest.mark.parametrize(("dataset", "models", "classes"), [("ade20k", 7, 150), ("cocostuff164k", 6, 171)])
def test_the_papers_matrix_comes_out_of_recorded_files(recorded_results, dataset, models, classes):
    table = tabulate_recorded(recorded_results, dataset)
    assert len(table) == 5 * models
    known = table[table.reported_mIoU.notna()]
    assert len(known) == 2 * models
    np.testing.assert_allclose(known.mIoU, known.reported_mIoU, atol=1e-4)
    joint = known[known.regime == "joint"]
    np.testing.assert_allclose(joint.gain_over_real, joint.reported_gain, atol=1e-4)
    for key in ("gain_over_real", "gain_over_real_2x"):
        assert (joint[f"{key}_low"] < joint[key]).all() and (joint[key] < joint[f"{key}_high"]).all()
        assert (joint[f"{key}_interval"] == "images").all()
    best = table[table.clearly_best]
    assert (best.regime == "joint").all() and (best[["gain_over_real_low", "gain_over_real_2x_low"]] > 0).all(axis=None)
    assert (table.images == 80).all()
    per_class = tables.read_table(recorded_results / dataset / "per_class_iou.tsv", ["label", "name"])
    assert len(per_class) == classes
    note = (recorded_results / dataset / "miou.md").read_text().splitlines()[-1]
    assert ("Not in mIoU, since neither masks nor predictions show them: hair drier." in note) == (classes == 171)
    assert f"doesn't name: {48.3 if classes == 150 else 49.3} trained on synthetic images alone" in note
    before = {path: path.read_bytes() for path in (recorded_results / dataset).glob("miou.*")}
    tabulate_recorded(recorded_results, dataset)
    assert {path: path.read_bytes() for path in before} == before


def test_the_supplements_ten_classes_come_out_in_their_order(recorded_results):
    training = recorded_results / "ade20k/training"
    paths = {
        kind: training / f"mask2former_swin-t_{kind}/seed-0/per_class_iou.tsv" for kind in ("real", "real-2x", "joint")
    }
    options = {"real": paths["real"], "joint": paths["joint"], "control": paths["real-2x"]}
    run_script("most_improved", **options, train_seeds=[0], control_seeds=[0], reported=CONFIG / "reported.yaml",
               dataset="ade20k", most_improved=recorded_results / "most_improved.tsv")  # fmt: skip
    table = tables.read_table(recorded_results / "most_improved.tsv", ["name", "gain", "gain_over_control", "images"])
    ten = read_all_reported(CONFIG / "reported.yaml")["most_improved_ade20k"]
    assert table.name[:10].tolist() == [row["class"] for row in ten]
    np.testing.assert_allclose(table.gain[:10], [row["gain"] for row in ten], atol=1e-6)
    np.testing.assert_allclose(table.reported_gain[:10], table.gain[:10], atol=1e-6)
    np.testing.assert_allclose(table.gain_over_control, table.joint - table.control, atol=1e-6)
    assert table.gain_over_control.is_monotonic_decreasing and table.control[0] > table.real[0]
    assert len(table) == 150 and table.images.between(2, 80).all()
