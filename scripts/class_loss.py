"""Loss of a trained segmentor on the real training images: one shard; see `class_loss`."""

from pathlib import Path

from freemask import cli, segmentation


def class_loss(
    *,
    config: Path,
    weights: Path,
    index: Path,
    shard: str = "1-of-1",
    label_space: Path,
    sums: Path,
    batch_size: cli.Positive = 1,
    threads: cli.Positive | None = None,
) -> None:
    """Sum the loss of a trained segmentor on real training images, per image and class: one shard.

    Cross-entropy [nats] from full-resolution logits at each image's own size, summed in float64. gather_class_loss
    adds the shards up. A shard holds every n-th block of 32 rows of the index.

    Args:
        config: config.py of the segmentor.
        weights: weights.pth of the segmentor.
        index: Table of real training pairs: mask_id, image, mask.
        shard: Part of the index, i-of-n.
        label_space: Label space of the data set.
        sums: Output: table of mask_id, sums ("label:pixels:loss label:pixels:loss ...").
        batch_size: Images of one size that are scored at once.
        threads: CPU threads, and threads that read images. Without it, PyTorch chooses and 2 threads read.
    """
    import pandas as pd

    from freemask.data.label_space import LabelSpace
    from freemask.segmentation.inference import load_segmentor, pair_losses
    from freemask.segmentation.runner import pick_device, read_config
    from freemask.selection.class_loss import image_sums, shard_rows
    from freemask.tables import read_table, write_table

    device = pick_device(threads)
    space = LabelSpace.read(label_space)
    rows = shard_rows(read_table(index, ["mask_id", "image", "mask"], only=True), shard)
    model = load_segmentor(read_config(config), weights, device)
    pairs = zip(rows["image"], rows["mask"], strict=True)
    losses = pair_losses(model, pairs, space, batch_size, max(2, threads or 0))
    scored = [
        image_sums(pair.loss.cpu().numpy(), pair.train.cpu().numpy(), space)
        for pair in cli.progress(losses, f"class loss {shard}", "image", len(rows))
    ]
    write_table(sums, pd.DataFrame({"mask_id": rows.mask_id, "sums": scored}), counted=True)


if __name__ == "__main__":
    cli.run(class_loss, gpus=1, hidden=segmentation.HIDDEN)
