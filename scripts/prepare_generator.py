"""The generator as a diffusers pipeline folder (model_index.json beside vae, text_encoder, unet, scheduler).

A folder that is one already is checked and linked or copied; an original FreestyleNet checkpoint is converted, offline,
every key accounted for. The output folder is replaced as a whole, once all of it is there.
"""

import argparse
from pathlib import Path

from freemask import cli


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--source", nargs="?", const="", default="", help="model_index.json, .ckpt or .safetensors")
    parser.add_argument("--kind", required=True, choices=["pipeline", "checkpoint", "train"], help="what --source is")
    parser.add_argument("--paints-as", default="freestyle", help="freestyle (default) or controlnet")
    parser.add_argument("--sha256", help="SHA-256 of a checkpoint (default: any)")
    parser.add_argument("--pipeline", type=Path, required=True, help="output: model_index.json of the folder")
    parser.add_argument("--weights", type=Path, help="output: JSON, SHA-256 of each weight file")
    return parser


def main(arguments: argparse.Namespace) -> None:
    """Check or convert, then replace the folder."""
    from freemask.errors import InputError
    from freemask.files import write_json

    if not Path(arguments.source).is_file():  # nothing given: the rule found nothing at the configured path
        raise InputError(
            f"generator {arguments.pipeline.parent.name}: nothing at --source {arguments.source!r}; download it from "
            "the generator's address in the config (FreestyleNet's weights: github.com/essunny310/FreestyleNet) and "
            "give its path there, or train one (source: train)"
        )
    source = Path(arguments.source)
    if arguments.sha256 and arguments.kind != "checkpoint":
        raise InputError(f"--sha256 is of a checkpoint, but {source} is of kind {arguments.kind}; leave it out")

    from freemask.generation.freestyle import checkpoint, loading
    from freemask.generation.generators import loader

    with loading.replaced_folder(arguments.pipeline.parent) as folder:
        if arguments.kind == "checkpoint":
            checkpoint.convert_checkpoint(source, folder, arguments.sha256, half=True)
        else:
            loading.adopt_pipeline(source.parent, folder, loader(arguments.paints_as))
        cli.tell(f"generator {arguments.pipeline.parent.name}: from {source}")
    if arguments.weights:
        write_json(arguments.weights, loading.weights_sha256(arguments.pipeline.parent))


if __name__ == "__main__":
    cli.run(main, options().parse_args())
