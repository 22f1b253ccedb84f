"""Test-time augmentation, the best checkpoint, and the times of a training, on trainings of a few iterations."""

import json
import os
from dataclasses import replace
from pathlib import Path

import mmcv
import numpy as np
import pytest
import torch
import yaml
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from tiny_training import SPACE, call, configure, write_world

from freemask import files, images, tables
from freemask.errors import InputError
from freemask.segmentation.areas import read_areas, write_areas
from freemask.segmentation.outputs import read_confusion, read_ious, read_segments


class Killed(Exception):
    """A kill."""


@pytest.fixture(scope="module")
def validated(tmp_path_factory):
    """A working directory with a model that is validated every two iterations; what it left, uninterrupted."""
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("validated"))
    torch.set_num_threads(1)
    entry = write_world(6)
    entry["overrides"]["train_cfg"] = {"val_interval": 2}
    entry["overrides"]["default_hooks"]["checkpoint"]["interval"] = 3  # not where it is validated
    Path("models.yaml").write_text(yaml.safe_dump({"tiny": entry}))
    yield train("whole")
    os.chdir(before)


def train(folder):
    """Configure and train; the training's folder."""
    config = configure(folder)
    call("train", config=config, weights=config.parent / "weights.pth", threads=1)
    return config.parent


def evaluate(training, name, weights="weights.pth", **options):
    """Evaluate; metrics."""
    call(
        "evaluate",
        config=training / "config.py",
        weights=training / weights,
        metrics=f"{name}.json",
        per_class_iou=f"{name}/per_class_iou.tsv",
        areas=f"{name}/image_areas.npz",
        confusion=f"{name}-confusion.tsv",
        **options,
    )
    return json.loads(Path(f"{name}.json").read_text())


def test_confusion_and_iou_by_hand():
    from freemask.segmentation.evaluation import PerClassIoU

    truth = torch.tensor([[0, 0, 1, 1], [1, 1, 255, 0]])
    predicted = torch.tensor([[0, 1, 1, 1], [1, 0, 1, 0]])
    metric = PerClassIoU(confusion=True, pictures=["b"], iou_metrics=["mIoU"])
    metric.dataset_meta = {"classes": ["a", "b", "never"]}
    for path in ("a", "b"):
        sample = {"pred_sem_seg": {"data": predicted[None]}, "gt_sem_seg": {"data": truth[None]}, "img_path": path}
        metric.process({}, [sample])
    found = metric.compute_metrics(metric.results)
    assert metric.confusion.tolist() == [[4, 2, 0], [2, 6, 0], [0, 0, 0]] and metric.confusion.dtype == np.int64
    np.testing.assert_allclose(metric.per_class["iou"], [100 * 4 / 8, 100 * 6 / 10, np.nan])
    np.testing.assert_allclose(metric.per_class["acc"], [100 * 4 / 6, 100 * 6 / 8, np.nan])
    assert found["mIoU"] == pytest.approx(55) and found["aAcc"] == pytest.approx(100 * 10 / 14)
    assert metric.paths == ["a", "b"] and metric.areas["union"].tolist() == [[4, 5, 0]] * 2
    assert metric.areas["intersection"].tolist() == [[2, 3, 0]] * 2
    assert metric.areas["truth"].tolist() == [[3, 4, 0]] * 2
    assert list(metric.predictions) == ["b"] and np.array_equal(metric.predictions["b"], predicted.numpy())


def test_the_areas_of_images_sum_to_the_reported_iou(validated):
    """Image by image against the masks; the mean over classes of the summed IoU is the reported mIoU."""
    found = evaluate(validated, "areas")
    areas = read_areas("areas/per_class_iou.tsv")
    table, validation = read_ious("areas/per_class_iou.tsv"), tables.read_table("val.tsv", ["mask_id", "mask"])
    assert areas.mask_ids.tolist() == validation.mask_id.tolist() and areas.labels.tolist() == [1, 2, 3]
    np.testing.assert_allclose(areas.iou(), table.iou, rtol=1e-8)
    assert np.nanmean(areas.iou()) == pytest.approx(found["mIoU"], rel=1e-12)
    truth = [[(images.read_mask(path) == label).sum() for label in (1, 2, 3)] for path in validation["mask"]]
    assert areas.truth.tolist() == truth and (areas.intersection <= areas.truth).all()
    first = Path("areas/image_areas.npz").read_bytes()
    evaluate(validated, "areas")
    assert Path("areas/image_areas.npz").read_bytes() == first


