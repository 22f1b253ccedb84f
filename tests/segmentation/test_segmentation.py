"""Trainings of a few iterations through the scripts, as the rules call them."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny_training
import torch
import yaml
from PIL import Image
from tiny_training import ROOT, SPACE, call, configure

from freemask import cli, files, images, packs, tables
from freemask.errors import InputError
from freemask.segmentation import checkpoints
from freemask.segmentation.outputs import read_confusion

ITERATIONS = 6


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A working directory with real, synthetic and validation pairs, and a model that trains in a second."""
    folder = tmp_path_factory.mktemp("world")
    before = Path.cwd()
    os.chdir(folder)
    torch.set_num_threads(1)
    tiny_training.write_world(ITERATIONS)
    yield folder
    os.chdir(before)


def train(folder, regime="real", **options):
    """Configure and train; the weights' path."""
    config = configure(folder, regime, **options)
    call("train", config=config, weights=config.parent / "weights.pth", threads=1)
    return config.parent / "weights.pth"


def load(path):
    """A state_dict."""
    return torch.load(path, weights_only=True)


def same(one, other):
    """Whether two state_dicts are equal, bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.fixture(scope="module")
def trained(world):
    """Weights of every regime."""
    regimes = {"real": 1, "synthetic": 1, "finetune": 1, "joint": 2}
    return {regime: train(regime, regime, schedule=schedule) for regime, schedule in regimes.items()}


def test_every_regime_trains(trained):
    weights = {regime: load(path) for regime, path in trained.items()}
    for regime, state in weights.items():
        assert all(torch.isfinite(value).all() for value in state.values()), regime
    head = "decode_head.conv_seg.weight"
    assert len({weights[regime][head].sum().item() for regime in weights}) == 4
    assert not list(Path("joint/seed-0/work").glob("*.pth"))  # nothing is left to resume from


def test_configs_hold_no_absolute_path_and_load_by_themselves(trained, world):
    from mmengine.config import Config

    text = Path("joint/seed-0/config.py").read_text()
    assert str(world) not in text and str(ROOT) not in text
    assert Config.fromfile("joint/seed-0/config.py").train_dataloader.sampler.type == "BalancedSampler"
    with pytest.raises(InputError, match="relative"):
        configure("absolute", initial=world / "x.pth")


def test_the_same_config_gives_the_same_bytes(trained):
    again = train("again")
    assert files.sha256(again) == files.sha256(trained["real"])


def test_a_loading_process_changes_no_byte(trained):
    entries = yaml.safe_load(Path("models.yaml").read_text())
    loaded = {"loaded": entries["tiny"] | {"workers": 1}}
    Path("models.yaml").write_text(yaml.safe_dump(entries | loaded))
    weights = train("loaded", model="loaded")
    assert "'num_workers': 1" in Path("loaded/seed-0/config.py").read_text()
    assert files.sha256(weights) == files.sha256(trained["real"])


@pytest.mark.parametrize("regime", ["real", "joint"])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(trained, regime, monkeypatch):
    from freemask.segmentation.hooks import ProgressLines

    class Killed(Exception):
        pass

    def stop_at_five(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter == 4:
            raise Killed

    folder = f"interrupted-{regime}"
    with monkeypatch.context() as patch:
        patch.setattr(ProgressLines, "after_train_iter", stop_at_five)
        with pytest.raises(Killed):
            train(folder, regime, schedule=2 if regime == "joint" else 1)
    work = Path(folder, "seed-0/work")
    assert sorted(path.name for path in work.glob("iter_*.pth")) == ["iter_2.pth", "iter_4.pth"]
    if regime == "real":  # the last checkpoint is damaged: training falls back to the one before
        last = work / "iter_4.pth"
        last.write_bytes(last.read_bytes()[:5000])
    weights = train(folder, regime, schedule=2 if regime == "joint" else 1)
    *_, log = sorted(work.glob("*/*.log"))
    assert f"resumed epoch: 0, iter: {2 if regime == 'real' else 4}" in log.read_text()
    assert same(load(weights), load(trained[regime]))
    assert files.sha256(weights) == files.sha256(trained[regime])


def test_a_checkpoint_of_other_inputs_is_not_resumed_from(trained, monkeypatch):
    """The tables of an interrupted run change: training starts over."""
    write = files.write_atomic

    def killed(path, content):
        if Path(path).name == "weights.pth":
            raise KeyboardInterrupt
        write(path, content)

    config = configure("changed")
    with monkeypatch.context() as patch:
        patch.setattr(files, "write_atomic", killed)
        with pytest.raises(KeyboardInterrupt):
            call("train", config=config, weights="changed/seed-0/weights.pth", threads=1)
    assert Path("changed/seed-0/work/iter_6.pth").exists()
    lines = Path("real.tsv").read_text().splitlines()
    try:
        files.write_atomic("real.tsv", "\n".join(lines[:-1]).encode())
        changed = load(train("changed"))
        fresh = load(train("fresh"))
    finally:
        files.write_atomic("real.tsv", ("\n".join(lines) + "\n").encode())
    assert same(changed, fresh)
    assert not same(changed, load(trained["real"]))


def test_evaluation_writes_percentages_and_pictures(trained):
    call("evaluate", config="real/seed-0/config.py", weights=trained["real"], metrics="metrics.json",
         per_class_iou="per_class_iou.tsv", predictions="pictures/1.png")  # fmt: skip
    metrics = json.loads(Path("metrics.json").read_text())
    table = tables.read_table("per_class_iou.tsv", ["label", "name", "iou", "acc"])
    assert table.name.tolist() == ["sky", "sea", "ship"] and table.label.tolist() == [1, 2, 3]
    assert (metrics["images"], metrics["iterations"]) == (5, ITERATIONS)
    assert metrics["mIoU"] == pytest.approx(table.iou.mean(), rel=1e-6)
    assert metrics["mAcc"] == pytest.approx(table.acc.mean(), rel=1e-6)
    assert (metrics["checkpoint"], metrics["scales"], metrics["flip"]) == ("last", [1.0], False)
    (logits, _), *_ = predictions(trained["real"], tables.read_table("val.tsv", ["image", "mask"]).iloc[2:])
    assert np.array_equal(images.read_mask("pictures/1.png"), logits[0].argmax(0).numpy() + 1)  # the middle of five
    with Image.open("pictures/1.png") as picture:
        assert set(map(tuple, np.unique(np.array(picture.convert("RGB")).reshape(-1, 3), axis=0).tolist())) <= {
            tuple(color) for color in tiny_training.COLORS[1:].tolist()
        }


def predictions(weights, table):
    """Plain mmseg predictions, one image at a time: logits (1, K, H, W) and train ids (H, W) of each pair."""
    from freemask.segmentation.inference import load_segmentor
    from freemask.segmentation.runner import read_config

    model = load_segmentor(read_config("real/seed-0/config.py"), weights, "cpu")
    mean, deviation = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])
    for image, mask in zip(table["image"], table["mask"], strict=True):
        with Image.open(image) as opened:
            pixels = torch.from_numpy(np.array(opened.convert("RGB"))).float()
        inputs = ((pixels - mean) / deviation).permute(2, 0, 1)[None]
        with torch.no_grad():
            yield model.predict(inputs)[0].seg_logits.data[None], SPACE.to_train(images.read_mask(mask))


def test_per_class_iou_equals_counting(trained):
    call("evaluate", config="real/seed-0/config.py", weights=trained["real"], metrics="m.json", per_class_iou="p.tsv",
         confusion="c.tsv")  # fmt: skip
    confusion = np.zeros((3, 3), np.int64)
    for logits, train_ids in predictions(trained["real"], tables.read_table("val.tsv", ["image", "mask"])):
        chosen, seen = logits[0].argmax(0).numpy(), train_ids != 255
        np.add.at(confusion, (train_ids[seen], chosen[seen]), 1)
    hit = np.diag(confusion)
    iou = 100 * hit / (confusion.sum(0) + confusion.sum(1) - hit)
    np.testing.assert_allclose(tables.read_table("p.tsv", ["iou"]).iou, iou, rtol=1e-8)
    names, counted = read_confusion("c.tsv")
    assert names == ["sky", "sea", "ship"] and np.array_equal(counted, confusion)


def measure(trained, shard, margins_dir="margins", manifest="margins.tsv"):
    """Measure margin maps of images; the manifest."""
    tables.write_table("shard.tsv", shard)
    call("measure_margins", shard="shard.tsv", masks="synthetic.tsv", class_loss="class_loss.tsv",
         label_space="label_space.json", config="real/seed-0/config.py", weights=trained["real"],
         margins_dir=margins_dir, manifest=manifest)  # fmt: skip
    return tables.read_table(manifest, ["mask_id", "seed", "image", "mask", "margin", "stamp"])


def maps(manifest):
    """Bytes of each margin map."""
    return [packs.read(place) for place in packs.find(manifest.margin.tolist(), manifest.stamp.tolist())]


def measured(folder="margins"):
    """Number of maps in each pack."""
    return [path.read_text().count("\n") for path in sorted(Path(folder).glob("*/*.index"))]


@pytest.fixture(scope="module")
def shard(trained):
    """The class losses, and a shard of synthetic images."""
    own = {"index": "real.tsv", "label_space": "label_space.json"}
    call("class_loss", **own, config="real/seed-0/config.py", weights=trained["real"], sums="sums.tsv", batch_size=4)
    call("gather_class_loss", **own, shards="sums.tsv", class_loss="class_loss.tsv")
    shard = tables.read_table("synthetic.tsv", ["mask_id", "image", "mask"])
    digests = [files.sha256(path) for path in shard.image]
    return shard.assign(seed=42, sha256=digests)[["mask_id", "seed", "image", "sha256"]]


def test_class_loss_and_margins_equal_the_released_filter(trained, shard):
    total, count = np.zeros(3), np.zeros(3, int)
    criterion = torch.nn.CrossEntropyLoss(ignore_index=255, reduction="none")
    for logits, train_ids in predictions(trained["real"], tables.read_table("real.tsv", ["image", "mask"])):
        loss = criterion(logits, torch.from_numpy(train_ids).long()[None])[0]
        for label in range(3):
            total[label] += loss[train_ids == label].double().sum().item()
            count[label] += (train_ids == label).sum()
    table = tables.read_table("class_loss.tsv", ["label", "name", "loss_sum", "pixels", "class_loss"])
    assert table.pixels.tolist() == count.tolist()
    np.testing.assert_allclose(table.loss_sum, total, rtol=1e-6)
    np.testing.assert_allclose(table.class_loss, total / (count + 1e-5), rtol=1e-6)

    manifest = measure(trained, shard)
    stamps = [images.stamp(row.sha256, files.sha256(f"synthetic/{row.mask_id}.png")) for row in shard.itertuples()]
    assert manifest.stamp.tolist() == stamps
    differing = 0
    codes_of = [images.read_mask(path, png) for path, png in zip(manifest.margin, maps(manifest), strict=True)]
    for codes, (logits, train_ids) in zip(codes_of, predictions(trained["real"], manifest), strict=True):
        loss = criterion(logits, torch.from_numpy(train_ids).long()[None])[0].numpy()
        for k in (1, 20, 25, 60):
            limit = np.append(table.class_loss.to_numpy(), np.inf)[np.minimum(train_ids, 3)] * (k * 5 / 100)
            differing += ((codes >= k) != (loss > limit)).sum()
    # the plain pass normalises in another order: its losses differ in the last bits, so a pixel on a limit may flip
    assert differing <= 3


def test_no_image_is_measured_twice(trained, shard):
    """Whatever plan or shard it was measured for; a missing map, or one of another image, is measured again."""
    half = measure(trained, shard.iloc[::2], "once", "once/1-of-2.tsv")
    first = dict(zip(half.margin, maps(half), strict=True))
    manifest = measure(trained, shard, "once", "once/larger.tsv")
    whole = dict(zip(manifest.margin, maps(manifest), strict=True))
    assert measured("once") == [4, 4] and first.items() <= whole.items()
    before = Path("once/larger.tsv").read_bytes()
    measure(trained, shard, "once", "once/larger.tsv")
    assert measured("once") == [4, 4]
    assert Path("once/larger.tsv").read_bytes() == before
    packs.drop(packs.find(manifest.margin.tolist(), manifest.stamp.tolist())[:1])
    changed = shard.assign(sha256=[shard.sha256[0], "0" * 64, *shard.sha256[2:]])
    again = measure(trained, changed, "once", "once/larger.tsv")
    assert measured("once") == [3, 4, 2] and None not in packs.find(again.margin.tolist(), again.stamp.tolist())
    assert maps(again)[0] == whole[manifest.margin[0]]


def test_measuring_ends_at_sigterm_after_its_block(trained, shard, monkeypatch):
    monkeypatch.setattr("freemask.selection.class_loss.BLOCK", 3)
    monkeypatch.setattr("freemask.segmentation.inference.BLOCK", 3)
    monkeypatch.setenv("FREEMASK_CONTINUE", "go-on")
    save = packs.Writer.save

    def killed(writer):
        os.kill(os.getpid(), signal.SIGTERM)
        save(writer)

    with monkeypatch.context() as patched, pytest.raises(SystemExit) as end:
        patched.setattr(packs.Writer, "save", killed)
        measure(trained, shard, "ended")
    assert end.value.code == 143 and Path("go-on").exists()
    assert measured("ended") == [3]
    resumed = measure(trained, shard, "ended", "ended.tsv")
    assert measured("ended") == [3, 5]
    whole = measure(trained, shard, "whole", "whole.tsv")
    assert maps(resumed) == maps(whole)
    text = Path("ended.tsv").read_text().replace("ended/", "whole/")
    assert text == Path("whole.tsv").read_text()


TOY_FILTER = """
import numpy as np
from freemask.filtering.filters import margin

