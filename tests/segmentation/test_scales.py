"""One scale for training, validation, class losses and filtering; images that a model can't take."""

from copy import deepcopy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS
from PIL import Image

from freemask import tables
from freemask.data import masks
from freemask.data.label_space import LabelSpace
from freemask.data.sizes import Size, read_sizes, write_sizes
from freemask.errors import InputError
from freemask.segmentation.config import Experiment, resolve
from freemask.segmentation.samplers import Draw
from freemask.segmentation.scales import resize_of, seen_as

ROOT = Path(__file__).parents[2]
MODELS = yaml.safe_load((ROOT / "config/models.yaml").read_text())
CROP = [{"type": "LoadImageFromFile"}, {"type": "LoadAnnotations"}, {"type": "RandomCrop", "crop_size": [64, 64]},
        {"type": "PackSegInputs"}]  # fmt: skip


@pytest.fixture(scope="module")
def space(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("space") / "label_space.json"
    LabelSpace((1, 2, 3), ("a", "b", "c"), ("a", "b", "c"), ((1, 1, 1), (2, 2, 2), (3, 3, 3)), 0).write(path)
    return str(path)


def sized(*sides: tuple[int, int]) -> list[Size]:
    return [Size(width, height, 1, f"images/{width}x{height}.jpg") for width, height in sides]


def made(space: str, entry: dict, train=((480, 360),), val=((480, 360),), mask_size: int = 64) -> dict:
    entry = {**deepcopy(entry), "iterations": {"own": 200_000}, "warmup": {}}
    return resolve(entry, Experiment("real", "own", space, "real", 1, "val.tsv", 0, "work", real="real.tsv",
                                     mask_size=mask_size, train_sizes=train and sized(*train),
                                     val_sizes=val and sized(*val)))  # fmt: skip


def pipeline(config: dict, which: str = "test") -> list[dict]:
    return config[f"{which}_dataloader"]["dataset"]["pipeline"]


def mini(**overrides) -> dict:
    """segformer_mini with pipelines replaced (train=, val=) or other overrides."""
    entry = deepcopy(MODELS["segformer_mini"])
    for name in ("train", "val"):
        if name in overrides:
            entry["overrides"][f"{name}_dataloader"]["dataset"]["pipeline"] = overrides.pop(name)
    entry["overrides"] |= overrides
    return entry


@pytest.mark.parametrize("side", [64, 256])
def test_the_small_model_sees_all_images_at_the_data_sets_size(space, side):
    """480x360: the factor of training's middle scale, so 64x48, and 256x192."""
    config = made(space, MODELS["segformer_mini"], mask_size=side)
    trained = next(step for step in pipeline(config, "train") if step["type"] == "RandomResize")
    resize = resize_of(pipeline(config))
    assert pipeline(config)[1] is resize  # before masks are loaded, which keep their size
    assert resize == {"type": "Resize", "scale": (side, side), "keep_ratio": True}
    assert trained["scale"] == resize["scale"] and config["model"]["data_preprocessor"]["size"] == [side, side]
    assert seen_as(sized((480, 360))[0], resize) == (side, side * 3 // 4)


def test_a_resize_that_changes_nothing_is_left_out(space):
    """The demo's images have its size; with one training image of another, class losses need it."""
    assert resize_of(pipeline(made(space, MODELS["segformer_mini"], [(64, 64)], [(64, 64)]))) is None
    assert resize_of(pipeline(made(space, MODELS["segformer_mini"], [(64, 64), (65, 64)], [(64, 64)])))
    assert resize_of(pipeline(made(space, MODELS["segformer_mini"], None, None)))  # unknown sizes


@pytest.mark.parametrize("model", [name for name in MODELS if name != "segformer_mini"])
def test_the_papers_models_validate_at_the_scale_of_their_training(space, model):
    config = made(space, MODELS[model], [(683, 512)], [(683, 512)])
    short = 640 if model == "mask2former_swin-b" else 512
    assert resize_of(pipeline(config)) == {"type": "Resize", "scale": (4 * short, short), "keep_ratio": True}


RESIZE = {"type": "Resize", "scale": [128, 128], "keep_ratio": True}
CHOICE = {"type": "RandomChoiceResize", "scales": [32, 64, 96], "resize_type": "ResizeShortestEdge", "max_size": 256}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"val": [CROP[0], RESIZE, *CROP[1:2], CROP[3]]}, r"at around \(64, 64\).*but validation at \(128, 128\)"),
        ({"train": CROP, "val": [CROP[0], RESIZE, CROP[1], CROP[3]]}, r"at their own size, but validation at"),
        ({"train": [*CROP[:2], CHOICE, *CROP[2:]]}, "training resizes by RandomChoiceResize, validation not at all"),
        ({"train": [*CROP[:2], CHOICE, *CROP[2:]], "val": [CROP[0], RESIZE, CROP[1], CROP[3]]}, "short sides of 32 to"),
        ({"val": [CROP[0], {"type": "ResizeToMultiple"}, CROP[1], CROP[3]]}, "validation resizes by ResizeToMultiple"),
    ],
)
def test_other_scales_are_refused(space, overrides, message):
    with pytest.raises(InputError, match=f"real: {message}" if message.startswith("training") else message):
        made(space, mini(**overrides))


