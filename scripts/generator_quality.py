"""Quality of generators in numbers; see `generator_quality`."""

from pathlib import Path

from freemask import cli, segmentation


def generator_quality(
    *,
    real: Path,
    synthetic: list[Path],
    names: list[str],
    label_space: Path,
    config: Path,
    weights: Path,
    table: Path,
    threads: cli.Positive | None = None,
) -> None:
    """Rate generators by a segmentor that was trained on real images alone and scored no synthetic one.

    mIoU of its predictions on synthetic images against the masks that these were made from, and the kernel distance of
    its features between synthetic and real validation images. Half of the real images against the other half gives the
    numbers of a perfect generator.

    Args:
        real: Table of the validation images: image, mask.
        synthetic: Tables of image, mask, a generator's each.
        names: Names of the generators.
        label_space: Label space of the data set.
        config: config.py of the segmentor.
        weights: weights.pth of the segmentor.
        table: Output: table of generator, images, mIoU [%], kernel_distance.
        threads: CPU threads. Without it, PyTorch chooses.
    """
    import pandas as pd

    from freemask.data.label_space import LabelSpace
    from freemask.reporting.quality import Features, kernel_distance, mean_iou
    from freemask.segmentation.inference import load_segmentor, pair_losses
    from freemask.segmentation.runner import pick_device, read_config
    from freemask.tables import read_table, write_table

    space = LabelSpace.read(label_space)
    model = load_segmentor(read_config(config), weights, pick_device(threads))
    features = Features(model)
    rated = {}
    for name, path in zip(["real images", *names], [real, *synthetic], strict=True):
        rows = read_table(path, ["image", "mask"], only=True)
        scored = pair_losses(model, zip(rows["image"], rows["mask"], strict=True), space, predict=True)
        shown = cli.progress(scored, f"quality, {name}", "image", len(rows))
        pairs = ((pair.train, pair.prediction) for pair in shown)
        miou = mean_iou(pairs, len(space))
        rated[name] = {"images": len(rows), "mIoU": miou, "features": features.take()}
    reference = rated["real images"]["features"]
    for name, one in rated.items():
        mine = one.pop("features")
        halves = (reference[::2], mine[1::2] if name == "real images" else mine)
        one["kernel_distance"] = kernel_distance(*halves)
    found = pd.DataFrame([{"generator": name, **one} for name, one in rated.items()])
    write_table(table, found)
    cli.tell(f"{table}: {', '.join(f'{row.generator} {row.mIoU:.1f}' for row in found.itertuples())} mIoU")


if __name__ == "__main__":
    cli.run(generator_quality, gpus=1, hidden=segmentation.HIDDEN)
