"""Margin maps of one shard of synthetic images; see `measure_margins`."""

from pathlib import Path

from freemask import cli, segmentation


def measure_margins(
    *,
    shard: Path,
    masks: Path,
    class_loss: Path,
    label_space: Path,
    config: Path,
    weights: Path,
    margins_dir: Path,
    manifest: Path,
    batch_size: cli.Positive = 1,
    labels: bool = False,
    threads: cli.Positive | None = None,
) -> None:
    """Measure by which tolerance margins each pixel of a shard's synthetic images is filtered.

    A pixel of class j is filtered at alpha = k * 0.05 (loss > alpha * class_loss_j) if and only if its code in the
    8-bit margin map is k or more. Maps of the same image and mask that are there are kept, whichever plan or shard they
    were made for. A killed run loses at most the block that it was measuring.

    Args:
        shard: Shard of synthesize: mask_id, seed, image, sha256.
        masks: Table of mask_id, mask (resize_masks).
        class_loss: Class-wise mean loss of the same segmentor (gather_class_loss).
        label_space: Label space of the data set.
        config: config.py of the segmentor.
        weights: weights.pth of the segmentor.
        margins_dir: Output: folder of the packs of maps, <digest of scorer and class losses>/<number>.tar.
        manifest: Output: table of mask_id, seed, image, mask, margin (path in the packs of its folder), stamp (digest
            of the image and mask that the map was made from).
        batch_size: Images of one size that are scored at once.
        labels: Store the scorer's predictions in the maps, for filters that read them.
        threads: CPU threads, and threads that read and write files. Without it, PyTorch chooses and 2 threads read.
    """
    from freemask import packs
    from freemask.files import digest, sha256_of_input
    from freemask.filtering.shards import margin_maps
    from freemask.tables import write_table

    folder = margins_dir / digest([sha256_of_input(class_loss), sha256_of_input(weights), *["labels"] * labels])
    maps = margin_maps(shard, masks, folder)
    missing = maps[[place is None for place in packs.find(maps.margin.tolist(), maps.stamp.tolist())]]
    if len(missing):
        import torch

        from freemask.data.label_space import LabelSpace
        from freemask.filtering.scoring import margin_map, margin_png, thresholds
        from freemask.parallel import map_ahead
        from freemask.segmentation.inference import load_segmentor, pair_losses
        from freemask.segmentation.runner import pick_device, read_config
        from freemask.selection.class_loss import BLOCK, read_class_loss
        from freemask.stopping import Stop

        device, workers, space = pick_device(threads), max(2, threads or 0), LabelSpace.read(label_space)
        means = read_class_loss(class_loss, label_space=space)[list(space.ids)]
        limits = thresholds(torch.tensor(means)).to(device)
        model = load_segmentor(read_config(config), weights, device)
        pairs = zip(missing["image"], missing["mask"], strict=True)
        scored = pair_losses(model, pairs, space, batch_size, workers, fill=True, predict=labels)
        stored = (margin_map(*pair, limits=limits, label_space=space) for pair in scored)
        pngs = map_ahead(margin_png, stored, workers, 2 * workers)  # compressed while the next pairs are scored
        with Stop() as stop, packs.Writer(folder) as writer:
            shown = cli.progress(pngs, "measure margins", "image", len(missing))
            for number, (row, png) in enumerate(zip(missing.itertuples(), shown, strict=True), start=1):
                writer.add(Path(row.margin).name, row.stamp, png)
                if number % BLOCK == 0:
                    writer.save()
                    stop.saved = number
                    if stop.requested:
                        stop.end(f"{number} of {len(missing)} margin maps are saved")
    write_table(manifest, maps, counted=True)
    cli.tell(f"{manifest}: {len(missing)} margin maps measured, {len(maps) - len(missing)} were there")


if __name__ == "__main__":
    cli.run(measure_margins, gpus=1, hidden=segmentation.HIDDEN)
