"""Synthetic images of one shard of the plan, as JPEG, and the shard's manifest: mask_id, seed, image, sha256.

Images that are there already are kept; a killed run loses at most the batch it was making.
"""

import argparse
import json
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
    parser.add_argument("--scheduler", default="plms", help="plms (default), ddim or dpmsolver++")
    parser.add_argument("--steps", type=int, default=50, help="sampling steps (default: 50)")
    parser.add_argument("--guidance-scale", type=float, default=2.0, help="classifier-free guidance (default: 2.0)")
    parser.add_argument("--image-size", type=int, required=True, help="side of masks and images [pixels]")
    parser.add_argument("--dtype", choices=["float32", "float16", "bfloat16"], default="float32")
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

    from freemask.errors import InputError
    from freemask.files import read_table, write_table
    from freemask.freestyle.loading import weights_sha256
    from freemask.freestyle.shard import Shard, claim_folder, manifest, requests, shard_rows
    from freemask.labels import LabelSpace

    for name, low, high in (("batch_size", 1, 4096), ("jpeg_quality", 1, 100), ("threads", 1, 1024)):
        if not low <= getattr(arguments, name) <= high:
            raise InputError(f"--{name.replace('_', '-')} {getattr(arguments, name)}: want {low}..{high}")
    labels = LabelSpace.read(arguments.classes, arguments.ignored_label)
    words = dict(zip(labels.ids, labels.words, strict=True))
    rows = shard_rows(read_table(arguments.plan, ["mask_id", "seed"]), arguments.shard)
    masks = read_table(arguments.masks, ["mask_id", "mask"]).set_index("mask_id")["mask"].to_dict()
    wanted = requests(rows, masks, words, arguments.images_dir)
    chosen = ("scheduler", "steps", "guidance_scale", "image_size", "dtype", "batch_size", "jpeg_quality")
    settings = {key: getattr(arguments, key) for key in chosen}
    settings["weights_sha256"] = weights_sha256(arguments.generator.parent)
    settings["cpu_threads"] = None if torch.cuda.is_available() else arguments.threads  # they change bytes on a CPU
    if arguments.prompt_parts:
        settings["prompt_parts"] = arguments.prompt_parts
    both = painters(arguments, words)
    claim_folder(arguments.images_dir, settings)
    shard = Shard(*both, arguments.batch_size, arguments.jpeg_quality, arguments.image_size)
    made = shard.make(wanted, f"synthesize {arguments.shard}")
    cli.tell(f"synthesize {arguments.shard}: {made} images made, {len(wanted) - made} were there")
    write_table(arguments.manifest, manifest(wanted))


def painters(arguments: argparse.Namespace, words: dict[int, str]):
    """Functions (labels, mask ids, seeds) -> images: in the chosen arithmetic, and in float32 for blank images."""
    import torch

    from freemask.errors import InputError
    from freemask.freestyle.loading import load_pipeline
    from freemask.freestyle.prompt import read_parts

    parts_of = read_parts(arguments.prompt_parts, words)
    torch.set_num_threads(arguments.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = getattr(torch, arguments.dtype)
    if dtype is torch.bfloat16 and device == "cuda" and torch.cuda.get_device_capability()[0] < 8:
        name = torch.cuda.get_device_name()
        raise InputError(f"dtype bfloat16 needs compute capability 8.0, {name} has less; use float16 or float32")

    def painter(dtype: torch.dtype):
        loaded = []

        def paint(labels, names, seeds):
            if not loaded:  # only a shard that has something to make pays for loading
                loaded.append(load_pipeline(arguments.generator.parent, dtype).to(device))
                loaded[0].use_scheduler(arguments.scheduler)
            sampling = (arguments.ignored_label, arguments.steps, arguments.guidance_scale)
            return loaded[0](labels, words, names, seeds, *sampling, parts=[parts_of(seed) for seed in seeds])

        return paint

    return painter(dtype), None if dtype is torch.float32 else painter(torch.float32)


if __name__ == "__main__":
    cli.run(main, options().parse_args(), gpus=1)
