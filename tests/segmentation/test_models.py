"""Every model of models.yaml, narrow: a training step and a prediction on the CPU."""

from pathlib import Path

import pytest
import small_models
import torch
import yaml
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

import freemask.segmentation.registered  # noqa: F401 - registers what configs name
from freemask.data.label_space import LabelSpace
from freemask.segmentation.config import Experiment, config_text, resolve

ROOT = Path(__file__).parents[2]
MODELS = yaml.safe_load((ROOT / "config/models.yaml").read_text())
CLASSES = 6


def pairs(count: int) -> dict:
    """Random images with masks of six classes in squares, an ignored corner."""
    torch.manual_seed(0)
    size = small_models.CROP
    mask = (
        torch.arange(CLASSES).repeat_interleave(size * size // CLASSES + 1)[: size * size].view(1, size, size).clone()
    )
    mask[:, :4, :4] = 255
    shape = {"ori_shape": (size, size), "img_shape": (size, size), "pad_shape": (size, size)}
    samples = [SegDataSample(gt_sem_seg=PixelData(data=mask.clone()), metainfo=shape) for _ in range(count)]
    return {"inputs": [torch.randint(0, 256, (3, size, size), dtype=torch.uint8) for _ in samples],
            "data_samples": samples}  # fmt: skip


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.ops] * name.startswith("mask2former")) for name in MODELS]
)
def test_every_model_trains_and_predicts(name, tmp_path):
    names = tuple(f"name{label}" for label in range(CLASSES))
    space = LabelSpace(tuple(range(1, CLASSES + 1)), names, names, ((0, 0, 0),) * CLASSES, ignored=0)
    space.write(tmp_path / "label_space.json")
    entry = MODELS[name]
    experiment = Experiment(
        name=name,
        dataset=next(iter(entry["iterations"])),
        label_space=str(tmp_path / "label_space.json"),
        regime="real",
        mask_size=64,
        schedule=1,
        validation="val.tsv",
        train_seed=0,
        work_dir="work",
        real="real.tsv",
        gpus=entry["gpus"],
    )
    (tmp_path / "config.py").write_text(config_text(resolve(entry, experiment)))
    config = Config.fromfile(tmp_path / "config.py", import_custom_modules=False)
    model = small_models.build(small_models.shrink(config))
    model.init_weights()
    wrapper = build_optim_wrapper(model, config.optim_wrapper)
    before = {key: value.clone() for key, value in model.named_parameters()}
    losses = model.train().train_step(pairs(2), wrapper)
    assert torch.isfinite(losses["loss"])
    changed = {key for key, value in model.named_parameters() if not torch.equal(value, before[key])}
    assert len(changed) > 0.9 * len(before)  # biases before a norm may stand still
    assert {key.partition(".")[0] for key in changed} == {"backbone", "decode_head"}
    with torch.no_grad():
        predicted = model.eval().test_step(pairs(1))[0]
    assert predicted.seg_logits.data.shape == (CLASSES, small_models.CROP, small_models.CROP)
    assert torch.isfinite(predicted.seg_logits.data).all()
    assert set(predicted.pred_sem_seg.data.unique().tolist()) <= set(range(CLASSES))
