"""Evaluate a trained segmentor on the validation set; see `evaluate`."""

from pathlib import Path
from typing import Literal

from freemask import cli, segmentation


def evaluate(
    *,
    config: Path,
    weights: Path,
    table: Path | None = None,
    checkpoint: Literal["last", "best", "imported"] = "last",
    scales: list[float] | None = None,
    flip: bool = False,
    metrics: Path,
    per_class_iou: Path,
    areas: Path | None = None,
    confusion: Path | None = None,
    predictions: list[Path] | None = None,
    threads: cli.Positive | None = None,
) -> None:
    """Evaluate a trained segmentor on the validation set, or on the images of another table.

    Makes metrics.json (mIoU, mAcc, aAcc [%]; of which checkpoint, how), per_class_iou.tsv (iou, acc [%]), the areas of
    each class in each image (pixels), a confusion matrix (pixels; rows: classes of the masks, columns: labels of the
    predictions) and predictions of a few images as palette PNGs of raw labels. The images are spread evenly over the
    validation table, the same ones for every segmentor.

    Args:
        config: Config of the training.
        weights: Weights of the training.
        table: Table of image, mask, e.g. of the test split (default: the validation table of the config).
        checkpoint: What the weights are.
        scales: Average over these scales (default: 1.0).
        flip: Average over each image and its mirror image.
        metrics: Output, JSON.
        per_class_iou: Output, table.
        areas: Output, image_areas.npz: intersection, union and truth of each image and class [pixels].
        confusion: Output, table.
        predictions: Outputs, a PNG per image to show.
        threads: CPU threads of torch (default: torch's choice).
    """
    import numpy as np

    from freemask.data.label_space import LabelSpace
    from freemask.files import write_atomic, write_json
    from freemask.images import png_bytes
    from freemask.segmentation import outputs
    from freemask.segmentation.areas import Areas, write_areas
    from freemask.segmentation.checkpoints import best_iterations
    from freemask.segmentation.evaluation import evaluate as run_evaluation
    from freemask.segmentation.runner import pick_device, read_config
    from freemask.tables import read_table

    pick_device(threads)
    settings = read_config(config)
    iterations = best_iterations(weights) if checkpoint == "best" else settings.experiment.iterations
    scales, predictions = scales or [1.0], predictions or []
    data = settings.test_dataloader.dataset
    if table:
        data.lists = [str(table)]
    label_space = LabelSpace.read(data.label_space)
    validation = read_table(data.lists[0], ["mask_id", "image", "mask"])
    images = validation["image"].tolist()
    shown = [images[position] for position in outputs.spread(len(images), len(predictions), data.lists[0])]
    found, evaluator = run_evaluation(settings, weights, images, shown, scales, flip)
    for path, image in zip(predictions, shown, strict=True):
        picture = png_bytes(label_space.to_raw(evaluator.predictions[image]), label_space.palette())
        write_atomic(path, picture)
    if confusion:
        outputs.write_confusion(confusion, evaluator.confusion, label_space)
    if areas:
        mask_ids = validation.set_index("image").mask_id[evaluator.paths].to_numpy()
        write_areas(areas, Areas(mask_ids, np.array(label_space.ids), **evaluator.areas))
    outputs.write_ious(per_class_iou, label_space, evaluator.per_class["iou"], evaluator.per_class["acc"])
    how = {"checkpoint": checkpoint, "iterations": iterations, "scales": scales, "flip": flip}
    write_json(metrics, {**found, "images": len(evaluator.paths), **how})
    experiment, seed = config.parent.parts[-2:]
    cli.tell(f"{experiment}, {seed}: mIoU {found['mIoU']:.2f} over {len(images)} images, {checkpoint} checkpoint")


if __name__ == "__main__":
    cli.run(evaluate, gpus=1, hidden=segmentation.HIDDEN)
