"""Merged parameter groups and fused steps against mmengine's own optimizers."""

import copy
from pathlib import Path

import pytest
import small_models
import torch
import yaml
from mmengine.config import Config
from mmengine.optim import LinearLR, PolyLR, build_optim_wrapper
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

import freemask.segmentation.registered  # noqa: F401 - registers what configs name
from freemask.data.label_space import LabelSpace
from freemask.segmentation.config import Experiment, config_text, resolve
from freemask.segmentation.optimizers import adapt_state, merge_groups, with_fused_steps
from freemask.segmentation.runner import AtomicRunner

ROOT = Path(__file__).parents[2]
MODELS = yaml.safe_load((ROOT / "config/models.yaml").read_text())
LARGEST = 6  # groups that any of the models has after merging


@pytest.fixture(autouse=True)
def one_thread():
    """Hundreds of tiny tensors: threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pairs(count):
    """Random images with masks of six classes in stripes."""
    size = small_models.CROP
    mask = (torch.arange(size) * 6 // size).expand(1, size, size)
    shape = {"ori_shape": (size, size), "img_shape": (size, size), "pad_shape": (size, size)}
    samples = [SegDataSample(gt_sem_seg=PixelData(data=mask.clone()), metainfo=shape) for _ in range(count)]
    images = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8) // 2 + (20 * mask).to(torch.uint8)
    return {"inputs": list(images), "data_samples": samples}


def built(name, folder, shallow=False):
    """A narrow model of models.yaml and its resolved optimizer."""
    names = tuple(f"name{label}" for label in range(6))
    space = LabelSpace(tuple(range(1, 7)), names, names, ((0, 0, 0),) * 6, ignored=0)
    space.write(folder / "label_space.json")
    entry = MODELS[name]
    experiment = Experiment(
        name=name, dataset=next(iter(entry["iterations"])), label_space=str(folder / "label_space.json"),
        regime="real", schedule=1, validation="val.tsv", train_seed=0, work_dir="work", real="real.tsv",
        gpus=entry["gpus"], mask_size=64,
    )  # fmt: skip
    (folder / "config.py").write_text(config_text(resolve(entry, experiment)))
    config = small_models.shrink(Config.fromfile(folder / "config.py", import_custom_modules=False))
    if shallow:
        config.model.backbone.num_layers = [1, 1, 1, 1]
    torch.manual_seed(0)
    return small_models.build(config), config.optim_wrapper


def ours(model, settings):
    """What our runner builds."""
    runner = object.__new__(AtomicRunner)
    runner.model = model
    return runner.build_optim_wrapper(settings)


def theirs(model, settings):
    """What mmengine's own constructor builds."""
    return build_optim_wrapper(model, copy.deepcopy(settings))


def options_by_name(model, optimizer):
    """Everything that each parameter's group sets, but the implementation."""
    names = {id(value): name for name, value in model.named_parameters()}
    left_out = ("params", "fused", "foreach")
    return {
        names[id(value)]: {key: group[key] for key in group if key not in left_out}
        for group in optimizer.param_groups
        for value in group["params"]
    }


def schedulers(wrapper):
    """A warm-up and a polynomial decay, as SegFormer has."""
    return [LinearLR(wrapper, start_factor=1e-6, begin=0, end=5), PolyLR(wrapper, power=1.0, begin=5, end=20)]


def update(model, wrapper, schedule, steps, seed):
    """Take steps with random gradients."""
    random = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        for value in model.parameters():
            value.grad = torch.randn(value.shape, generator=random)
        wrapper.step()
        wrapper.zero_grad()
        for scheduler in schedule:
            scheduler.step()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.ops] * name.startswith("mask2former")) for name in MODELS]
)
def test_every_parameter_is_updated_as_by_mmengine(name, tmp_path):
    model, settings = built(name, tmp_path)
    twin = copy.deepcopy(model)
    wrapper, reference = ours(model, settings), theirs(twin, settings)
    assert options_by_name(model, wrapper.optimizer) == options_by_name(twin, reference.optimizer)
    assert len(wrapper.optimizer.param_groups) <= LARGEST
    assert all(group["fused"] for group in wrapper.optimizer.param_groups)
    update(model, wrapper, schedulers(wrapper), 10, seed=1)
    update(twin, reference, schedulers(reference), 10, seed=1)
    for (key, one), other in zip(model.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7, msg=lambda text, key=key: f"{key}: {text}")
    assert wrapper.get_lr()["lr"][0] == pytest.approx(reference.get_lr()["lr"][0])


def test_a_checkpoint_with_a_group_per_tensor_resumes(tmp_path):
    model, settings = built("segformer_mit-b2", tmp_path)
    twin = copy.deepcopy(model)
    reference = theirs(twin, settings)
    assert len(reference.optimizer.param_groups) > 100  # as earlier versions trained
    decay = schedulers(reference)
    update(twin, reference, decay, 7, seed=1)
    saved = {
        "optimizer": copy.deepcopy(reference.state_dict()),
        "param_schedulers": [copy.deepcopy(scheduler.state_dict()) for scheduler in decay],
    }
    model.load_state_dict(twin.state_dict())
    wrapper = ours(model, settings)
    resumed = schedulers(wrapper)  # as in mmengine, before the optimizer's state is loaded
    adapt_state(saved, wrapper.optimizer)
    wrapper.load_state_dict(saved["optimizer"])
    for scheduler, state in zip(resumed, saved["param_schedulers"], strict=True):
        scheduler.load_state_dict(state)
        assert len(scheduler.base_values) == len(scheduler._last_value) == len(wrapper.param_groups)
    assert all(group["fused"] for group in wrapper.optimizer.param_groups)
    assert options_by_name(model, wrapper.optimizer) == options_by_name(twin, reference.optimizer)
    update(model, wrapper, resumed, 3, seed=2)
    update(twin, reference, decay, 3, seed=2)
    for one, other in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)
    assert options_by_name(model, wrapper.optimizer) == options_by_name(twin, reference.optimizer)


def test_groups_with_other_options_stay_apart():
    a, b, c, d = (torch.nn.Parameter(torch.zeros(1)) for _ in range(4))
    groups = [
        {"params": [a], "lr": 1.0, "betas": (0.9, 0.999), "group_name": "layer_0"},
        {"params": [b], "lr": 1.0, "betas": (0.9, 0.99), "group_name": "layer_0"},
        {"params": [c], "lr": 1.0, "betas": (0.9, 0.999), "group_name": "layer_1"},  # layer-wise decay names its groups
        {"params": [d], "lr": 1.0, "betas": (0.9, 0.999), "group_name": "layer_0"},
    ]
    assert merge_groups(groups) == [0, 1, 2]
    assert [[id(value) for value in group["params"]] for group in groups] == [[id(a), id(d)], [id(b)], [id(c)]]


def test_an_implementation_that_the_config_chooses_is_kept():
    assert with_fused_steps({"type": "AdamW", "lr": 1.0}) == {"type": "AdamW", "lr": 1.0, "fused": True}
    for chosen in ({"type": "SGD", "foreach": True}, {"type": "AdamW", "fused": False}, {"type": "Rprop"}):
        assert with_fused_steps(chosen) == chosen
