"""Synthesize one shard of a plan; see `synthesize`."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from freemask import cli

Quality = Annotated[int, Parameter(validator=Number(gte=1, lte=100))]


def synthesize(
    *,
    plan: Path,
    shard: str,
    masks: Path,
    label_space: Path,
    generator: Path,
    method: str = "freestyle",
    scheduler: str = "plms",
    steps: cli.Positive = 50,
    guidance_scale: float = 2.0,
    image_size: cli.Positive,
    dtype: Literal["float32", "float16", "bfloat16"] = "float32",
    compile: Literal["auto", "always", "never"] = "auto",
    batch_size: cli.Positive = 8,
    jpeg_quality: Quality = 95,
    prompt_parts: cli.Json = (),
    images_dir: Path,
    manifest: Path,
    threads: cli.Positive = 1,
) -> None:
    """Synthesize one shard of a plan: images as JPEG, and the shard's manifest with mask_id, seed, image, sha256.

    Existing images are kept. A killed run loses at most the batch that it was making.

    Args:
        plan: Table of mask_id, seed (plan_synthesis).
        shard: Which part of the plan: i-of-n.
        masks: Table of mask_id, mask (resize_masks).
        label_space: Classes and ignored label (label_space.json).
        generator: model_index.json of the pipeline folder (prepare_generator).
        method: Generator that the folder holds: freestyle, controlnet or package.module:Class.
        scheduler: Sampler: plms, ddim, dpmsolver++ or package.module:Class.
        steps: Sampling steps.
        guidance_scale: Classifier-free guidance; 1 is none.
        image_size: Side of masks and images [pixels].
        dtype: Arithmetic of the networks.
        compile: Compile the networks with torch.compile, which takes a minute first; auto: where it pays.
        batch_size: Images per batch.
        jpeg_quality: 1..100.
        prompt_parts: Extra text in prompts, JSON: [{"text": ..., "label": ..., "seeds": [...]}, ...].
        images_dir: Output: folder of <subfolder>/<mask_id>-<seed>.jpg.
        manifest: Output: the shard's table.
        threads: CPU threads.
    """
    import os
    import random
    import time
    from functools import partial

    import torch

    from freemask import plugins
    from freemask.data.label_space import LabelSpace
    from freemask.generation import compilation
    from freemask.generation import shard as shards
    from freemask.generation.freestyle.loading import weights_sha256
    from freemask.generation.generators import GENERATORS, Sampling, load_generator
    from freemask.generation.prompt import read_parts
    from freemask.selection.plans import read_plan
    from freemask.stopping import Stop
    from freemask.tables import read_table, write_table
    from freemask.weights import refuse_emulated_bfloat16

    torch.set_num_threads(threads)
    space, kind = LabelSpace.read(label_space), plugins.find(GENERATORS, method, "generator method")
    if dtype == "bfloat16":
        refuse_emulated_bfloat16()
    settings = {
        "scheduler": scheduler,
        "steps": steps,
        "guidance_scale": guidance_scale,
        "image_size": image_size,
        "dtype": dtype,
        "batch_size": batch_size,
        "jpeg_quality": jpeg_quality,
        "weights_sha256": weights_sha256(generator.parent),
        "cpu_threads": None if torch.cuda.is_available() else threads,  # they change bytes on a CPU
    }
    planned = read_plan(plan)
    compiled = compilation.decide(compile, len(planned), shard, dtype, shards.settings_of_images(images_dir))
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(images_dir.resolve().parent / "compile_cache"))
    optional = {"prompt_parts": (list(prompt_parts), []), "kind": (method, "freestyle"), "compile": (compiled, False)}
    settings |= {key: value for key, (value, default) in optional.items() if value != default}
    paths = read_table(masks, ["mask_id", "mask"]).set_index("mask_id")["mask"].to_dict()
    requested = shards.requests(shards.shard_rows(planned, shard), paths, kind.class_settings(space), images_dir)
    sampling = Sampling(scheduler, steps, guidance_scale, read_parts(prompt_parts, space.words_by_label()))
    shards.claim_folder(images_dir, settings)
    load = partial(load_generator, method, generator.parent, space, sampling)
    first = partial(load, getattr(torch, dtype), compiled)
    maker = shards.Shard(first, None if dtype == "float32" else load, batch_size, jpeg_quality, image_size)
    # Shuffled, so that concurrent jobs whose plans share a folder rarely generate the same image.
    order = random.Random(str(manifest)).sample(requested, len(requested))
    started = time.monotonic()
    with Stop() as stop:
        made = maker.make(order, f"synthesize {shard}", stop)
        cli.tell(
            f"synthesize {shard}: {made} images made, {made / (time.monotonic() - started):.3g} images/s, "
            f"{len(requested) - made} were there"
        )
        write_table(manifest, shards.manifest(requested), counted=True)


if __name__ == "__main__":
    cli.run(synthesize, gpus=1)
