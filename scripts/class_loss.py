"""One shard's loss of a trained segmentor on the real training images: mask_id, sums ("label:pixels:loss ...").

Cross-entropy in nats, from full-resolution logits at the images' own size, summed per image and class in float64.
gather_class_loss adds the shards up. A shard holds every n-th block of 32 rows of the index.
"""

import argparse
from pathlib import Path

from freemask import cli


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--config", type=Path, required=True, help="config.py of the segmentor")
    parser.add_argument("--weights", type=Path, required=True, help="weights.pth of the segmentor")
    parser.add_argument("--index", type=Path, required=True, help="table of real training pairs: mask_id, image, mask")
    parser.add_argument("--shard", default="1-of-1", help="which part of the index: i-of-n (default: all of it)")
    parser.add_argument("--classes", type=Path, required=True, help="class table: label, name, word, color")
    parser.add_argument("--ignored-label", type=int, required=True, help="raw label that means 'ignored'")
    parser.add_argument("--sums", type=Path, required=True, help="output: table of mask_id, sums")
    parser.add_argument("--batch-size", type=int, default=1, help="images of one size at once (default: 1)")
    parser.add_argument("--device", default="auto", help="cpu, cuda, ... (default: a GPU if there is one)")
    parser.add_argument("--threads", type=int, help="CPU threads, and threads that read (default: as torch likes, 2)")
    return parser


def main(arguments: argparse.Namespace) -> None:
    """Score the shard's pairs, write each one's sums as it comes."""
    from itertools import tee

    from freemask.data.label_space import LabelSpace
    from freemask.segmentation.inference import load_segmentor, pair_losses
    from freemask.segmentation.runner import pick_device, read_config
    from freemask.selection import class_loss

    device = pick_device(arguments.device, arguments.threads)
    labels = LabelSpace.read(arguments.classes, arguments.ignored_label)
    total = sum(1 for _ in class_loss.shard_rows(arguments.index, arguments.shard))
    model = load_segmentor(read_config(arguments.config), arguments.weights, device)
    rows, again = tee(class_loss.shard_rows(arguments.index, arguments.shard))
    pairs = ((image, mask) for _, image, mask in rows)
    losses = pair_losses(model, pairs, labels, arguments.batch_size, max(2, arguments.threads or 0))
    scored = cli.progress(zip(again, losses, strict=True), f"class loss {arguments.shard}", "image", total)
    sums = (
        (mask_id, class_loss.image_sums(loss.cpu().numpy(), train.cpu().numpy(), labels))
        for (mask_id, *_), (loss, train) in scored
    )
    class_loss.write_sums(arguments.sums, sums)


if __name__ == "__main__":
    cli.run(main, options().parse_args(), gpus=1)