def test_a_model_that_never_resizes_keeps_its_own_scale(space):
    assert resize_of(pipeline(made(space, mini(train=CROP), [(480, 360)], [(480, 360)]))) is None


def test_validation_images_of_several_sizes_come_one_by_one(space):
    entry = mini(train_cfg={"val_interval": 100})
    one = made(space, entry, val=[(480, 360), (960, 720)])  # both are seen as 64x48
    several = made(space, entry, val=[(480, 360), (360, 480)])
    assert (one["val_dataloader"]["batch_size"], several["val_dataloader"]["batch_size"]) == (10, 1)
    assert several["test_dataloader"]["batch_size"] == 1


@pytest.mark.parametrize(
    ("entry", "size", "message"),
    [
        (mini(train=CROP), (5000, 5000), r"images/5000x5000\.jpg has 5000x5000 pixels, and the model predicts whole"),
        (MODELS["segformer_mini"], (40000, 30000), "with 3 classes its scores take 14 GB"),
        (mini(train=CROP), (40, 27), r"images/40x27\.jpg has 40x27 pixels, too small for the network \("),
        (MODELS["segformer_mini"], (640, 40), "640x40 pixels, which it sees as 64x4, too small"),
    ],
)
@pytest.mark.parametrize("split", ["train", "val"])
def test_images_that_a_model_cannot_take_are_named_before_it_trains(space, entry, size, message, split):
    with pytest.raises(InputError, match=message):
        made(space, entry, **{split: [(480, 360), size]})


def test_images_at_the_limits_are_taken(space):
    """29 pixels: its strides and attention's reduction leave one; windows of one side are predicted at any size."""
    made(space, mini(train=CROP), val=[(40, 29)])
    slide = mini(train=CROP)
    slide["overrides"]["model"]["test_cfg"] = {"mode": "slide", "crop_size": [64, 64], "stride": [48, 48]}
    made(space, slide, [(5000, 5000)], [(5000, 5000)])
    made(space, MODELS["segformer_mini"], [(5000, 5000)], [(5000, 5000)])


def test_sizes_come_back_largest_first(tmp_path):
    write_sizes(tmp_path / "sizes.tsv", [Size(3, 4, 2, "a b.jpg"), Size(5, 4, 1, "c.jpg")])
    assert read_sizes(tmp_path / "sizes.tsv") == [Size(5, 4, 1, "c.jpg"), Size(3, 4, 2, "a b.jpg")]


def test_a_training_sees_pixels_of_a_mask_that_its_square_lacks(space, tmp_path):
    """So a mask that is changed in such pixels alone trains again: docs/reruns.md."""
    import freemask.segmentation.registered  # noqa: F401 - registers what configs name

    mask = np.ones((128, 128), np.uint8)
    masks.write_mask(tmp_path / "before.png", mask)
    Image.fromarray(np.stack([mask] * 3, axis=2)).save(tmp_path / "image.png")
    changed = mask.copy()
    changed[::2, ::2] = 2
    masks.write_mask(tmp_path / "after.png", changed)
    assert (masks.resize_nearest(mask, 64) == masks.resize_nearest(changed, 64)).all()
    config = made(space, MODELS["segformer_mini"])["train_dataloader"]["dataset"]
    init_default_scope("mmseg")
    seen = []
    for name in ("before", "after"):
        tables.write_table(tmp_path / f"{name}.tsv", pd.DataFrame(
            {"image": [str(tmp_path / "image.png")], "mask": [str(tmp_path / f"{name}.png")]}))  # fmt: skip
        data = DATASETS.build(config | {"lists": [str(tmp_path / f"{name}.tsv")]})
        pairs = [data[Draw.make(0, (0, position))]["data_samples"].gt_sem_seg.data for position in range(8)]
        seen.append([int((labels == 1).sum()) for labels in pairs])
    assert seen[0] == [0] * 8 and max(seen[1]) > 500, seen
