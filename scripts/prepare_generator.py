"""Prepare a generator's pipeline folder; see `prepare_generator`."""

from pathlib import Path
from typing import Literal

from freemask import cli
from freemask.errors import InputError


def prepare_generator(
    *,
    source: Literal["pipeline", "checkpoint", "train"],
    path: Path | None = None,
    method: str = "freestyle",
    sha256: str | None = None,
    pipeline: Path,
    weights: Path | None = None,
) -> None:
    """Make a generator's diffusers pipeline folder: model_index.json beside vae, text_encoder, unet, ...

    A pipeline folder is checked, then copied or linked. An original FreestyleNet checkpoint is converted, offline, with
    every key accounted for. The output folder is replaced as a whole when the new one is complete.

    Args:
        source: What `path` is: a pipeline's model_index.json (pipeline, train) or FreestyleNet's .ckpt or .safetensors.
        path: The file.
        method: Generator that the folder holds: freestyle, controlnet or package.module:Class.
        sha256: SHA-256 of a checkpoint; left out: any.
        pipeline: Output: model_index.json of the folder.
        weights: Output: JSON, SHA-256 of each weight file.
    """
    name = pipeline.parent.name
    if path is None or not path.is_file():
        raise InputError(
            f"generator {name}: nothing at --path {path or ''}; download it from the generator's address in the config "
            "(FreestyleNet's weights: github.com/essunny310/FreestyleNet) and give its path there, or train one "
            "(source: train)"
        )
    if sha256 and source != "checkpoint":
        raise InputError(f"--sha256 is of a checkpoint, but {path} is a {source}; leave it out")

    from freemask import plugins
    from freemask.files import write_json
    from freemask.generation.freestyle import checkpoint, loading
    from freemask.generation.generators import GENERATORS

    kind = plugins.find(GENERATORS, method, "generator method")
    with loading.replaced_folder(pipeline.parent) as folder:
        if source == "checkpoint":
            checkpoint.convert_checkpoint(path, folder, sha256, half=True)
        else:
            loading.adopt_pipeline(path.parent, folder, kind.load)
        cli.tell(f"generator {name}: from {path}")
    if weights:
        write_json(weights, loading.weights_sha256(pipeline.parent))


if __name__ == "__main__":
    cli.run(prepare_generator)
