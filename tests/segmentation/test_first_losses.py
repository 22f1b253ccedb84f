"""The first losses of a training: mmsegmentation's config in mmengine's own Runner, against this project's."""

import time

import pytest
import small_models
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import DATASETS, init_default_scope
from mmengine.runner import Runner
from test_optimizers import MODELS, built, one_thread, pairs  # noqa: F401 - a fixture
from torch.utils.data import Dataset

from freemask.segmentation.config import base_config
from freemask.segmentation.runner import AtomicRunner

MODEL, STEPS = "segformer_mit-b2", 50
FASTER = 300  # times the config's learning rate: in its warm-up of 1,500 steps, 50 would hardly change a loss


@DATASETS.register_module()
class Stripes(Dataset):
    """A few random pairs; `metainfo` is what mmengine asks of a data set."""

    metainfo = {"classes": tuple("abcdef"), "palette": [[0, 0, 0]] * 6}

    def __init__(self):
        torch.manual_seed(1)
        found = pairs(6)
        self.pairs = [dict(zip(found, values, strict=True)) for values in zip(*found.values(), strict=True)]

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, position):
        pair = self.pairs[position]
        return {"inputs": pair["inputs"].clone(), "data_samples": pair["data_samples"].clone()}


class Losses(Hook):
    """Notes the loss of each step."""

    def __init__(self):
        self.found = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.found.append(float(outputs["loss"].detach()))


def losses(kind, config, folder):
    """The losses of the first steps of a config, from the same weights, on the same batches."""
    config.train_dataloader = {
        "batch_size": 2,
        "num_workers": 0,
        "sampler": {"type": "InfiniteSampler", "shuffle": False},
        "dataset": {"type": "Stripes"},
    }
    config.train_cfg.update(max_iters=STEPS, val_interval=10**9)
    for part in ("val", "test"):
        config.update({f"{part}_dataloader": None, f"{part}_cfg": None, f"{part}_evaluator": None})
    config.default_hooks.checkpoint = None
    config.visualizer = {"type": "SegLocalVisualizer", "vis_backends": [], "name": f"losses{time.time()}"}
    config.experiment_name = f"losses{time.time()}".replace(".", "_")
    config.work_dir, config.load_from = str(folder / kind.__name__), str(folder / "start.pth")
    config.optim_wrapper.optimizer.lr *= FASTER
    runner, noted = kind.from_cfg(config), Losses()
    runner.register_hook(noted)
    runner.train()
    return noted.found, len(runner.optim_wrapper.optimizer.param_groups)


def test_first_losses_are_those_of_mmsegmentation(tmp_path):
    """Seven layers of SegFormer, narrow; the same seed in each step, which dropout and drop path draw from."""
    model, _ = built(MODEL, tmp_path, shallow=True)
    torch.save({"state_dict": model.state_dict()}, tmp_path / "start.pth")
    ours = small_models.shrink(Config.fromfile(tmp_path / "config.py", import_custom_modules=False))
    theirs = small_models.shrink(base_config(MODELS[MODEL]["base"]))
    theirs.model.decode_head.num_classes = 6
    theirs.randomness = ours.randomness
    theirs.custom_hooks = [{"type": "SeedEachIteration", "seed": 0}]
    for config in (ours, theirs):
        config.model.backbone.num_layers = [1, 1, 1, 1]
    ours.inputs, ours.initial_weights = "test", None
    init_default_scope("mmseg")
    (found, groups), (wanted, their_groups) = losses(AtomicRunner, ours, tmp_path), losses(Runner, theirs, tmp_path)
    assert len(found) == STEPS and groups < 6 < their_groups
    assert found == pytest.approx(wanted, rel=1e-4)
    assert found[-1] < 0.9 * found[0]  # it learns, so rates count
