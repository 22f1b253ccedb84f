"""Import one evaluation of a finished run from its log; see `import_log`."""

from pathlib import Path
from typing import Literal

from freemask import cli


def import_log(
    *,
    run: Path,
    take: Literal["last", "best"] = "last",
    iterations: cli.Positive,
    label_space: Path,
    metrics: Path,
    per_class_iou: Path,
) -> None:
    """Import one evaluation of a finished run from its log: metrics.json (mIoU, mAcc, aAcc [%]) and per_class_iou.tsv.

    Takes mmengine's text log or vis_data/scalars.json, or mmsegmentation 0.x's text log. metrics.json says which
    evaluation it is. A log without IoU per class gives a per_class_iou.tsv with empty iou and acc.

    Args:
        run: The finished run's log.
        take: Evaluation at the run's end, or the one of the highest mIoU.
        iterations: Iterations of the whole run.
        label_space: JSON of the data set's classes.
        metrics: Output, JSON.
        per_class_iou: Output, table.
    """
    import math

    from freemask.data.label_space import LabelSpace, refuse_other_classes
    from freemask.files import sha256, write_json
    from freemask.segmentation.outputs import write_ious
    from freemask.segmentation.run_logs import choose, read_log

    space = LabelSpace.read(label_space)
    log = read_log(run)
    chosen = choose(log, iterations, take, run)
    if chosen.classes:
        refuse_other_classes([name for name, _, _ in chosen.classes], space.names, run)
    rows = chosen.classes or [(name, math.nan, math.nan) for name in space.names]
    write_ious(per_class_iou, space, [iou for _, iou, _ in rows], [acc for _, _, acc in rows])
    source = {"file": str(run), "sha256": sha256(run), "format": log.format}
    unknown = {"scales": None, "flip": None}  # logs don't say how images were predicted
    how = {"iterations": chosen.iteration, "checkpoint": f"imported log, {take}", "imported": source}
    write_json(metrics, chosen.metrics | how | unknown)


if __name__ == "__main__":
    cli.run(import_log)
