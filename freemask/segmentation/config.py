"""From an experiment's settings to one fully resolved mmengine config.

Rules of the regimes: FreeMask (https://arxiv.org/abs/2310.15160), section on training, and its released configs.
"""

from dataclasses import dataclass
from pathlib import Path
from pprint import pformat
from typing import Any

import yaml

from freemask.data.label_space import LabelSpace
from freemask.errors import InputError
from freemask.segmentation import protocol

REGIMES = ("real", "synthetic", "finetune", "joint")
VISUAL = [{"type": "LocalVisBackend"}, {"type": "TensorboardVisBackend"}]  # curves as JSON, and for TensorBoard
CHECKPOINT_EVERY = 2000  # iterations at most; mmsegmentation's configs keep none for up to two hours


@dataclass(frozen=True)
class Experiment:
    """What one training is: paths as they shall stand in the config, relative to the working directory.

    name: what messages call it; regime: see REGIMES; schedule: multiple of the model's real-image iterations;
    real, synthetic, validation: tables with the columns image, mask; classes, ignored: see LabelSpace.read;
    initial: weights that finetune starts from; initial_weights: local copy of the entry's initial weights;
    gpus: processes of one step (a divisor of the entry's number accumulates gradients; 0: one process, on the CPU);
    precision: fp32, fp16 or bf16; balance: "exact" halves in joint batches, "repeat" as released;
    work_dir: mmengine's folder.
    """

    name: str
    dataset: str
    classes: str
    ignored: int
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


def read_model(models: str | Path, name: str) -> dict[str, Any]:
    """The entry of a model in models.yaml; InputError names the file and the models that it holds."""
    try:
        entries = yaml.safe_load(Path(models).read_text())
    except (FileNotFoundError, yaml.YAMLError) as error:
        raise InputError(f"{models}: cannot be read ({error}); check the path and the file") from None
    if name not in entries:
        raise InputError(f"{models}: no model {name!r}; it holds {', '.join(entries)}")
    return entries[name]


