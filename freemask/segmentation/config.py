"""From an experiment's settings to one fully resolved mmengine config.

Rules of the regimes: FreeMask (https://arxiv.org/abs/2310.15160), section on training, and its released configs.
"""

from dataclasses import dataclass
from pathlib import Path
from pprint import pformat
from typing import Any

from freemask import plugins
from freemask.data.label_space import LabelSpace
from freemask.data.sizes import Size
from freemask.errors import InputError
from freemask.segmentation.experiments import check_training
from freemask.segmentation.limits import refuse_unsuitable
from freemask.segmentation.regimes import SAMPLERS, Regime, find_regime
from freemask.segmentation.scales import at_one_scale, fill_in, resize_of, seen_as

CURVES = [{"type": "LocalVisBackend"}, {"type": "TensorboardVisBackend"}]  # as JSON, and for TensorBoard
CHECKPOINT_EVERY = 2000  # maximum number of iterations; mmsegmentation's configs save none for up to two hours


@dataclass(frozen=True)
class Experiment:
    """One training. Paths are written to the config as they are: give them relative to the working directory.

    name: what messages call the training.
    dataset: id of the data set, picks the iterations in the model's entry.
    label_space: JSON file (see LabelSpace.read).
    regime: see freemask.segmentation.regimes.
    schedule: multiple of the iterations that the model's entry gives.
    real, synthetic, validation: tables with the columns image, mask.
    train_seed: seed of initialisation, order and augmentation.
    work_dir: mmengine's folder.
    initial: weights of a whole model, for a regime that starts from a pre-training.
    initial_weights: local copy of the initial weights in the model's entry.
    gpus: processes of one step, a divisor of the entry's number (gradients are accumulated); 0: one, on the CPU.
    precision: fp32, fp16 or bf16.
    balance: sampler of a regime that mixes real and synthetic pairs: exact, repeat, or "package.module:object".
    mask_size: side of synthetic images [pixels], for models whose sizes follow it.
    train_sizes, val_sizes: sizes of the real images of both splits; None: unknown.
    """

    name: str
    dataset: str
    label_space: str
    regime: str
    schedule: int
    validation: str
    train_seed: int
    work_dir: str
    real: str | None = None
    synthetic: str | None = None
    initial: str | None = None
    initial_weights: str | None = None
    gpus: int = 0
    precision: str = "fp32"
    balance: str = "exact"
    mask_size: int | None = None
    train_sizes: list[Size] | None = None
    val_sizes: list[Size] | None = None


def resolve(entry: dict[str, Any], experiment: Experiment) -> dict[str, Any]:
    """The mmengine config of one training, as plain values in the order in which it is written.

    Args: entry: the model's entry of the models file; experiment: the other settings.
    Raises: InputError for a regime without its inputs, a data set without iterations, unsuitable GPUs, scales that
        differ between training and evaluation, or images that the model can't take.
    """
    regime = _check(entry, experiment)
    base = base_config(entry["base"])
    base.merge_from_dict(fill_in(entry.get("overrides", {}), experiment.mask_size))
    config = base.to_dict()
    _agree_on_scales(config, experiment)
    accumulate = entry["gpus"] // max(experiment.gpus, 1)  # steps of one update, which sees as many images
    iterations = entry["iterations"][experiment.dataset] * experiment.schedule
    steps = iterations * accumulate
    weights = _initial_weights(entry, experiment)
    model = _model(config["model"], len(LabelSpace.read(experiment.label_space)), weights)
    resize = resize_of(config["val_dataloader"]["dataset"]["pipeline"])
    refuse_unsuitable(experiment.name, model, resize, [*(experiment.train_sizes or []), *(experiment.val_sizes or [])])
    mask2former = ["mmdet.models"] if "mmdet." in str(config["model"]) else []
    return {
        "custom_imports": {
            "imports": ["freemask.segmentation.registered", *mask2former],
            "allow_failed_imports": False,
        },
        "default_scope": "mmseg",
        "experiment": {
            "name": experiment.name,
            "dataset": experiment.dataset,
            "regime": experiment.regime,
            "schedule": experiment.schedule,
            "train_seed": experiment.train_seed,
            "iterations": iterations,
        },
        "gpus": max(experiment.gpus, 1),
        "work_dir": experiment.work_dir,
        "randomness": {"seed": experiment.train_seed},
        "load_from": experiment.initial,
        "resume": False,
        "initial_weights": weights,
        "model": model,
        "optim_wrapper": _optimizer(config["optim_wrapper"], regime, experiment.precision, accumulate),
        "param_scheduler": _schedule(config, steps, accumulate, entry, experiment),
        **_data(config, regime, entry, accumulate, experiment),
        **_loops(config["train_cfg"]["val_interval"] * accumulate, steps, experiment.name),
        **_hooks(config, steps, accumulate, experiment),
        **({"acceleration": entry["acceleration"]} if "acceleration" in entry else {}),
        "env_cfg": config["env_cfg"],
        "visualizer": {"type": config["visualizer"]["type"], "vis_backends": CURVES},  # nameless: one for each run
        "log_processor": config["log_processor"],
        "log_level": config["log_level"],
    }