def test_areas_of_another_evaluation_are_refused(validated):
    """Another intersection and a cut file are refused; without a file there are none."""
    evaluate(validated, "other")
    areas, table = read_areas("other/per_class_iou.tsv"), "other/per_class_iou.tsv"
    write_areas("other/image_areas.npz", replace(areas, intersection=areas.intersection // 2))
    with pytest.raises(InputError, match="image_areas.npz: its pixels don't sum to the IoU in per_class_iou.tsv"):
        read_areas(table)
    path = Path("other/image_areas.npz")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match=r"image_areas.npz: no table of areas .*; evaluate again, or delete it"):
        read_areas(table)
    path.unlink()
    assert read_areas(table) is None


def test_augmentation_is_the_average_of_scaled_and_mirrored_predictions(validated):
    """Against plain predictions: each scaled image and its mirror image, scaled and mirrored back, softmax, mean."""
    from freemask.segmentation.inference import load_segmentor
    from freemask.segmentation.runner import read_config

    single = evaluate(validated, "single")
    same_scale = evaluate(validated, "same", scales=[1.0])
    augmented = evaluate(validated, "augmented", scales=[1.0, 1.5, 2.0], flip=True)
    assert single == same_scale and (augmented["scales"], augmented["flip"]) == ([1.0, 1.5, 2.0], True)
    model = load_segmentor(read_config(validated / "config.py"), validated / "weights.pth", "cpu")
    counts = np.zeros((3, 3), np.int64)
    mean, deviation = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])
    for row in tables.read_table("val.tsv", ["image", "mask"]).itertuples():
        image, total = mmcv.imread(row.image), torch.zeros(3, 32, 32)
        for scale in (1.0, 1.5, 2.0):
            scaled = torch.from_numpy(mmcv.imrescale(image, scale)[..., ::-1].copy()).float()
            inputs = ((scaled - mean) / deviation).permute(2, 0, 1)[None]
            for mirrored in (False, True):
                with torch.no_grad():
                    logits = model.encode_decode(
                        inputs.flip(3) if mirrored else inputs, [{"img_shape": inputs.shape[2:]}]
                    )
                logits = logits.flip(3) if mirrored else logits
                logits = torch.nn.functional.interpolate(logits, (32, 32), mode="bilinear")
                total += logits[0].softmax(0)
        truth, chosen = SPACE.to_train(images.read_mask(row.mask)), total.argmax(0).numpy()
        np.add.at(counts, (truth[truth != 255], chosen[truth != 255]), 1)
    names, found = read_confusion("augmented-confusion.tsv")
    assert np.abs(found - counts).sum() <= 4  # a tie may break otherwise where sums run in another order
    _, plain = read_confusion("single-confusion.tsv")
    assert np.abs(plain - counts).sum() > 4 and augmented["mIoU"] != single["mIoU"]


def test_scales_multiply_the_size_of_the_base_config():
    from mmengine.config import Config

    from freemask.segmentation.evaluation import augment

    steps = [{"type": "LoadImageFromFile"}, {"type": "Resize", "scale": (2048, 512), "keep_ratio": True},
             {"type": "LoadAnnotations"}, {"type": "PackSegInputs"}]  # fmt: skip
    config = Config({"model": {"type": "M"}, "test_dataloader": {"dataset": {"pipeline": steps}}})
    augment(config, [0.5, 1.0], flip=False)
    load_image, tta = config.test_dataloader.dataset.pipeline
    assert load_image.type == "LoadImageFromFile" and config.model.module.type == "M"
    assert [tuple(step.scale) for step in tta.transforms[0]] == [(1024, 256), (2048, 512)]
    assert [step.prob for step in tta.transforms[1]] == [0.0]
    assert [[step.type for step in kind] for kind in tta.transforms[2:]] == [["LoadAnnotations"], ["PackSegInputs"]]
    config.test_dataloader.dataset.pipeline = [steps[0], {"type": "ResizeToMultiple"}]
    with pytest.raises(InputError, match="can't scale in the test pipeline"):
        augment(config, [0.5], flip=False)


def scores(training):
    """MIoU of each validation during training, by iteration; of the last segment that reached it."""
    found = {}
    for log in sorted(training.glob("work/*/vis_data/scalars.json")):
        rows = [json.loads(line) for line in log.read_text().splitlines()]
        found |= {row["step"]: row["mIoU"] for row in rows if "mIoU" in row}
    return found


def test_the_best_checkpoint_is_handed_out(validated):
    during = scores(validated)
    assert sorted(during) == [2, 4, 6]
    best = max(during, key=lambda step: (during[step], -step))
    found = evaluate(validated, "best", weights="best.pth", checkpoint="best")
    assert found["iterations"] == best and found["checkpoint"] == "best"
    assert found["mIoU"] == pytest.approx(during[best], abs=1e-9)
    assert evaluate(validated, "last")["mIoU"] == pytest.approx(during[6], abs=1e-9)
    assert not list((validated / "work").glob("*.pth"))