def resolve(entry: dict[str, Any], experiment: Experiment) -> dict[str, Any]:
    """The mmengine config of one training, as plain values in the order in which it is written.

    Args: entry: the model's entry of models.yaml.
    Raises: InputError for a regime without its inputs, a data set without iterations, or unsuitable GPUs.
    """
    _check(entry, experiment)
    base = base_config(entry["base"])
    base.merge_from_dict(_overrides(entry.get("overrides", {})))
    config = base.to_dict()
    accumulate = _accumulate(entry, experiment)
    steps = entry["iterations"][experiment.dataset] * experiment.schedule * accumulate
    classes = len(LabelSpace.read(experiment.classes, experiment.ignored))
    imports = ["freemask.segmentation.registered"] + (["mmdet.models"] if "mmdet." in str(config["model"]) else [])
    return {
        "custom_imports": {"imports": imports, "allow_failed_imports": False},
        "default_scope": "mmseg",
        "experiment": {"name": experiment.name, "dataset": experiment.dataset, "regime": experiment.regime,
                       "schedule": experiment.schedule, "train_seed": experiment.train_seed,
                       "iterations": steps // accumulate},
        "gpus": max(experiment.gpus, 1),
        "work_dir": experiment.work_dir,
        "randomness": {"seed": experiment.train_seed},
        "load_from": experiment.initial,
        "resume": False,
        "initial_weights": protocol.initial_weights(entry, experiment),
        "model": protocol.model(config["model"], classes, entry, experiment),
        "optim_wrapper": protocol.optimizer(config["optim_wrapper"], accumulate, experiment),
        "param_scheduler": protocol.schedule(config, steps, accumulate, entry, experiment),
        **_data(config, entry, accumulate, experiment),
        **_loops(config, entry, steps, accumulate),
        **_hooks(config, steps, accumulate, experiment),
        "env_cfg": config["env_cfg"],
        "visualizer": {"type": config["visualizer"]["type"], "vis_backends": VISUAL},  # nameless: one for each run
        "log_processor": config["log_processor"],
        "log_level": config["log_level"],
    }  # fmt: skip


def config_text(config: dict[str, Any]) -> str:
    """A resolved config as the text of a Python file that mmengine reads."""
    parts = [f"{key} = {pformat(value, sort_dicts=False, width=110)}\n" for key, value in config.items()]
    return "# Resolved by scripts/training_config.py; paths are relative to the working directory.\n" + "".join(parts)


def _check(entry: dict[str, Any], experiment: Experiment) -> None:
    regime = experiment.regime
    if regime not in REGIMES:
        raise InputError(f"regime {regime!r}, want one of {', '.join(REGIMES)}")
    needed = {"real": ("real",), "synthetic": ("synthetic",), "finetune": ("real", "initial"),
              "joint": ("real", "synthetic")}[regime]  # fmt: skip
    for field in needed:
        if not getattr(experiment, field):
            raise InputError(f"regime {regime} of {experiment.name} needs {field}; give it")
    if experiment.initial and regime != "finetune":
        raise InputError(f"regime {regime} of {experiment.name}: initial is for finetune only; leave it out")
    if experiment.dataset not in entry["iterations"]:
        known = ", ".join(entry["iterations"])
        raise InputError(
            f"models file, model of {experiment.name}: no iterations for {experiment.dataset!r} (only {known}); add"
            " those of a training on its real images"
        )
    if experiment.precision == "fp16" and not experiment.gpus:
        raise InputError(f"precision fp16 of {experiment.name} needs GPUs (gpus is 0); choose fp32 or bf16")
    if experiment.schedule < 1:
        raise InputError(f"schedule {experiment.schedule}, want a multiple of the real-image iterations, 1 or more")


def _accumulate(entry: dict[str, Any], experiment: Experiment) -> int:
    """Steps that accumulate gradients so that an update sees as many images as on the entry's GPUs."""
    gpus = max(experiment.gpus, 1)
    if entry["gpus"] % gpus:
        raise InputError(f"gpus {gpus}: want a divisor of {experiment.name}'s {entry['gpus']}, so that batches agree")
    return entry["gpus"] // gpus


def base_config(base: str) -> Any:
    """Read a config that ships with mmsegmentation, without importing what it wants imported."""
    import mmseg
    from mmengine.config import Config

    path = Path(mmseg.__file__).parent / ".mim/configs" / base.removeprefix("mmseg::")
    if not base.startswith("mmseg::") or not path.is_file():
        raise InputError(f"models.yaml: base {base!r} is no config of the installed mmsegmentation (mmseg::...)")
    return Config.fromfile(path, import_custom_modules=False, format_python_code=False)


def _overrides(value: Any, key: str = "") -> Any:
    """YAML has no tuples: make pairs of numbers that mmcv's transforms want as such."""
    if isinstance(value, dict):
        return {name: _overrides(inner, name) for name, inner in value.items()}
    if isinstance(value, list):
        return tuple(value) if key in ("scale", "ratio_range", "crop_size") else [_overrides(item) for item in value]
    return value


def _data(config: dict[str, Any], entry: dict[str, Any], accumulate: int, experiment: Experiment) -> dict[str, Any]:
    """The three dataloaders and the evaluator; pipelines are the base config's."""
    train, val = config["train_dataloader"], config["val_dataloader"]
    lists = {"synthetic": [experiment.synthetic], "joint": [experiment.real, experiment.synthetic]}
    workers = _workers(config, entry)
    sampler: dict[str, Any] = {"type": "ShuffledSampler"}
    if experiment.regime == "joint" and experiment.balance == "exact":
        sampler = {"type": "BalancedSampler", "accumulate": accumulate}
    elif experiment.regime == "joint":
        sampler["repeat_real"] = True
    sampler |= {"batch_size": entry["batch_size"], "seed": experiment.train_seed}
    common = {"type": "PairListDataset", "classes": experiment.classes, "ignored": experiment.ignored}
    loading: dict[str, Any] = {"num_workers": 0, "persistent_workers": False}
    if workers:
        loading = {"num_workers": workers, "persistent_workers": True, "collate_fn": {"type": "collate_packed"}}
    training = {**loading, "worker_init_fn": {"type": "leave_sigterm_to_parent"}} if workers else loading
    train_dataset = {
        **common,
        "lists": lists.get(experiment.regime, [experiment.real]),
        "keep_decoded": entry.get("keep_decoded", False),
        "pipeline": _pipeline(train["dataset"]["pipeline"], experiment),
    }
    val_dataset = {
        **common, "lists": [experiment.validation], "test_mode": True,
        "pipeline": _pipeline(val["dataset"]["pipeline"], experiment),
    }  # fmt: skip
    test = {
        "batch_size": val["batch_size"], **loading,
        "sampler": {"type": "DefaultSampler", "shuffle": False}, "dataset": val_dataset,
    }  # fmt: skip
    evaluator = {"type": "PerClassIoU", "iou_metrics": ["mIoU"]}
    validation = {"val_dataloader": {**test, **training}, "val_evaluator": evaluator}
    return {
        "train_dataloader": {
            "batch_size": entry["batch_size"],
            **training,
            "sampler": sampler,
            "dataset": train_dataset,
        },
        **(validation if config["train_cfg"]["val_interval"] else {}),
        "test_dataloader": test,
        "test_evaluator": evaluator,
    }


def _workers(config: dict[str, Any], entry: dict[str, Any]) -> int:
    """Loading processes of each training process."""
    return entry.get("workers", config["train_dataloader"]["num_workers"])


def _pipeline(transforms: list[dict[str, Any]], experiment: Experiment) -> list[dict[str, Any]]:
    """Replace each annotation loader by one for raw labels, followed by the strict map to train ids."""
    made = []
    for transform in transforms:
        if transform["type"] == "LoadAnnotations":
            made.append({"type": "LoadAnnotations", "reduce_zero_label": False})
            made.append({"type": "RawToTrainIds", "classes": experiment.classes, "ignored": experiment.ignored})
        else:
            made.append(transform)
    return made


def _loops(config: dict[str, Any], entry: dict[str, Any], steps: int, accumulate: int) -> dict[str, Any]:
    """Training by iterations, with validation in between unless val_interval is 0."""
    interval = config["train_cfg"]["val_interval"] * accumulate
    kind = "LoadAheadTrainLoop" if _workers(config, entry) else "IterBasedTrainLoop"
    loops: dict[str, Any] = {"train_cfg": {"type": kind, "max_iters": steps}}
    if interval:
        loops["train_cfg"]["val_interval"] = interval
        loops["val_cfg"] = {"type": "ValLoop"}
    return loops | {"test_cfg": {"type": "TestLoop"}}


def _hooks(config: dict[str, Any], steps: int, accumulate: int, experiment: Experiment) -> dict[str, Any]:
    hooks = {name: config["default_hooks"][name] for name in ("timer", "logger", "param_scheduler", "checkpoint")}
    interval = min(hooks["checkpoint"]["interval"], CHECKPOINT_EVERY) * accumulate
    hooks["checkpoint"] |= {"type": "DurableCheckpoints", "interval": interval, "max_keep_ckpts": 2}
    hooks["logger"]["interval"] = min(hooks["logger"]["interval"], steps)  # the shortest training has a curve
    hooks["checkpoint"]["save_best"] = "mIoU" if config["train_cfg"]["val_interval"] else None
    name = f"{experiment.name}, train seed {experiment.train_seed}"
    return {
        "default_hooks": {**hooks, "sampler_seed": None},
        "custom_hooks": [
            {"type": "SeedEachIteration", "seed": experiment.train_seed},
            {"type": "RefuseNonFiniteLoss"},
            {"type": "CountTime"},
            {"type": "ProgressLines", "description": name},
            {"type": "SaveOnTerminate", "accumulate": accumulate},
            {"type": "RepeatValidation"},
        ],
    }
