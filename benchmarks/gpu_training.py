"""Training steps of one model, mmsegmentation's own way and ours, in one process; see `gpu_training`."""

import copy
import gc
import os
import tempfile
import time
import traceback
from collections import defaultdict
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
import yaml
from gpu_synthesis import GPU, Numbers, kernels, synchronize
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.hooks import Hook
from mmengine.registry import DATASETS, init_default_scope
from mmengine.runner import Runner
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch.utils.data import Dataset

from freemask import cli
from freemask.data.label_space import LabelSpace
from freemask.segmentation import registered  # noqa: F401 - registers what configs name
from freemask.segmentation.config import Experiment, base_config, resolve
from freemask.segmentation.runner import AtomicRunner

ROOT = Path(__file__).resolve().parents[1]
CLASSES, SHOWN = 150, 10  # of the data set, and in each mask
WAYS = {  # values of a model's `acceleration`
    "launched": [],  # kernel by kernel
    "attention": ["captured_backbone", "fused_attention"],
    "compiled": ["fused_attention", "compiled_backbone"],
    "both": ["captured_backbone", "fused_attention", "compiled_backbone"],
}
WARM = 6 if GPU else 1  # steps that aren't counted


def gpu_training(
    *,
    models: list[str],
    json: Path,
    ways: list[str] | None = None,
    iterations: cli.Positive = 15 if GPU else 2,
    narrow: bool = not GPU,
    profiled: bool = False,
) -> None:
    """Measure iterations a second of models: random weights, random images of the size of its crops.

    Every way runs through a Runner with the model's own numbers of loading processes, so that the time between steps
    counts. Then five steps are taken with pauses between their parts. Numbers are added to a JSON file as they come.

    Args:
        models: Entries of config/models.yaml.
        json: Output.
        ways: theirs: mmsegmentation's config, mmengine's Runner. ours: this project's. After a dash: fp16, bf16, or
            names of WAYS.
        iterations: Steps that are counted.
        narrow: Shrink the model, for a CPU.
        profiled: List the GPU's kernels of a step of every way.
    """
    for model in models:
        numbers = Numbers(json, f"training_{model}")
        if model.startswith("mask2former"):
            numbers.add("deformable_attention", os.environ.get("DEFORMABLE_ATTENTION", "mmcv"))
            import mmdet.models  # noqa: F401 - registers the head
        for way in ways or ["theirs", "ours", "ours-fp16"]:
            try:
                measure(numbers, model, way, iterations, narrow, profiled)
            except Exception as error:  # the other ways are still measured
                cli.tell(f"{model} {way} failed: {traceback.format_exc()[-2500:]}")
                numbers.add(f"{way}_failed", f"{type(error).__name__}: {str(error)[:300]}")
            gc.collect()
            if GPU:
                torch.cuda.empty_cache()


@DATASETS.register_module()
class RandomPairs(Dataset):
    """Random images, and masks of blocks of a few classes, as pipelines hand them over."""

    def __init__(self, side: int, classes: int, count: int = 64):
        self.metainfo = {"classes": tuple(map(str, range(classes))), "palette": [[0, 0, 0]] * classes}
        self.count, random = count, torch.Generator().manual_seed(0)
        self.pairs = []
        for _ in range(4):
            blocks = torch.randperm(classes, generator=random)[:SHOWN].repeat(64)[: 16 * 16].view(16, 16)
            mask = blocks.repeat_interleave(side // 16, 0).repeat_interleave(side // 16, 1)[None]
            shape = {"ori_shape": (side, side), "img_shape": (side, side), "pad_shape": (side, side), "img_path": "x"}
            image = torch.randint(0, 256, (3, side, side), generator=random, dtype=torch.uint8)
            self.pairs.append((image, SegDataSample(gt_sem_seg=PixelData(data=mask), metainfo=shape)))

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, position: int) -> dict[str, Any]:
        image, sample = self.pairs[position % len(self.pairs)]
        return {"inputs": image.clone(), "data_samples": copy.deepcopy(sample)}


class Watch(Hook):
    """Times iterations: from the end of the last one that warms up to the end of the last one."""

    priority = "LOWEST"

    def __init__(self, iterations: int):
        self.iterations, self.data, self.losses = iterations, 0.0, []
        self.start = self.end = self.left = 0.0

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """The batch is there."""
        if runner.iter > WARM:
            self.data += time.perf_counter() - self.left

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Note the time, after the GPU's work at both ends."""
        self.losses.append(float(outputs["loss"].detach()))
        if runner.iter + 1 == WARM:
            synchronize()
            self.start = time.perf_counter()
            if GPU:
                torch.cuda.reset_peak_memory_stats()
        if runner.iter + 1 == WARM + self.iterations:
            synchronize()
            self.end = time.perf_counter()
        self.left = time.perf_counter()