def relabel(scored):
    return np.where(scored.margin >= 30, np.uint8(2), margin(scored))
"""


@pytest.mark.parametrize(("rule", "alpha"), [("margin", "1.25"), ("margin", "0.5"), ("toy_relabel:relabel", "1")])
def test_a_set_trains_as_its_filtered_masks_on_disk_would(trained, shard, monkeypatch, rule, alpha):
    """The filtered masks of earlier versions were PNGs of raw labels."""
    from freemask.segmentation.datasets import PairListDataset

    monkeypatch.setattr("sys.path", [*sys.path])
    Path("toy_relabel.py").write_text(TOY_FILTER)
    manifest = measure(trained, shard)
    name = f"{rule}-{alpha}".replace(":", ".")
    table = pd.DataFrame({"mask_id": shard.mask_id, "seed": shard.seed})
    tables.write_table("plan.tsv", table)
    call("filter_masks", filter=rule, alpha=alpha, margins="margins.tsv", label_space="label_space.json",
         manifest=f"{name}/1.tsv", class_shares=f"{name}/classes.tsv")  # fmt: skip
    call("synthetic_set", plan="plan.tsv", shards=f"{name}/1.tsv", class_shards=f"{name}/classes.tsv",
         label_space="label_space.json", train=f"{name}/train.tsv", class_shares=f"{name}/shares.tsv")  # fmt: skip
    filtered = 0
    for path, mask, png in zip(shard.mask_id, manifest["mask"], maps(manifest), strict=True):
        labels, codes = images.read_mask(mask), images.read_mask(mask, png)
        wanted = np.where(codes >= round(float(alpha) / 0.05), np.uint8(SPACE.ignored), labels)
        if rule != "margin":
            wanted[codes >= 30] = 2
        filtered += (wanted != labels).sum()
        files.write_atomic(f"{name}/{path}.png", images.png_bytes(wanted))
    assert filtered > 100
    table = table.assign(image=shard.image, mask=[f"{name}/{path}.png" for path in shard.mask_id])
    tables.write_table(f"{name}/stored.tsv", table)
    steps = [{"type": "LoadImageFromFile"}, {"type": "LoadAnnotations", "reduce_zero_label": False},
             {"type": "RawToTrainIds", "label_space": "label_space.json"}]  # fmt: skip
    ours, stored = (
        PairListDataset([f"{name}/{table}.tsv"], "label_space.json", pipeline=steps) for table in ("train", "stored")
    )
    for one, other in zip(ours, stored, strict=True):
        assert np.array_equal(one["gt_seg_map"], other["gt_seg_map"]) and one["gt_seg_map"].dtype == np.uint8
        assert set(np.unique(one["gt_seg_map"])) <= {0, 1, 2, 255}
    if alpha == "1.25":
        made = [_train_on(f"{name}/{table}.tsv", "synthetic").read_bytes() for table in ("train", "stored")]
        assert made[0] == made[1] != trained["synthetic"].read_bytes()


def test_class_loss_is_the_same_to_the_last_bit_however_it_is_cut(trained, monkeypatch):
    """Blocks of two pairs, in one to four shards; the images of a block share a batch."""
    monkeypatch.setattr("freemask.selection.class_loss.BLOCK", 2)
    monkeypatch.setattr("freemask.segmentation.inference.BLOCK", 2)
    own = {"index": "synthetic.tsv", "label_space": "label_space.json"}
    made = set()
    for count in (1, 2, 3, 4):
        shards = [f"cut/{number}-of-{count}.tsv" for number in range(1, count + 1)]
        for path in shards:
            call("class_loss", **own, config="real/seed-0/config.py", weights=trained["real"], sums=path,
                 shard=Path(path).stem, batch_size=2)  # fmt: skip
        call("gather_class_loss", **own, shards=shards, class_loss="cut.tsv")
        made.add(Path("cut.tsv").read_bytes())
    assert len(made) == 1


def test_margins_do_not_depend_on_what_shares_the_batch(trained):
    """The last batch of a shard, or of a resumed one, is filled up; its images come out as in a full one."""
    from freemask.segmentation.inference import load_segmentor, pair_losses
    from freemask.segmentation.runner import read_config

    model = load_segmentor(read_config("real/seed-0/config.py"), trained["real"], "cpu")
    table = tables.read_table("synthetic.tsv", ["image", "mask"])
    pairs = list(zip(table["image"], table["mask"], strict=True))
    together = [loss for loss, *_ in pair_losses(model, pairs, SPACE, 4, fill=True)]
    for first in (1, 3, 6):
        rest = [loss for loss, *_ in pair_losses(model, pairs[first:], SPACE, 4, fill=True)]
        assert all(torch.equal(one, other) for one, other in zip(rest, together[first:], strict=True))


def test_class_losses_see_what_the_evaluation_sees(trained):
    """Images of twice the training's size: the losses' best classes are the evaluation's predictions."""
    from freemask.segmentation.inference import load_segmentor, pair_losses, predict_logits, read_pair
    from freemask.segmentation.runner import read_config

    table = tables.read_table("val.tsv", ["image", "mask"])
    rows = []
    for number, pair in enumerate(zip(table["image"], table["mask"], strict=True)):
        row = [str(number)]
        for path, resample in zip(pair, (Image.Resampling.BICUBIC, Image.Resampling.NEAREST), strict=True):
            with Image.open(path) as small:
                large = Path("large", Path(path).name)
                large.parent.mkdir(exist_ok=True)
                small.resize((66, 64), resample).save(large)
            row.append(str(large))
        rows.append("\t".join(row))
    Path("large.tsv").write_text("\n".join(["mask_id\timage\tmask", *rows]) + "\n")
    config = configure("at_large", val="large.tsv")
    call("evaluate", config=config, weights=trained["real"], metrics="large/m.json", per_class_iou="large/iou.tsv",
         predictions=["large/predicted.png"], threads=1)  # fmt: skip
    model = load_segmentor(read_config(config), trained["real"], "cpu")
    pixels, train_ids = read_pair("large/2.jpg", "large/2.png", SPACE)  # the middle of five
    logits = predict_logits(model, [pixels])
    best = SPACE.to_raw(logits[0].argmax(0).numpy().astype(np.uint8))
    assert np.array_equal(best, np.asarray(Image.open("large/predicted.png")))
    loss, *_ = next(pair_losses(model, [("large/2.jpg", "large/2.png")], SPACE))
    expected = torch.nn.functional.cross_entropy(logits, torch.from_numpy(train_ids)[None].long(), ignore_index=255)
    assert loss.sum() / (train_ids != 255).sum() == pytest.approx(expected.item(), rel=1e-5)
    assert loss.shape == (64, 66)


