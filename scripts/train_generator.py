"""Train a mask-to-image generator; see `train_generator`."""

from pathlib import Path

from freemask import cli

CHANGES_NOTHING = ("workers", "checkpoint_every", "sample_every", "init_address")  # in the weights


def train_generator(
    *,
    settings: cli.Json,
    index: Path,
    label_space: Path,
    image_size: cli.Positive,
    folder: Path,
    threads: cli.Positive = 1,
) -> None:
    """Train a mask-to-image generator and save it as a diffusers pipeline folder.

    Without `init` in the settings the miniature is trained from scratch, autoencoder first, on a stream of scenes of
    the miniature world, which has none of its validation scenes. With `init`, the UNet of a Stable Diffusion 1.x folder
    is fine-tuned on the data set's real pairs.

    Args:
        settings: JSON: the generator's `training` entry of the configuration.
        index: Table of image, mask: the real training pairs.
        label_space: Classes and ignored label (label_space.json).
        image_size: Side of the images [pixels].
        folder: Output: pipeline/, weights.json, loss.jsonl, samples/, and the states to resume from.
        threads: CPU threads.
    """
    import torch
    from accelerate import PartialState

    from freemask.data.label_space import LabelSpace
    from freemask.files import sha256, write_json
    from freemask.generation.freestyle.loading import load_pipeline, save_pipeline, weights_sha256
    from freemask.generation.freestyle.miniature import begin_miniature
    from freemask.generation.freestyle.pairs import FilePairs
    from freemask.generation.freestyle.training import GeneratorTrainer, begin, sample_sheets, split_settings
    from freemask.stopping import Stop

    torch.set_num_threads(threads)
    space = LabelSpace.read(label_space)
    training, stream, autoencoder = split_settings(settings)
    made_by = {"settings": settings, "image_size": image_size, "classes": list(space.words)}
    decisive = {key: value for key, value in settings.items() if key not in CHANGES_NOTHING}
    made_from = made_by | {"settings": decisive, "labels": list(space.ids)}
    if stream is None:
        pipeline = load_pipeline(settings["init"])  # before `begin`: a folder that can't be loaded empties no training
        made_from |= {"index": sha256(index), "init": weights_sha256(Path(settings["init"]))}
    processes = PartialState(cpu=not torch.cuda.is_available())  # one, unless torchrun started more
    made_from |= {"processes": processes.num_processes, "order": "by position"}  # they determine a step's pairs
    with processes.main_process_first():
        begin(folder, made_from)
        if stream is not None:
            pipeline, pairs, examples = begin_miniature(folder, image_size, training.seed, stream, autoencoder)
    if stream is None:
        pairs = FilePairs(index, image_size)
        examples = [pairs[number][:2] for number in range(min(8, len(pairs)))]
    trainer = GeneratorTrainer(pipeline, space.words_by_label(), space.ignored, training, folder)
    with Stop() as stop:
        trainer.train(pairs, sample_sheets(pipeline, examples, space, folder), stop)
    if trainer.accelerator.is_main_process:
        save_pipeline(pipeline, folder / "pipeline")
        write_json(folder / "pipeline" / "training.json", made_by | {"commit": cli.commit()})
        write_json(folder / "weights.json", weights_sha256(folder / "pipeline"))


if __name__ == "__main__":
    cli.run(train_generator, gpus=1)
