"""Resolve one training into an mmengine config; see `training_config`."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from freemask import cli, files, segmentation
from freemask.errors import InputError
from freemask.segmentation.regimes import REGIMES

Regime = Annotated[str, Parameter(help=f"What to train on: {', '.join(REGIMES)}, or package.module:object.")]


def training_config(
    *,
    settings: cli.Json,
    dataset: str,
    label_space: Path,
    regime: Regime,
    schedule: cli.Positive = 1,
    train: Path | None = None,
    synthetic: Path | None = None,
    val: Path,
    train_seed: cli.NotNegative,
    initial: Path | None = None,
    initial_weights: Path | None = None,
    gpus: cli.NotNegative = 0,
    precision: Literal["fp32", "fp16", "bf16"] = "fp32",
    balance: str = "exact",
    mask_size: cli.Positive | None = None,
    train_sizes: Path | None = None,
    val_sizes: Path | None = None,
    config: Path,
) -> None:
    """Resolve one training into an mmengine config: model, data, regime, schedule, seeds.

    Validation, class losses and filtering see images at the training's scale. Images that the model can't take are
    refused by name. Tables of pairs are named in the config, not read. Paths are written to it as given and must be
    relative.

    Args:
        settings: JSON of the model's entry of the models file.
        dataset: Id of the data set, picks the entry's iterations.
        label_space: JSON of the data set's classes.
        schedule: Multiple of the entry's iterations.
        train: Table of real training pairs: image, mask.
        synthetic: Table of synthetic training pairs: image, mask.
        val: Table of validation pairs: image, mask.
        train_seed: Seed of initialisation, order and augmentation.
        initial: Weights of a pre-training, for a regime that starts from one.
        initial_weights: Local copy of the initial weights in the model's entry (default: its url).
        gpus: Processes of one step, a divisor of the entry's number; 0 trains on the CPU.
        precision: Arithmetic of the forward passes.
        balance: Order of the pairs in a regime that mixes real and synthetic ones: exact halves in every mini-batch,
            repeat (real pairs repeated, as released), or a sampler package.module:object.
        mask_size: Side of synthetic images [pixels], for models whose sizes follow it.
        train_sizes: Table of the training images' sizes (check_dataset); default: they are unknown.
        val_sizes: Table of the validation images' sizes.
        config: Output; work/ will lie beside it.
    """
    from freemask.data.sizes import read_sizes
    from freemask.segmentation.config import Experiment, config_text, resolve

    paths = {
        "label_space": label_space,
        "real": train,
        "synthetic": synthetic,
        "validation": val,
        "work_dir": config.parent / "work",
        "initial": initial,
        "initial_weights": initial_weights,
    }
    for path in filter(None, paths.values()):
        if path.is_absolute():
            raise InputError(f"{path}: absolute; want it relative to the working directory")
    experiment = Experiment(
        name=config.parent.parent.name,
        dataset=dataset,
        regime=regime,
        schedule=schedule,
        train_seed=train_seed,
        gpus=gpus,
        precision=precision,
        balance=balance,
        mask_size=mask_size,
        train_sizes=read_sizes(train_sizes) if train_sizes else None,
        val_sizes=read_sizes(val_sizes) if val_sizes else None,
        **{name: path and str(path) for name, path in paths.items()},
    )
    files.write_atomic(config, config_text(resolve(settings, experiment)).encode())


if __name__ == "__main__":
    cli.run(training_config, hidden=segmentation.HIDDEN)
