"""How a model is trained: its heads and initial weights, its optimizer, its schedule; as parts of an mmengine config.

Rules of the regimes: FreeMask (https://arxiv.org/abs/2310.15160), section on training, and its released configs.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from freemask.segmentation.config import Experiment


def initial_weights(entry: dict[str, Any], experiment: "Experiment") -> dict[str, Any] | None:
    """What the backbone starts from: {"file": path or address, a layout's prefix before it, "sha256": digest or None}.

    None where the entry has none, or finetune brings the whole model's weights.
    """
    weights = entry.get("initial_weights")
    if not weights or experiment.initial:
        return None
    where = experiment.initial_weights or weights.get("path") or weights["url"]
    layout = f"{weights['convert']}:" if "convert" in weights else ""
    return {"file": layout + where, "sha256": weights.get("sha256")}


def model(model: dict[str, Any], classes: int, entry: dict[str, Any], experiment: "Experiment") -> dict[str, Any]:
    """Set the number of classes and the initial weights (none where finetune brings the whole model's)."""
    heads = [model["decode_head"], *_listed(model.get("auxiliary_head"))]
    for head in heads:
        head["num_classes"] = classes
        if "loss_cls" in head:  # Mask2Former: the last weight is that of "no object"
            head["loss_cls"]["class_weight"] = [1.0] * classes + [0.1]
    weights = initial_weights(entry, experiment)
    where = weights["file"] if weights else None
    backbone = model["backbone"]
    in_backbone = "Pretrained" in str(backbone.get("init_cfg")) or (where and not model.get("pretrained"))
    if "pretrained" in model:
        model["pretrained"] = None if in_backbone else where
    if in_backbone:
        backbone["init_cfg"] = {"type": "Pretrained", "checkpoint": where} if where else None
    return model


def _listed(value: Any) -> list:
    return [] if value is None else value if isinstance(value, list) else [value]


def optimizer(wrapper: dict[str, Any], accumulate: int, experiment: "Experiment") -> dict[str, Any]:
    """Finetune: half the base rate, one rate for the whole model; weight-decay multipliers stay."""
    if experiment.regime == "finetune":
        wrapper["optimizer"]["lr"] /= 2
        for group in wrapper.get("paramwise_cfg", {}).get("custom_keys", {}).values():
            if "lr_mult" in group:  # set, not removed: the key also decides which weight decay a parameter gets
                group["lr_mult"] = 1.0
    if experiment.precision == "fp16":
        wrapper |= {"type": "AmpOptimWrapper", "dtype": "float16", "loss_scale": "dynamic"}
    elif experiment.precision == "bf16":  # has float32's range: nothing to scale
        wrapper |= {"type": "BFloat16OptimWrapper"}
    if accumulate > 1:
        wrapper["accumulative_counts"] = accumulate
    return wrapper


def schedule(
    config: dict[str, Any], steps: int, accumulate: int, entry: dict[str, Any], experiment: "Experiment"
) -> list[dict[str, Any]]:
    """Stretch the base schedule to `steps`; a warm-up becomes the entry's for this data set if it has one.

    The entry gives it for schedule 1 and 2; longer schedules continue the line.
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
    return config["param_scheduler"]
