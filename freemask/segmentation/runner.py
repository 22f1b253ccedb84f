"""mmengine's Runner with checkpoints that are whole or not there, and strict loads."""

import errno
import os
import pickle
import re
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import broadcast_object_list, init_dist, is_main_process
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from freemask import files
from freemask.errors import InputError
from freemask.segmentation import initial_weights as initial
from freemask.segmentation.optimizers import refuse_slow_bfloat16
from freemask.segmentation.timing import start_over


class AtomicRunner(Runner):
    """A Runner that writes checkpoints under a temporary name first and loads weights strictly."""

    def save_checkpoint(self, out_dir: str, filename: str, *arguments: Any, **options: Any) -> None:
        """Save out_dir/filename, with what the run was made from: temporary name, fsync, rename.

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
        """Initialise as mmengine does, then see whether the initial weights arrived."""
        super()._init_model_weights()
        if given := self.cfg.get("initial_weights"):
            model = self.model.module if is_model_wrapper(self.model) else self.model
            initial.refuse_unused(model.backbone, given["file"])

    def load_checkpoint(self, filename: str, map_location: Any = "cpu", strict: bool = True, **options: Any) -> dict:
        """Load weights; InputError names the file whose keys or shapes differ from the model's."""
        try:
            return super().load_checkpoint(filename, map_location, strict, **options)
        except RuntimeError as error:
            raise InputError(f"{filename}: not the weights of this model; check the experiment ({error})") from None


def refuse_non_finite(model: torch.nn.Module, name: str) -> None:
    """Refuse to save weights that hold a NaN or an infinity: a gradient can have one where the loss is finite.

    Raises: InputError naming what was to be saved, and the first such parameter.
    """
    for key, value in model.state_dict().items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise InputError(
                f"{name}: not saved, {key} isn't finite any more; lower the learning rate, or train in fp32. The"
                " checkpoint before is still there"
            )


def inputs_digest(config: Config) -> str:
    """Digest of what a training depends on: config, class table, tables of pairs, weights it starts from.

    The tables hold what tells files of one name apart (SHA-256 of synthetic images and of masks, sizes of real images).
    """
    data = config.train_dataloader.dataset
    paths = [config.filename, data.classes, *data.lists, *([config.load_from] if config.load_from else [])]
    return files.digest([files.sha256(path) for path in paths])


def latest_checkpoint(work_dir: str | Path, inputs: str) -> Path | None:
    """The checkpoint iter_<n>.pth of the highest n that can be read and was made from `inputs`; others are removed.

    Returns: its path, or None where there is none.
    """
    numbered = [(int(match[1]), path) for path in Path(work_dir).glob("iter_*.pth") if (match := _number(path))]
    for _, path in sorted(numbered, reverse=True):
        try:
            checkpoint = torch.load(path, map_location="cpu", weights_only=False, mmap=True)
        except (RuntimeError, OSError, EOFError, pickle.UnpicklingError) as error:
            if isinstance(error, OSError) and error.errno != errno.EINVAL:  # EINVAL: cut off; else a bad moment
                raise
            print_log(f"{path}: damaged checkpoint removed ({error})", logger="current")
        else:
            if checkpoint["meta"].get("inputs") == inputs:
                return path
            print_log(f"{path}: checkpoint of another config or other tables removed", logger="current")
        path.unlink(missing_ok=True)
    return None


def _number(path: Path) -> re.Match | None:
    return re.fullmatch(r"iter_(\d+)\.pth", path.name)


def read_config(path: str | Path) -> Config:
    """Read a resolved config; mmengine then doesn't reformat its text at every checkpoint.

    Raises: InputError where there is none.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: no such config; run the rule training_config, or check the path")
    read = Config.fromfile(str(path))  # forgets format_python_code
    return Config(read.to_dict(), cfg_text=read.text, filename=read.filename, format_python_code=False)


def train(config: Config, launcher: str) -> dict[str, torch.Tensor]:
    """Train to the end, from the last readable checkpoint of the work folder if there is one.

    Args: config: as written by freemask.training; launcher: none, pytorch (torchrun) or slurm (srun).
    Returns: the model's weights, on the CPU.
    """
    if config.optim_wrapper.type == "BFloat16OptimWrapper":
        refuse_slow_bfloat16()
    processes = _join(launcher)
    if launcher != "none" and processes != config.gpus:
        raise InputError(f"{processes} process(es), but the config is for gpus {config.gpus}; start as many")
    config.inputs = inputs_digest(config)
    # One process looks and tidies up: on several nodes, others may see an older state of the folder.
    chosen = [latest_checkpoint(config.work_dir, config.inputs) if is_main_process() else None]
    broadcast_object_list(chosen)
    if chosen[0] is not None:
        config.load_from, config.resume = str(chosen[0]), True
        config.model, config.initial_weights = without_initial_weights(config.model), None
    elif is_main_process():
        start_over(config.work_dir, config.inputs)
    if config.get("initial_weights"):
        initial.verify(**config.initial_weights)
    config.launcher = launcher
    if launcher != "none" and not torch.cuda.is_available():  # mmengine would name a GPU for the model
        config.model_wrapper_cfg = {"type": "MMDistributedDataParallel", "device_ids": None}
    runner = AtomicRunner.from_cfg(config)
    runner.train()
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    refuse_non_finite(model, "weights")
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}


def remove_checkpoints(work_dir: str | Path) -> None:
    """Remove what a finished run no longer resumes from; logs stay."""
    for pattern in ("iter_*.pth", "best_*.pth", ".*.pth.tmp"):  # the last: what a kill left half-written
        for path in Path(work_dir).glob(pattern):
            path.unlink(missing_ok=True)


def _join(launcher: str) -> int:
    """Join the other processes, on a CPU without mmengine, whose way wants a GPU; their number."""
    if launcher == "none":
        return 1
    if launcher == "pytorch" and not torch.cuda.is_available():
        torch.distributed.init_process_group("gloo")
    else:
        init_dist(launcher)
    return int(os.environ["WORLD_SIZE" if launcher == "pytorch" else "SLURM_NTASKS"])


def without_initial_weights(model: Any) -> Any:
    """A model config that fetches no initial weights, for a model whose weights are loaded whole."""
    if model.get("pretrained"):
        model.pretrained = None
    if "Pretrained" in str(model.backbone.get("init_cfg")):
        model.backbone.init_cfg = None
    return model


def pick_device(name: str, threads: int | None) -> str:
    """A torch device: `name`, or for auto a GPU where there is one; sets torch's CPU threads."""
    if threads:
        torch.set_num_threads(threads)
    if name != "auto":
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"
