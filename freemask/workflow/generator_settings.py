"""Settings of a generator that the schema can't check."""

from freemask.errors import InputError
from freemask.files import read_json
from freemask.generation.generators import GENERATORS
from freemask.generation.prompt import read_parts
from freemask.generation.schedulers import WHOLE_INTERVALS
from freemask.workflow.places import place


def check_generator(name: str, generator: dict, datasets: dict[str, dict]) -> None:
    """A generator's images, source, method and steps; datasets: facts of those that the run uses, by id.

    Raises: InputError naming the key, its value and what to do.
    """
    _check_images(f"generators.{name}", generator, datasets.get(generator["dataset"]))
    wanted = "training" if generator["source"] == "train" else "path"
    if wanted not in generator:
        raise InputError(f"generators.{name}: source {generator['source']} needs the key {wanted!r}; add it")
    if generator["source"] == "train":
        _check_generator_training(f"generators.{name}", generator, datasets)
    if generator.get("method", "freestyle") != "freestyle" and generator["source"] != "pipeline":
        raise InputError(
            f"generators.{name}: method {generator['method']} with source {generator['source']}; it takes source: "
            "pipeline, a folder that its own library saved, e.g. diffusers' StableDiffusionControlNetPipeline"
        )
    if generator["scheduler"] in WHOLE_INTERVALS and 1000 % generator["steps"]:
        raise InputError(
            f"generators.{name}.steps = {generator['steps']}: {generator['scheduler']} wants a divisor of the 1000"
            " noise levels, e.g. 20, 25, 40, 50"
        )
    if "sha256" in generator and generator.get("address", "").startswith("hf://"):
        raise InputError(f"generators.{name}.sha256: the commit in {generator['address']} pins it; leave sha256 out")


def _check_images(where: str, generator: dict, facts: dict | None) -> None:
    """A generator's size of images and parts of prompts; facts: of its data set, None if this run doesn't use it."""
    side, dataset = generator["image_size"], generator["dataset"]
    if facts and side != facts["mask_size"]:
        raise InputError(
            f"{where}.image_size = {side}, but {dataset} has mask_size {facts['mask_size']}; make them agree"
        )
    if side % (scale := _pixels_per_latent(generator)):
        raise InputError(
            f"{where}.image_size = {side}: its autoencoder wants a multiple of {scale}; change it and {dataset}'s "
            "mask_size"
        )
    if facts:
        try:
            read_parts(generator.get("prompt_parts", []), facts["label_space"].words_by_label())
        except InputError as error:
            raise InputError(f"{where}.prompt_parts: {error}") from None


def _pixels_per_latent(generator: dict) -> int:
    """Pixels of a side that become one latent: what a pipeline's autoencoder says, 8 of what is trained or converted.

    1, so any side, where that isn't known: of a plug-in, and of a pipeline that isn't there yet.
    """
    if generator.get("method", "freestyle") not in GENERATORS:
        return 1
    if generator["source"] != "pipeline":
        return 8
    vae = place(generator.get("path", "")) / "vae/config.json"
    return 2 ** (len(read_json(vae).get("block_out_channels", [0])) - 1) if vae.exists() else 1


def _check_generator_training(where: str, generator: dict, datasets: dict[str, dict]) -> None:
    """What a generator's training starts from, and its batches."""
    training, dataset = generator["training"], generator["dataset"]
    if ("init" in training) == ("stream" in training):
        raise InputError(f"{where}.training: give either init (a folder to fine-tune) or stream (the miniature)")
    if "stream" in training and dataset in datasets and "miniworld" not in datasets[dataset]:
        raise InputError(
            f"{where}.training.stream renders scenes of the miniature world, but the generator is for {dataset}; give "
            "init, the folder of a pipeline to fine-tune on its images"
        )
    parts = training.get("gradient_accumulation", 1)
    if training["batch_size"] % parts:
        raise InputError(
            f"{where}.training.gradient_accumulation = {parts}: want a divisor of batch_size = {training['batch_size']}"
        )