class Shaped:
    """Trainings whose mIoU peaks at one validation, and that are killed once, at a moment, where `armed`."""

    def __init__(self, patch, moment, peak):
        from freemask.segmentation.evaluation import PerClassIoU
        from freemask.segmentation.hooks import ProgressLines
        from freemask.segmentation.runner import AtomicRunner

        self.peak, self.armed, self.step = peak, False, 0
        measure, save = PerClassIoU.compute_metrics, AtomicRunner.save_checkpoint

        def follow(hook, runner, *arguments, **options):
            self.step = runner.iter + 1
            self.kill_if(runner.iter == moment)

        def shaped(metric, results):
            return measure(metric, results) | {"mIoU": 50.0 - abs(self.step - self.peak)}

        def saving(runner, out_dir, filename, *arguments, **options):
            best = self.step == 4 and filename.startswith("best")
            self.kill_if(best and moment == "best removed")
            save(runner, out_dir, filename, *arguments, **options)
            self.kill_if(best and moment == "best named")

        patch.setattr(ProgressLines, "after_train_iter", follow)
        patch.setattr(PerClassIoU, "compute_metrics", shaped)
        patch.setattr(AtomicRunner, "save_checkpoint", saving)

    def kill_if(self, now):
        """Kill, the first time."""
        if now and self.armed:
            self.armed = False
            raise Killed


@pytest.mark.parametrize("moment", [1, 3, 4, 5, "best removed", "best named"])
@pytest.mark.parametrize("peak", [2, 4, 6])
def test_the_best_checkpoint_survives_kills(validated, monkeypatch, moment, peak):
    """Killed at an iteration, or within the validation at 4; the peak of mIoU is put at each validation in turn."""
    run = Shaped(monkeypatch, moment, peak)
    whole = f"whole-{peak}"
    expected = train(whole) if not Path(whole).exists() else Path(whole, "seed-0")
    run.armed = True
    folder = f"killed-{moment}-{peak}".replace(" ", "-")
    if moment in (1, 3, 4, 5) or peak >= 4:
        with pytest.raises(Killed):
            train(folder)
    training = train(folder)
    assert files.read_json(training / "best.json") == {"iterations": peak}
    for name in ("best.pth", "weights.pth"):
        assert files.sha256(training / name) == files.sha256(expected / name)


def test_the_best_before_is_there_where_the_same_iterations_go_worse_again(validated, monkeypatch):
    """As on a GPU: 4 was the best, the run is killed at once, and the second time 2 stays the best."""
    run = Shaped(monkeypatch, "best named", peak=4)
    run.armed = True
    with pytest.raises(Killed):
        train("worse")
    run.peak = 2
    training = train("worse")
    assert files.read_json(training / "best.json") == {"iterations": 2}
    if not Path("whole-2").exists():
        train("whole-2")
    assert files.sha256(training / "best.pth") == files.sha256("whole-2/seed-0/best.pth")


def test_without_validation_there_is_no_best(validated):
    entry = yaml.safe_load(Path("models.yaml").read_text())["tiny"]
    entry["overrides"]["train_cfg"] = {"val_interval": 0}
    files.write_atomic("unvalidated/seed-0/best.pth", b"of an earlier configuration")
    config = Path("unvalidated/seed-0/config.py")
    call("training_config", settings=json.dumps(entry), dataset="tiny", label_space="label_space.json",
         regime="real", train_seed=0, config=config, train="real.tsv", val="val.tsv")  # fmt: skip
    call("train", config=config, weights=config.parent / "weights.pth", threads=1)
    assert not (config.parent / "best.pth").exists() and not (config.parent / "best.json").exists()


def test_the_time_of_every_segment_counts(validated, monkeypatch):
    """Killed before its first checkpoint, then after it, then finished: three segments; training again starts anew."""
    from freemask.segmentation.hooks import ProgressLines

    advance = ProgressLines.after_train_iter

    def until(step):
        def after(self, runner, *arguments, **options):
            if runner.iter == step:
                raise Killed
            advance(self, runner, *arguments, **options)

        return after

    for step in (1, 4):
        with monkeypatch.context() as patch:
            patch.setattr(ProgressLines, "after_train_iter", until(step))
            with pytest.raises(Killed):
                train("timed")
    training = train("timed")
    segments = read_segments(training / "work")
    assert len(segments) == 3 and segments.gpus.tolist() == [0] * 3 and (segments.seconds >= 0).all()
    assert segments.seconds.iloc[-1] > 0 and segments.started.is_monotonic_increasing
    assert len(read_segments(validated / "work")) == 1
    train("timed")
    assert len(read_segments(training / "work")) == 1


def test_scores_are_averaged_as_they_are():
    """By hand, three variants of one pixel: mean scores 0.667 and 0.7; the mean of softmaxes is 0.524 for class 0."""
    from freemask.segmentation.evaluation import AveragedScores

    def variant(first, second):
        sample = SegDataSample(metainfo={"img_path": "a.jpg"})
        sample.seg_logits = PixelData(data=torch.tensor([[[first]], [[second]]]))
        return sample

    class Segmentor(torch.nn.Identity):
        test_step = None  # which mmengine wants to see

    model = AveragedScores(module=Segmentor())
    merged = model.merge_preds([[variant(1.0, 0.0), variant(1.0, 0.0), variant(0.0, 2.1)]])
    assert merged[0].pred_sem_seg.data.item() == 1 and merged[0].img_path == "a.jpg"