def test_images_of_one_size_share_a_batch_and_large_ones_take_no_more_memory():
    from freemask.segmentation.inference import _batches

    small, large = (512, 512), (1024, 1024)
    assert list(_batches([small, large, small, large, small, small, small], 4)) == [[0, 2, 4, 5], [6], [1], [3]]
    assert list(_batches([small, large], 1)) == [[0], [1]]


def test_a_loss_that_is_not_finite_names_the_batch(trained, monkeypatch):
    from freemask.segmentation import datasets

    original = datasets.PairListDataset.prepare_data

    def poisoned(self, index):
        pair = original(self, index)
        pair["inputs"] = pair["inputs"].float() * (float("nan") if index == 3 else 1)
        return pair

    monkeypatch.setattr(datasets.PairListDataset, "prepare_data", poisoned)
    with pytest.raises(InputError, match=r"loss is nan.*real/3\.jpg"):
        train("poisoned")


def test_weights_that_are_not_finite_are_not_saved(trained, monkeypatch):
    """A gradient may be NaN where the loss is finite: the checkpoint before stays, no later one is written."""
    from freemask.segmentation.hooks import RefuseNonFiniteLoss

    def poison(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter == 3:
            next(runner.model.parameters()).data[0] = float("inf")

    monkeypatch.setattr(RefuseNonFiniteLoss, "after_train_iter", poison)
    with pytest.raises(InputError, match=r"iter_4\.pth: not saved, backbone.* isn't finite"):
        train("unfinite")
    assert [path.name for path in Path("unfinite/seed-0/work").glob("*.pth")] == ["iter_2.pth"]
    assert not Path("unfinite/seed-0/weights.pth").exists()


def test_bad_input_is_refused_with_names(trained):
    Path("empty.tsv").write_text("image\tmask\n")
    with pytest.raises(InputError, match=r"empty\.tsv: lists no images"):
        _train_on("empty.tsv")
    mask = images.read_mask("real/0.png").copy()
    mask[5, 5] = 77
    files.write_atomic("bad.png", images.png_bytes(mask))
    Path("bad.tsv").write_text("image\tmask\nreal/0.jpg\tbad.png\n")
    with pytest.raises(InputError, match=r"bad\.png: label\(s\) \[77\]"):
        _train_on("bad.tsv")
    state = load(trained["real"])
    state.pop("decode_head.conv_seg.bias")
    torch.save(state, "partial.pth")
    with pytest.raises(InputError, match=r"partial\.pth: not the weights"):
        train("partial", "finetune", initial="partial.pth")


def test_what_a_loading_process_refuses_is_said_in_one_line(trained):
    """In a process of its own, as a rule starts it: PyTorch would make a traceback of it."""
    mask = images.read_mask("real/0.png").copy()
    mask[5, 5] = 77
    files.write_atomic("stray.png", images.png_bytes(mask))
    Path("stray.tsv").write_text("image\tmask\nreal/0.jpg\tstray.png\n")
    config = configure("stray")
    text = config.read_text().replace("real.tsv", "stray.tsv").replace("'num_workers': 0", "'num_workers': 1")
    config.write_text(text)
    command = [sys.executable, str(ROOT / "scripts/train.py"), "--config", config, "--weights", "stray.pth"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120)
    said = [line for line in ran.stderr.splitlines() if "error" in line]
    assert ran.returncode == 1 and len(said) == 1 and said[0].startswith("error: stray.png: label(s) [77]"), ran.stderr
    assert "Traceback" not in ran.stderr and not Path("stray.pth").exists()


def test_crops_are_mmsegmentations():
    """The same of the same random numbers, for maps of few and many classes, smaller than the crop, all ignored."""
    from mmseg.datasets.transforms import RandomCrop

    from freemask.segmentation.datasets import RandomCrop as Ours

    random, again, free = np.random.default_rng(5), 0, Ours((16, 24))
    croppers = [kind((16, 24), cat_max_ratio=0.75) for kind in (RandomCrop, Ours)]
    for number in range(300):
        size = random.integers(6, 60, 2)
        labels = random.integers(0, random.integers(1, 6), size).astype(np.uint8)
        labels[: size[0] * 3 // 4] = random.choice([0, 1, 255])
        if number % 10 == 0:
            labels[:] = 255
        pair, boxes = {"img": np.zeros((*size, 3), np.uint8), "gt_seg_map": labels}, []
        for cropper in croppers:
            np.random.seed(number)  # noqa: NPY002
            boxes.append((cropper.crop_bbox(pair), np.random.rand()))  # noqa: NPY002
        assert boxes[0] == boxes[1]
        np.random.seed(number)  # noqa: NPY002
        again += boxes[0][0] != free.crop_bbox(pair)
    assert again > 30


def test_a_missing_validation_image_is_named():
    from freemask.segmentation.evaluation import of_one_size

    with pytest.raises(InputError, match=r"gone\.jpg: missing or no image"):
        of_one_size(["gone.jpg"])


def _train_on(table, regime="real"):
    """Train on another table of pairs; the weights' path."""
    config = configure(Path(table).with_suffix(""), regime)
    config.write_text(config.read_text().replace(f"'{regime}.tsv'", f"'{table}'"))
    call("train", config=config, weights=config.parent / "weights.pth", threads=1)
    return config.parent / "weights.pth"


def test_two_processes_train_as_one_does(world):
    """Two ranks with one image each against one process with both, where nothing depends on a rank's own batch."""
    entry = yaml.safe_load(Path("models.yaml").read_text())["tiny"]
    overrides = entry["overrides"]
    overrides["model"]["backbone"]["drop_path_rate"] = 0.0
    overrides["model"]["decode_head"] |= {"dropout_ratio": 0.0, "norm_cfg": {"type": "GN", "num_groups": 8}}
    overrides["optim_wrapper"]["optimizer"] = {"_delete_": True, "type": "SGD", "lr": 0.01, "weight_decay": 0.0}
    options = {"dataset": "tiny", "label_space": "label_space.json", "regime": "joint", "train": "real.tsv",
               "synthetic": "synthetic.tsv", "val": "val.tsv", "train_seed": 0}  # fmt: skip
    for ranks, batch in ((1, 2), (2, 1)):
        settings = json.dumps(entry | {"batch_size": batch, "gpus": ranks})
        call("training_config", settings=settings, gpus=ranks, config=f"ranks-{ranks}/seed-0/config.py", **options)
    call("train", config="ranks-1/seed-0/config.py", weights="one.pth", threads=1)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += [str(ROOT / "scripts/train.py"), "--config", "ranks-2/seed-0/config.py", "--weights", "two.pth"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, env=environment, timeout=120)
    one, two = load("one.pth"), load("two.pth")
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-4, atol=1e-6)


def test_sigterm_after_the_last_iteration_loses_nothing(world, monkeypatch):
    """A time limit that comes while weights are written: a training of days began at 0."""
    write = checkpoints.write_weights

    def terminated(*arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        write(*arguments)

    monkeypatch.setattr(checkpoints, "write_weights", terminated)
    assert load(train("ended_late"))


def test_progress_comes_as_lines(world, capsys, monkeypatch):
    lines = []
    monkeypatch.setattr(cli, "tell", lines.append)
    monkeypatch.setattr(cli, "SILENT", 0)
    train("progress")
    assert any("progress, train seed 0" in line and "6/6" in line for line in lines)
