"""Synthetic images of one shard of the plan, as JPEG, and the shard's manifest: mask_id, seed, image, sha256.

Images that are there already are kept; a killed run loses at most the batch it was making.
"""

import argparse
import functools
import json
import random
from pathlib import Path

from freemask import cli


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--plan", type=Path, required=True, help="table of mask_id, seed (plan_synthesis)")
    parser.add_argument("--shard", required=True, help="which part of the plan: i-of-n")
    parser.add_argument("--masks", type=Path, required=True, help="table of mask_id, mask (resize_masks)")
    parser.add_argument("--classes", type=Path, required=True, help="class table: label, name, word, color")
    parser.add_argument("--ignored-label", type=int, required=True, help="raw label that means 'ignored'")
    parser.add_argument("--generator", type=Path, required=True, help="model_index.json of the pipeline folder")
    parser.add_argument("--kind", default="freestyle", help="freestyle (default) or controlnet: what that folder holds")
    parser.add_argument("--scheduler", default="plms", help="plms (default), ddim or dpmsolver++")
    parser.add_argument("--steps", type=int, default=50, help="sampling steps (default: 50)")
    parser.add_argument("--guidance-scale", type=float, default=2.0, help="classifier-free guidance (default: 2.0)")
    parser.add_argument("--image-size", type=int, required=True, help="side of masks and images [pixels]")
    parser.add_argument("--dtype", choices=["float32", "float16", "bfloat16"], default="float32")
    parser.add_argument("--compile", action="store_true", help="torch.compile: minutes first, then quicker")
    parser.add_argument("--batch-size", type=int, default=8, help="images per batch (default: 8)")
    parser.add_argument("--jpeg-quality", type=int, default=95, help="1..100 (default: 95)")
    parser.add_argument("--images-dir", type=Path, required=True, help="output: folder of <mask_id>/<seed>.jpg")
    parser.add_argument("--manifest", type=Path, required=True, help="output: the shard's table")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument(
        "--prompt-parts", type=json.loads, default=[], help='JSON: [{"text": ..., "label": ..., "seeds": [...]}, ...]'
    )
    return parser


def main(arguments: argparse.Namespace) -> None:
    """Find what is there, make what isn't, write the manifest."""
    import torch

    from freemask.data.label_space import LabelSpace
    from freemask.errors import InputError
    from freemask.generation.freestyle.loading import weights_sha256
    from freemask.generation.shard import Shard, claim_folder, manifest, requests, shard_rows
    from freemask.tables import read_table, write_table

    for name, low, high in (("batch_size", 1, 4096), ("jpeg_quality", 1, 100), ("threads", 1, 1024)):
        if not low <= getattr(arguments, name) <= high:
            raise InputError(f"--{name.replace('_', '-')} {getattr(arguments, name)}: want {low}..{high}")
    labels = LabelSpace.read(arguments.classes, arguments.ignored_label)
    words = dict(zip(labels.ids, labels.words, strict=True))
    if arguments.kind == "controlnet":  # there the palette shapes the image too, so another one makes it again
        words = {label: f"{words[label]} {color}" for label, color in zip(labels.ids, labels.colors, strict=True)}
    rows = shard_rows(read_table(arguments.plan, ["mask_id", "seed"]), arguments.shard)
    masks = read_table(arguments.masks, ["mask_id", "mask"]).set_index("mask_id")["mask"].to_dict()
    wanted = requests(rows, masks, words, arguments.images_dir)
    chosen = ("scheduler", "steps", "guidance_scale", "image_size", "dtype", "batch_size", "jpeg_quality")
    settings = {key: getattr(arguments, key) for key in chosen}
    settings["weights_sha256"] = weights_sha256(arguments.generator.parent)
    settings["cpu_threads"] = None if torch.cuda.is_available() else arguments.threads  # they change bytes on a CPU
    for key, usual in (("prompt_parts", []), ("kind", "freestyle"), ("compile", False)):
        if getattr(arguments, key) != usual:  # recorded where it is not what it was before there was a choice
            settings[key] = getattr(arguments, key)
    both = painters(arguments, labels)
    claim_folder(arguments.images_dir, settings)
    shard = Shard(*both, arguments.batch_size, arguments.jpeg_quality, arguments.image_size)
    # Plans that share a folder and are made at the same time paint little twice where each goes its own way through it.
    order = random.Random(str(arguments.manifest)).sample(wanted, len(wanted))
    made = shard.make(order, f"synthesize {arguments.shard}")
    cli.tell(f"synthesize {arguments.shard}: {made} images made, {len(wanted) - made} were there")
    write_table(arguments.manifest, manifest(wanted))


def painters(arguments: argparse.Namespace, labels):
    """Generators that are loaded when first used: in the chosen arithmetic, and in float32 for blank images."""
    import torch

    from freemask.generation.freestyle.prompt import read_parts
    from freemask.generation.generators import Generator, Sampling, check_arithmetic, load_generator, loader

    words = dict(zip(labels.ids, labels.words, strict=True))
    parts_of = read_parts(arguments.prompt_parts, words)
    sampling = Sampling(arguments.scheduler, arguments.steps, arguments.guidance_scale, parts_of)
    torch.set_num_threads(arguments.threads)
    dtype = getattr(torch, arguments.dtype)
    check_arithmetic(dtype, "cuda" if torch.cuda.is_available() else "cpu")
    loader(arguments.kind)  # a kind that there isn't is refused before any work

    def painter(dtype: torch.dtype, compiled: bool):
        @functools.cache  # only a shard that has something to make pays for loading
        def loaded():
            return load_generator(arguments.kind, arguments.generator.parent, labels, sampling, dtype, compiled)

        return Generator(lambda *given: loaded().prepare(*given), lambda prepared: loaded().paint(prepared))

    return painter(dtype, arguments.compile), None if dtype is torch.float32 else painter(torch.float32, False)


if __name__ == "__main__":
    cli.run(main, options().parse_args(), gpus=1)
