"""Class-wise mean loss of a trained segmentor on the real training images: label, name, loss_sum, pixels, class_loss.

Losses in nats, from full-resolution logits at the images' own size; class_loss = loss_sum / (pixels + 1e-5), 0 for a
class without pixels.
"""

import argparse
from pathlib import Path

from freemask import cli, files


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--config", type=Path, required=True, help="config.py of the segmentor")
    parser.add_argument("--weights", type=Path, required=True, help="weights.pth of the segmentor")
    parser.add_argument("--index", type=Path, required=True, help="table of real training pairs: image, mask")
    parser.add_argument("--classes", type=Path, required=True, help="class table: label, name, word, color")
    parser.add_argument("--ignored-label", type=int, required=True, help="raw label that means 'ignored'")
    parser.add_argument("--class-loss", type=Path, required=True, help="output: class_loss.tsv")
    parser.add_argument("--batch-size", type=int, default=1, help="images of one size at once (default: 1)")
    parser.add_argument("--device", default="auto", help="cpu, cuda, ... (default: a GPU if there is one)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: as torch likes)")
    return parser


def main(arguments: argparse.Namespace) -> None:
    """Sum losses per class over all pairs and write the table."""
    import pandas as pd

    from freemask.labels import LabelSpace
    from freemask.scoring import ClassSums
    from freemask.segmentation.inference import load_segmentor, pair_losses
    from freemask.segmentation.runner import pick_device, read_config

    device = pick_device(arguments.device, arguments.threads)
    labels = LabelSpace.read(arguments.classes, arguments.ignored_label)
    table = files.read_table(arguments.index, ["image", "mask"])
    pairs = list(zip(table["image"], table["mask"], strict=True))
    model = load_segmentor(read_config(arguments.config), arguments.weights, device)
    sums = ClassSums(len(labels))
    losses = pair_losses(model, pairs, labels, arguments.batch_size)
    for loss, train in cli.progress(losses, "class loss", "image", len(pairs)):
        sums.add(loss, train)
    columns = {"loss_sum": sums.loss, "pixels": sums.pixels, "class_loss": sums.mean()}
    made = pd.DataFrame({"label": labels.ids, "name": labels.names, **{k: v.numpy() for k, v in columns.items()}})
    files.write_table(arguments.class_loss, made)


if __name__ == "__main__":
    cli.run(main, options().parse_args(), gpus=1)