def config_text(config: dict[str, Any]) -> str:
    """A resolved config as the text of a Python file that mmengine reads."""
    parts = [f"{key} = {pformat(value, sort_dicts=False, width=110)}\n" for key, value in config.items()]
    return "# Resolved by scripts/training_config.py; paths are relative to the working directory.\n" + "".join(parts)


def base_config(base: str) -> Any:
    """Read a config that ships with mmsegmentation, without its custom imports."""
    import mmseg
    from mmengine.config import Config

    path = Path(mmseg.__file__).parent / ".mim/configs" / base.removeprefix("mmseg::")
    if not base.startswith("mmseg::") or not path.is_file():
        raise InputError(f"models.yaml: base {base!r} is no config of the installed mmsegmentation (mmseg::...)")
    return Config.fromfile(path, import_custom_modules=False, format_python_code=False)


def _check(entry: dict[str, Any], experiment: Experiment) -> Regime:
    """The experiment's regime; InputError where its inputs or the model's entry don't fit it."""
    regime = find_regime(experiment.regime)
    for field, needed in (("real", regime.real), ("synthetic", regime.synthetic), ("initial", regime.pretrained)):
        if needed and not getattr(experiment, field):
            raise InputError(f"regime {experiment.regime} of {experiment.name} needs {field}; give it")
    if experiment.initial and not regime.pretrained:
        raise InputError(
            f"regime {experiment.regime} of {experiment.name} starts from no pre-training; leave out initial "
            f"({experiment.initial})"
        )
    if experiment.schedule < 1:
        raise InputError(f"schedule {experiment.schedule}, want a multiple of the real-image iterations, 1 or more")
    settings = (experiment.dataset, experiment.regime, experiment.balance, experiment.gpus, experiment.precision)
    check_training(experiment.name, entry, *settings)
    return regime


def _agree_on_scales(config: dict[str, Any], experiment: Experiment) -> None:
    """Let the evaluation see images at the training's scale, one by one where they have several sizes; in place."""
    train, val = config["train_dataloader"]["dataset"], config["val_dataloader"]
    known = experiment.train_sizes is not None and experiment.val_sizes is not None
    sizes = [*experiment.train_sizes, *experiment.val_sizes] if known else None
    pipeline = at_one_scale(experiment.name, train["pipeline"], val["dataset"]["pipeline"], sizes)
    val["dataset"]["pipeline"] = pipeline
    if len({seen_as(size, resize_of(pipeline)) for size in experiment.val_sizes or []}) > 1:
        val["batch_size"] = 1  # a batch is one array


def _initial_weights(entry: dict[str, Any], experiment: Experiment) -> dict[str, Any] | None:
    """The backbone's initial weights: {"file": path or address, after a layout's prefix; "sha256": digest or None}.

    None where the entry has none, or the whole model's weights are given.
    """
    weights = entry.get("initial_weights")
    if not weights or experiment.initial:
        return None
    file = experiment.initial_weights or weights.get("path") or weights["url"]
    layout = f"{weights['convert']}:" if "convert" in weights else ""
    return {"file": layout + file, "sha256": weights.get("sha256")}


