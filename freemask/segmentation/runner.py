"""Training by mmengine's Runner, with checkpoints written atomically and loaded strictly."""

import copy
import os
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import broadcast_object_list, get_world_size, init_dist, is_main_process
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner

from freemask import files, plugins, watchdog
from freemask.errors import InputError
from freemask.segmentation import initial_weights
from freemask.segmentation.arithmetic import accelerate, keep_in_float32
from freemask.segmentation.experiments import acceleration
from freemask.segmentation.interruptions import latest_checkpoint, start_over
from freemask.segmentation.optimizers import adapt_state, merge_groups, with_fused_steps
from freemask.weights import refuse_emulated_bfloat16


class AtomicRunner(Runner):
    """A Runner that writes checkpoints under a temporary name first, loads weights strictly and launches less.

    Merged parameter groups and captured backbones aren't in the config: they don't change the update, and a changed
    config would start a training over.
    """

    def build_model(self, model: Any) -> torch.nn.Module:
        """Build the config's model, with parts in float32 that half precision would break."""
        built = super().build_model(model)
        keep_in_float32(built)
        return built

    def wrap_model(self, model_wrapper_cfg: dict | None, model: torch.nn.Module) -> torch.nn.Module:
        """Accelerate a training's steps, with the model on its device, and wrap it if there are several processes."""
        if self.cfg.get("optim_wrapper"):  # no evaluation
            model = model.to(get_device())
            accelerate(model, acceleration(self.cfg, get_world_size()), self.cfg)
        return super().wrap_model(model_wrapper_cfg, model)

    def build_optim_wrapper(self, optim_wrapper: Any) -> Any:
        """Build the config's optimizer, with fused steps and merged groups."""
        if not isinstance(optim_wrapper, OptimWrapper):
            optim_wrapper = copy.deepcopy(optim_wrapper)
            optim_wrapper["optimizer"] = with_fused_steps(optim_wrapper["optimizer"])
        built = super().build_optim_wrapper(optim_wrapper)
        merge_groups(built.optimizer.param_groups)
        return built

    def call_hook(self, fn_name: str, **arguments: Any) -> None:
        """Call the hooks of a point of the run, on every rank; each point is progress to the watchdog."""
        watchdog.beat(f"{fn_name}, iteration {getattr(self._train_loop, 'iter', 0)}")  # self.iter would build the loop
        super().call_hook(fn_name, **arguments)

    def save_checkpoint(self, out_dir: str, filename: str, *arguments: Any, **options: Any) -> None:
        """Save out_dir/filename, with a digest of the training's inputs: temporary name, fsync, rename.

        Raises: InputError for weights that aren't finite; no file is written.
        """
        refuse_non_finite(self.model, filename)
        options["meta"] = {**(options.get("meta") or {}), "inputs": self.cfg.inputs}
        temporary = Path(out_dir, f".{filename}.tmp")
        super().save_checkpoint(out_dir, temporary.name, *arguments, **options)
        if is_main_process():
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(Path(out_dir, filename))

    def _init_model_weights(self) -> None:
        """Initialise as mmengine does, then check that the initial weights arrived."""
        super()._init_model_weights()
        if given := self.cfg.get("initial_weights"):
            model = self.model.module if is_model_wrapper(self.model) else self.model
            initial_weights.refuse_unused(model.backbone, given["file"])

    def load_checkpoint(self, filename: str, map_location: Any = "cpu", strict: bool = True, **options: Any) -> dict:
        """Load weights; InputError names the file whose keys or shapes differ from the model's."""
        try:
            checkpoint = super().load_checkpoint(filename, map_location, strict, **options)
        except RuntimeError as error:
            raise InputError(f"{filename}: not the weights of this model; check the experiment ({error})") from None
        if "optimizer" in checkpoint and isinstance(self.optim_wrapper, OptimWrapper):
            adapt_state(checkpoint, self.optim_wrapper.optimizer)
        return checkpoint


def refuse_non_finite(model: torch.nn.Module, name: str) -> None:
    """Refuse to save weights that hold a NaN or an infinity: a gradient can have one where the loss is finite.

    Raises: InputError naming what was to be saved, and the first such parameter.
    """
    for key, value in model.state_dict().items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise InputError(
                f"{name}: not saved, {key} isn't finite; lower the learning rate, or train in fp32. The"
                " previous checkpoint is kept"
            )


def read_config(path: str | Path) -> Config:
    """Read a resolved config; mmengine then doesn't reformat its text at every checkpoint.

    Raises: InputError if it is missing or was made by an earlier version.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: no such config; run the rule training_config, or check the path")
    plugins.search_working_directory()  # for classes outside the package that the config names
    read = Config.fromfile(str(path))  # forgets format_python_code
    if "label_space" not in read.test_dataloader.dataset:
        raise InputError(f"{path}: made by an earlier version of this workflow; delete it and run again")
    return Config(read.to_dict(), cfg_text=read.text, filename=read.filename, format_python_code=False)


def inputs_digest(config: Config) -> str:
    """Digest of what a training depends on: config, label space, tables of pairs, weights it starts from."""
    data = config.train_dataloader.dataset
    paths = [config.filename, data.label_space, *data.lists, config.load_from]
    return files.digest([files.sha256(path) for path in paths if path])


def train(config: Config) -> dict[str, torch.Tensor]:
    """Train to the end, from the last readable checkpoint of the work folder if there is one.

    A process that torchrun started trains together with its others.

    Args: config: as read by `read_config`, is changed.
    Returns: the model's state_dict.
    """
    if config.optim_wrapper.type == "BFloat16OptimWrapper":
        refuse_emulated_bfloat16()
    distributed = "LOCAL_RANK" in os.environ  # torchrun's
    if distributed:
        _join(config.gpus)
    config.inputs = inputs_digest(config)
    # Only the first process searches and cleans the folder: other nodes may see an older state of it.
    found = [latest_checkpoint(config.work_dir, config.inputs) if is_main_process() else None]
    broadcast_object_list(found)
    if found[0] is not None:
        config.load_from, config.resume = str(found[0]), True
        config.model, config.initial_weights = initial_weights.without_initial_weights(config.model), None
    elif is_main_process():
        start_over(config.work_dir, config.inputs)
    if config.get("initial_weights"):
        initial_weights.verify(**config.initial_weights)
    config.launcher = "pytorch" if distributed else "none"
    if distributed and not torch.cuda.is_available():  # mmengine would name a GPU for the model
        config.model_wrapper_cfg = {"type": "MMDistributedDataParallel", "device_ids": None}
    runner = AtomicRunner.from_cfg(config)
    runner.train()
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    refuse_non_finite(model, "weights")
    return model.state_dict()


def _join(gpus: int) -> None:
    """Join the other processes of a training on so many GPUs."""
    if torch.cuda.is_available():
        init_dist("pytorch")
    else:  # mmengine's way takes a GPU
        torch.distributed.init_process_group("gloo")
    if (processes := get_world_size()) != gpus:
        raise InputError(f"{processes} process(es), but the config is for gpus {gpus}; start as many")


def pick_device(threads: int | None) -> str:
    """The device that a job computes on, a GPU where there is one; sets torch's CPU threads."""
    if threads:
        torch.set_num_threads(threads)
    return "cuda" if torch.cuda.is_available() else "cpu"
