"""Samplers of diffusion models, by name. A new one is an entry of SCHEDULERS."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from freemask import plugins

if TYPE_CHECKING:
    from diffusers import SchedulerMixin

SCHEDULERS = {  # class and options
    "plms": ("diffusers:PNDMScheduler", {"skip_prk_steps": True, "set_alpha_to_one": False}),
    "ddim": ("diffusers:DDIMScheduler", {"clip_sample": False, "set_alpha_to_one": False}),
    "dpmsolver++": ("diffusers:DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "solver_order": 2}),
}
WHOLE_INTERVALS = ("plms", "ddim")  # steps must divide the 1000 noise levels, or the noisiest are left out
# The reference's settings. Images differ by 1e-2 and more with others.
DIFFUSION = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.0120,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
    "timestep_spacing": "leading",
}
# What a model is trained with.
TRAINED = ("prediction_type", "num_train_timesteps", "beta_start", "beta_end", "beta_schedule")


def make_scheduler(name: str, prediction_type: str = "epsilon", **noise: object) -> "SchedulerMixin":
    """Make a sampler: a name of SCHEDULERS (plms is the paper's), or "package.module:Class".

    Args: prediction_type: epsilon or v_prediction; noise: settings of DIFFUSION that a model was trained with.
    Raises: InputError for an unknown name.
    """
    path, options = SCHEDULERS.get(name, (name, {}))
    kind = plugins.find(SCHEDULERS, path, "scheduler")
    return kind(**DIFFUSION | noise, **options, prediction_type=prediction_type)


def other_scheduler(name: str, own: Mapping[str, Any]) -> "SchedulerMixin":
    """Make a sampler with the noise levels and the prediction type in the config of a model's own sampler."""
    return make_scheduler(name, **{key: own[key] for key in TRAINED if key in own})
