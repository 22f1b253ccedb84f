"""A mask-to-image generator trained here: a diffusers pipeline folder with its settings beside the weights.

Without `init` in the settings the miniature is trained from scratch, autoencoder first, on a stream of scenes of the
miniature world (never its validation scenes); with it, the UNet of a Stable Diffusion 1.x folder is fine-tuned on the
data set's real pairs.
"""

import argparse
import json
from pathlib import Path

from freemask import cli

CHANGES_NOTHING = ("workers", "checkpoint_every", "sample_every", "init_address")  # in a training that was begun


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--settings", type=json.loads, required=True, help="JSON: the generator's `training` entry")
    parser.add_argument("--index", type=Path, required=True, help="table of image, mask: the real training pairs")
    parser.add_argument("--classes", type=Path, required=True, help="class table: label, name, word, color")
    parser.add_argument("--ignored-label", type=int, required=True, help="raw label that means 'ignored'")
    parser.add_argument("--image-size", type=int, required=True, help="side of the images [pixels]")
    parser.add_argument(
        "--folder", type=Path, required=True, help="output: pipeline/, weights.json, loss.jsonl, samples/"
    )
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    return parser


def main(arguments: argparse.Namespace) -> None:
    """Build or load the pipeline, train it, save it, list its weights."""
    import torch
    from accelerate import PartialState

    from freemask.data.label_space import LabelSpace
    from freemask.files import sha256, write_json
    from freemask.generation.freestyle.loading import load_pipeline, save_pipeline, weights_sha256
    from freemask.generation.freestyle.pairs import FilePairs
    from freemask.generation.freestyle.training import GeneratorTrainer, begin

    torch.set_num_threads(arguments.threads)
    labels = LabelSpace.read(arguments.classes, arguments.ignored_label)
    settings, stream, autoencoder = split_settings(arguments.settings)
    made_by = {"settings": arguments.settings, "image_size": arguments.image_size, "classes": list(labels.words)}
    kept = {key: value for key, value in arguments.settings.items() if key not in CHANGES_NOTHING}
    made_from = made_by | {"settings": kept, "labels": list(labels.ids)}
    if stream is None:
        pipeline = load_pipeline(arguments.settings["init"])  # what can't be loaded must not empty the folder
        made_from |= {"index": sha256(arguments.index), "init": weights_sha256(Path(arguments.settings["init"]))}
    processes = PartialState(cpu=not torch.cuda.is_available())  # one, unless somebody starts it through torchrun
    made_from |= {"processes": processes.num_processes, "order": "by position"}  # what a step's pairs follow from
    with processes.main_process_first():
        begin(arguments.folder, made_from)
        if stream is not None:
            pipeline, pairs, examples = miniature(arguments, settings, stream, autoencoder)
    if stream is None:
        pairs = FilePairs(arguments.index, arguments.image_size)
        examples = [pairs[index][:2] for index in range(min(8, len(pairs)))]
    words = dict(zip(labels.ids, labels.words, strict=True))
    trainer = GeneratorTrainer(pipeline, words, labels.ignored, settings, arguments.folder)
    trainer.train(pairs, sample=sampler(pipeline, examples, labels, arguments.folder))
    if trainer.accelerator.is_main_process:
        save_pipeline(pipeline, arguments.folder / "pipeline")
        write_json(arguments.folder / "pipeline" / "training.json", made_by | {"commit": cli.commit()})
        write_json(arguments.folder / "weights.json", weights_sha256(arguments.folder / "pipeline"))


def split_settings(settings: dict):
    """The entry's parts: TrainingSettings, stream facts or None, AutoencoderSettings or None."""
    from freemask.errors import InputError
    from freemask.generation.freestyle.autoencoder import AutoencoderSettings
    from freemask.generation.freestyle.training import TrainingSettings

    others = ("stream", "autoencoder", "init", "init_address")
    plain = {key: value for key, value in settings.items() if key not in others}
    if ("init" in settings) == ("stream" in settings):
        raise InputError("generator training: give either init (fine-tune a folder) or stream (the miniature)")
    autoencoder = settings.get("autoencoder")
    if autoencoder is not None:
        autoencoder = AutoencoderSettings(**autoencoder, seed=settings["seed"])
    return TrainingSettings(**plain), settings.get("stream"), autoencoder


def miniature(arguments: argparse.Namespace, settings, stream: dict, autoencoder):
    """The miniature pipeline with a trained autoencoder, its stream of pairs, and eight of them as pictures."""
    import torch

    from freemask.data.miniworld.dataset import render_stream
    from freemask.generation.freestyle.autoencoder import encode_stream, train_autoencoder
    from freemask.generation.freestyle.loading import replaced_folder
    from freemask.generation.freestyle.miniature import build_miniature
    from freemask.generation.freestyle.pairs import LatentPairs

    size = arguments.image_size
    images, labels = render_stream(stream["scenes"], stream["seed"], size, stream["missing"])
    pipeline = build_miniature(size, settings.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    pipeline.vae.to(device)
    finished = arguments.folder / "autoencoder"
    if (finished / "config.json").exists():  # an interrupted run goes on with the UNet
        pipeline.register_modules(vae=type(pipeline.vae).from_pretrained(finished, use_safetensors=True).to(device))
    else:
        train_autoencoder(pipeline.vae, images, autoencoder, device)
        with replaced_folder(finished) as made:
            pipeline.vae.save_pretrained(made)
    latents = encode_stream(pipeline.encode_images, images, device, settings.seed)
    return pipeline, LatentPairs(latents, labels), list(zip(images[:8], labels[:8], strict=True))


def sampler(pipeline, examples, labels, folder: Path):
    """A function that paints the examples' masks: rows of mask, real image, synthetic images of three seeds."""
    import numpy as np

    from freemask.files import write_atomic
    from freemask.images import png_bytes

    masks = np.stack([mask for _, mask in examples])
    words = dict(zip(labels.ids, labels.words, strict=True))

    def paint(step: int) -> None:
        pipeline.forget_contexts()
        columns = [np.stack([labels.colorize(mask) for mask in masks]), np.stack([image for image, _ in examples])]
        for seed in range(3):
            names = [f"sample{index}" for index in range(len(masks))]
            columns.append(pipeline(masks, words, names, [seed] * len(masks), labels.ignored, steps=20))
        sheet = np.concatenate([column.reshape(-1, *column.shape[2:]) for column in columns], axis=1)
        write_atomic(folder / "samples" / f"step-{step}.png", png_bytes(sheet))
        pipeline.forget_contexts()

    return paint


if __name__ == "__main__":
    cli.run(main, options().parse_args(), gpus=1)