def _model(model: dict[str, Any], classes: int, weights: dict[str, Any] | None) -> dict[str, Any]:
    """Set the number of classes and the backbone's initial weights."""
    more = model.get("auxiliary_head") or []
    for head in [model["decode_head"], *(more if isinstance(more, list) else [more])]:
        head["num_classes"] = classes
        if "loss_cls" in head:  # Mask2Former: the last weight is that of "no object"
            head["loss_cls"]["class_weight"] = [1.0] * classes + [0.1]
    file = weights["file"] if weights else None
    backbone = model["backbone"]
    in_backbone = "Pretrained" in str(backbone.get("init_cfg")) or (file and not model.get("pretrained"))
    if "pretrained" in model:
        model["pretrained"] = None if in_backbone else file
    if in_backbone:
        backbone["init_cfg"] = {"type": "Pretrained", "checkpoint": file} if file else None
    return model


def _optimizer(wrapper: dict[str, Any], regime: Regime, precision: str, accumulate: int) -> dict[str, Any]:
    """Apply the regime's learning rates, the precision and the accumulation of gradients."""
    rate = wrapper["optimizer"]["lr"]
    if not (isinstance(rate, int | float) and 0 < rate < float("inf")):
        raise InputError(f"optimizer.lr = {rate!r}, want a number above 0; correct it in the models file")
    wrapper["optimizer"]["lr"] *= regime.rate
    if regime.one_rate:
        for group in wrapper.get("paramwise_cfg", {}).get("custom_keys", {}).values():
            if "lr_mult" in group:  # set, not removed: the key also decides which weight decay a parameter gets
                group["lr_mult"] = 1.0
    if precision == "fp16":
        wrapper |= {"type": "AmpOptimWrapper", "dtype": "float16", "loss_scale": "dynamic"}
    elif precision == "bf16":  # has float32's range: nothing to scale
        wrapper |= {"type": "BFloat16OptimWrapper"}
    if accumulate > 1:
        wrapper["accumulative_counts"] = accumulate
    return wrapper


def _schedule(
    config: dict[str, Any], steps: int, accumulate: int, entry: dict[str, Any], experiment: Experiment
) -> list[dict[str, Any]]:
    """Stretch the base config's learning-rate schedule to `steps`.

    A warm-up becomes the entry's for this data set, if it has one. The entry gives the warm-up's iterations at schedule
    1 and 2; longer schedules continue the line.
    """
    end = config["train_cfg"]["max_iters"]
    warmup = entry.get("warmup", {}).get(experiment.dataset)
    for scheduler in config["param_scheduler"]:
        for key in ("begin", "end"):
            if warmup and scheduler[key] not in (0, end):
                once, twice = warmup
                scheduler[key] = (once + (twice - once) * (experiment.schedule - 1)) * accumulate
            else:
                scheduler[key] = round(scheduler[key] * steps / end)
        if scheduler["begin"] >= steps or scheduler["end"] > steps:
            raise InputError(
                f"{experiment.name}: {steps} iterations end before the warm-up of {scheduler['end']}; train longer, or"
                f" shorten the model's warmup for {experiment.dataset}"
            )
    return config["param_scheduler"]


