"""Import one evaluation of a finished run from its log: metrics.json (mIoU, mAcc, aAcc [%]) and per_class_iou.tsv.

Takes mmengine's text log or vis_data/scalars.json, or mmsegmentation 0.x's text log. metrics.json tells which
evaluation it is. A log without IoU per class gives a per_class_iou.tsv whose iou and acc are empty.
"""

import argparse
from pathlib import Path

from freemask import cli, files, tables


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--run", type=Path, required=True, help="the finished run's log")
    parser.add_argument(
        "--take", choices=["last", "best"], default="last", help="evaluation (default: at the run's end)"
    )
    parser.add_argument("--iterations", type=int, required=True, help="iterations of the whole run")
    parser.add_argument("--classes", type=Path, required=True, help="class table: label, name, word, color")
    parser.add_argument("--ignored-label", type=int, required=True, help="raw label that means 'ignored'")
    parser.add_argument("--metrics", type=Path, required=True, help="output: metrics.json")
    parser.add_argument("--per-class-iou", type=Path, required=True, help="output: per_class_iou.tsv")
    return parser


def main(arguments: argparse.Namespace) -> None:
    """Read, choose, write."""
    import numpy as np
    import pandas as pd

    from freemask.data.label_space import LabelSpace, refuse_other_classes
    from freemask.segmentation import run_logs

    labels = LabelSpace.read(arguments.classes, arguments.ignored_label)
    log = run_logs.read_log(arguments.run)
    chosen = run_logs.choose(log, arguments.iterations, arguments.take, arguments.run)
    if chosen.classes:
        refuse_other_classes([name for name, _, _ in chosen.classes], labels.names, arguments.run)
    columns = {
        key: [row[place] for row in chosen.classes] or np.full(len(labels), np.nan)
        for place, key in ((1, "iou"), (2, "acc"))
    }
    source = {"file": str(arguments.run), "sha256": files.sha256(arguments.run), "format": log.format}
    told = {"iterations": chosen.iteration, "checkpoint": f"imported log, {arguments.take}", "imported": source}
    told |= {"scales": None, "flip": None}  # a log doesn't tell
    tables.write_table(arguments.per_class_iou, pd.DataFrame({"label": labels.ids, "name": labels.names, **columns}))
    files.write_json(arguments.metrics, chosen.metrics | told)


if __name__ == "__main__":
    cli.run(main, options().parse_args())