def measure(numbers: Numbers, model: str, way: str, iterations: int, narrow: bool, profiled: bool) -> None:
    """Iterations a second and parts of a step of one way."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        runner = build_runner(model, way, WARM + iterations, Path(folder), narrow)
        watch = Watch(iterations)
        runner.register_hook(watch, "LOWEST")
        runner.train()
        numbers.add(f"{way}_iterations_a_second", iterations / (watch.end - watch.start))
        numbers.add(f"{way}_waiting", watch.data / (watch.end - watch.start))
        numbers.add(f"{way}_bytes", torch.cuda.max_memory_allocated() if GPU else 0)
        numbers.add(f"{way}_losses", [round(loss, 4) for loss in watch.losses[:3]])
        numbers.add(f"{way}_groups", len(runner.optim_wrapper.optimizer.param_groups))
        dataset = runner.train_dataloader.dataset
        batch = pseudo_collate([dataset[position] for position in range(runner.train_dataloader.batch_size or 2)])
        numbers.add(f"{way}_parts", parts_of_a_step(runner, batch))
        if profiled:
            numbers.add(f"{way}_kernels", kernels(lambda: runner.model.train_step(batch, runner.optim_wrapper), 12))
        numbers.add(f"{way}_seconds", time.perf_counter() - started)


def build_runner(model: str, way: str, iterations: int, folder: Path, narrow: bool) -> Runner:
    """A Runner on random data."""
    whose, _, option = way.partition("-")
    entry = yaml.safe_load((ROOT / "config/models.yaml").read_text())[model]
    if whose == "theirs":
        config = base_config(entry["base"])
        config.work_dir = str(folder)
        if option == "fp16":
            config.optim_wrapper |= {"type": "AmpOptimWrapper", "dtype": "float16", "loss_scale": "dynamic"}
        kind = Runner
    else:
        config = Config(resolved(model, entry, option, folder))
        config.inputs = "benchmark"
        kind = AtomicRunner
    on_random_data(config, entry["batch_size"], iterations)
    if narrow:
        shrink(config)
    init_default_scope("mmseg")
    return kind.from_cfg(config)


def resolved(model: str, entry: dict[str, Any], option: str, folder: Path) -> dict[str, Any]:
    """This project's config of a training on real images."""
    names = tuple(f"class {label}" for label in range(CLASSES))
    space = LabelSpace(tuple(range(1, CLASSES + 1)), names, names, ((0, 0, 0),) * CLASSES, 0)
    space.write(folder / "label_space.json")
    experiment = Experiment(
        name="benchmark", dataset=next(iter(entry["iterations"])), label_space=str(folder / "label_space.json"),
        regime="real", schedule=1, validation="val.tsv", train_seed=0, work_dir=str(folder / "work"), real="train.tsv",
        gpus=entry["gpus"], precision=option if option in ("fp16", "bf16") else "fp32",
    )  # fmt: skip
    ways = {"acceleration": WAYS[option]} if option in WAYS else {}
    return resolve({**entry, "precision": experiment.precision, **ways}, experiment)


def on_random_data(config: Any, batch_size: int, iterations: int) -> None:
    """Give a config random images and random weights, `iterations` steps, and no validation or checkpoint."""
    side = config.model.data_preprocessor.size[0]
    loader = config.train_dataloader
    loader.dataset = {"type": "RandomPairs", "side": side, "classes": CLASSES}
    loader.sampler = {"type": "InfiniteSampler", "shuffle": True}
    loader.batch_size = batch_size
    config.train_cfg = {"type": "IterBasedTrainLoop", "max_iters": iterations, "val_interval": 10**9}
    for key in ("val_cfg", "val_dataloader", "val_evaluator", "test_cfg", "test_dataloader", "test_evaluator"):
        config[key] = None
    config.default_hooks.checkpoint = None
    config.load_from, config.resume, config.initial_weights = None, False, None
    config.randomness = {"seed": 0}
    config.model.pretrained, config.model.backbone.init_cfg = None, None
    config.visualizer = {"type": "SegLocalVisualizer", "name": f"benchmark{time.time()}", "vis_backends": []}
    config.experiment_name = f"benchmark{time.time()}".replace(".", "_")


def shrink(config: Any) -> None:
    """Make a model narrow, as the tests do."""
    import sys

    sys.path.insert(0, str(ROOT / "tests/helpers"))
    import small_models

    small_models.shrink(config)
    config.train_dataloader.dataset.side = small_models.CROP


def parts_of_a_step(runner: Runner, batch: Any, steps: int = 5) -> dict[str, float]:
    """Milliseconds of each part of a step with the GPU's work, and until the host has launched it; means."""
    model, wrapper = runner.model, runner.optim_wrapper
    spent: dict[str, float] = defaultdict(float)

    def timed(part: str, work):
        synchronize()
        start = time.perf_counter()
        result = work()
        spent[f"{part}_host"] += time.perf_counter() - start
        synchronize()
        spent[part] += time.perf_counter() - start
        return result

    def forward():
        with getattr(wrapper, "optim_context", lambda model: nullcontext())(model):
            data = model.data_preprocessor(batch, True)
            return model.parse_losses(model(**data, mode="loss"))[0]

    model.train()
    for step in range(steps + 1):
        if step == 1:
            spent.clear()
        loss = timed("forward", forward)
        timed("backward", lambda loss=loss: wrapper.backward(wrapper.scale_loss(loss)))
        timed("optimizer", lambda: (wrapper.step(), wrapper.zero_grad()))
    return {part: round(1000 * value / steps, 2) for part, value in spent.items()}


if __name__ == "__main__":
    cli.run(gpu_training)