def _data(
    config: dict[str, Any], regime: Regime, entry: dict[str, Any], accumulate: int, experiment: Experiment
) -> dict[str, Any]:
    """The dataloaders and evaluators; pipelines are the base config's."""
    train, val = config["train_dataloader"], config["val_dataloader"]
    workers = entry.get("workers", train["num_workers"])
    pinned = experiment.gpus > 0  # a thread of PyTorch's then receives the next batches while a step runs
    test_loading = {"num_workers": workers, "persistent_workers": workers > 0, "pin_memory": pinned}
    loading = test_loading | ({"worker_init_fn": {"type": "leave_sigterm_to_parent"}} if workers else {})
    validation = _dataset(experiment.label_space, [experiment.validation], val["dataset"]["pipeline"])
    test = {
        "batch_size": val["batch_size"],
        **test_loading,
        "sampler": {"type": "DefaultSampler", "shuffle": False},
        "dataset": {**validation, "test_mode": True},
    }
    pairs = [experiment.real] * regime.real + [experiment.synthetic] * regime.synthetic
    pairs = _dataset(experiment.label_space, pairs, train["dataset"]["pipeline"])
    evaluator = {"type": "PerClassIoU", "iou_metrics": ["mIoU"]}
    validated = {"val_dataloader": {**test, **loading}, "val_evaluator": evaluator}
    found = plugins.find(SAMPLERS, regime.sampler or experiment.balance, "balance")
    sampler = found if isinstance(found, dict) else {"type": f"{found.__module__}.{found.__qualname__}"}
    batches = {"batch_size": entry["batch_size"], "accumulate": accumulate, "seed": experiment.train_seed}
    return {
        "train_dataloader": {
            "batch_size": entry["batch_size"],
            **loading,
            "sampler": {**sampler, **batches},
            "dataset": {**pairs, "keep_decoded": entry.get("keep_decoded", False)},
        },
        **(validated if config["train_cfg"]["val_interval"] else {}),
        "test_dataloader": test,
        "test_evaluator": evaluator,
    }


def _dataset(label_space: str, pairs: list[str], pipeline: list[dict[str, Any]]) -> dict[str, Any]:
    """The data set of tables of pairs, with raw labels mapped to train ids right after masks are loaded."""
    loading = [
        {"type": "LoadAnnotations", "reduce_zero_label": False},
        {"type": "RawToTrainIds", "label_space": label_space},
    ]
    transforms = [step for one in pipeline for step in (loading if one["type"] == "LoadAnnotations" else [one])]
    return {"type": "PairListDataset", "label_space": label_space, "lists": pairs, "pipeline": transforms}


def _loops(val_interval: int, steps: int, name: str) -> dict[str, Any]:
    """Training by iterations, with validation every val_interval of them (0: none).

    Raises: InputError for an interval after the training's end: it would have no best checkpoint.
    """
    if val_interval > steps:
        raise InputError(
            f"{name}: val_interval {val_interval} is more than its {steps} iterations, so it would never be validated; "
            "set overrides: {train_cfg: {val_interval: ...}} of the model to fewer, or to 0 for no validation"
        )
    train: dict[str, Any] = {"type": "IterBasedTrainLoop", "max_iters": steps}
    if val_interval:
        train["val_interval"] = val_interval
    validation = {"val_cfg": {"type": "ValLoop"}} if val_interval else {}
    return {"train_cfg": train, **validation, "test_cfg": {"type": "TestLoop"}}


def _hooks(config: dict[str, Any], steps: int, accumulate: int, experiment: Experiment) -> dict[str, Any]:
    """Mmengine's hooks at suitable intervals, and this package's."""
    hooks = {name: config["default_hooks"][name] for name in ("timer", "logger", "param_scheduler", "checkpoint")}
    hooks["logger"]["interval"] = min(hooks["logger"]["interval"], steps)  # the shortest training has a curve
    hooks["checkpoint"] |= {
        "type": "DurableCheckpoints",
        "interval": min(hooks["checkpoint"]["interval"], CHECKPOINT_EVERY) * accumulate,
        "max_keep_ckpts": 2,
        "save_best": "mIoU" if config["train_cfg"]["val_interval"] else None,
    }
    description = f"{experiment.name}, train seed {experiment.train_seed}"
    return {
        "default_hooks": {**hooks, "sampler_seed": None},
        "custom_hooks": [
            {"type": "SeedEachIteration", "seed": experiment.train_seed},
            {"type": "RefuseNonFiniteLoss"},
            {"type": "CountTime"},
            {"type": "ProgressLines", "description": description},
            {"type": "SaveOnTerminate", "accumulate": accumulate},
            {"type": "RepeatValidation"},
        ],
    }
