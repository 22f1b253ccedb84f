"""The authors' numbers (config/reported.yaml) beside ours."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from freemask.errors import InputError
from freemask.files import own_id


def read_all_reported(path: str | Path) -> dict[str, Any]:
    """Read the authors' numbers.

    Raises: InputError if the file isn't there or isn't YAML.
    """
    try:
        return yaml.safe_load(Path(path).read_text()) or {}
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the path of the reported numbers") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not YAML ({error})") from None


def reported_logs(reported: dict[str, Any], dataset: str) -> dict[str, dict[str, Any]]:
    """The authors' logs of joint trainings (on ADE20K unless said) by model: hours, gpu_hours, last, perhaps best mIoU.

    A training took cost.training_gpus unless its log says `gpus`.
    """
    gpus, logs = reported.get("cost", {}).get("training_gpus", 0), reported.get("logs", [])
    logs = [row | {"gpu_hours": row["hours"] * row.get("gpus", gpus)} for row in logs]
    return {row["model"]: row for row in logs if row.get("dataset", "ade20k") == own_id(dataset)}


def add_reported(summary: pd.DataFrame, reported: list[dict], synthetic_set: str | None) -> pd.DataFrame:
    """Add the authors' numbers: reported_mIoU and reported_gain, NaN where they give none.

    They belong to the real baseline (schedule 1) and to joint training (schedule 2, as theirs was).

    Args:
        summary: Made by `summarize`.
        reported: Rows with the keys model, real, joint [mIoU, percent].
        synthetic_set: The only set whose joint training is compared with theirs, so that ablations aren't; None: any.
    """
    of_model = pd.DataFrame(reported, columns=["model", "real", "joint"]).set_index("model").reindex(summary.model)
    real, joint = of_model.real.to_numpy(float), of_model.joint.to_numpy(float)
    is_real = (summary.regime == "real") & (summary.schedule == 1)
    is_joint = (summary.regime == "joint") & (summary.schedule == 2)
    is_joint &= synthetic_set in (None, "") or summary.synthetic_set == synthetic_set
    miou = np.select([is_real, is_joint], [real, joint], math.nan)
    return summary.assign(reported_mIoU=miou, reported_gain=np.where(is_joint, joint - real, math.nan))


def describe_synthetic_only(reported: dict[str, dict[str, float]], dataset: str) -> str:
    """The authors' numbers of training on synthetic images alone, for the table's note; "" if they give none.

    Args:
        reported: real and synthetic [mIoU, percent] of each data set; the paper's abstract doesn't name the model.
        dataset: Id of the data set.
    """
    if dataset not in reported:
        return ""
    found = reported[dataset]
    return (
        f"Authors, of a model that the abstract doesn't name: {found['synthetic']:.1f} trained on synthetic images"
        f" alone, {found['real']:.1f} on real images."
    )
