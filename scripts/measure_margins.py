"""Measure by which alphas each synthetic pixel of one shard is filtered: 8-bit margin maps and their manifest.

A pixel of class j with loss l is filtered at alpha = k * 0.05 (l > alpha * class_loss_j) if and only if its code is k
or more. Maps: <margins-dir>/<digest of scorer and class losses>/<mask_id>/<seed>.png. Maps that are there and were
made from the same image and mask are kept. Manifest: mask_id, seed, image, mask, margin, and image_sha256, mask_sha256
of what a map was made from.
"""

import argparse
from pathlib import Path

from freemask import cli, files, tables


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--shard", type=Path, required=True, help="shard of mask_id, seed, image, sha256 (synthesize)")
    parser.add_argument("--masks", type=Path, required=True, help="table of mask_id, mask (resize_masks)")
    parser.add_argument("--class-loss", type=Path, required=True, help="class_loss.tsv of the same segmentor")
    parser.add_argument("--config", type=Path, required=True, help="config.py of the segmentor")
    parser.add_argument("--weights", type=Path, required=True, help="weights.pth of the segmentor")
    parser.add_argument("--classes", type=Path, required=True, help="class table: label, name, word, color")
    parser.add_argument("--ignored-label", type=int, required=True, help="raw label that means 'ignored'")
    parser.add_argument("--margins-dir", type=Path, required=True, help="output: folder of the maps")
    parser.add_argument("--manifest", type=Path, required=True, help="output: mask_id, seed, image, mask, margin, ...")
    parser.add_argument("--batch-size", type=int, default=1, help="images of one size at once (default: 1)")
    parser.add_argument("--device", default="auto", help="cpu, cuda, ... (default: a GPU if there is one)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: as torch likes)")
    return parser


def main(arguments: argparse.Namespace) -> None:
    """Measure what isn't there yet and write the manifest."""
    from freemask.filtering.margins import is_current, mask_digests, stamps

    shard = join_masks(arguments).rename(columns={"sha256": "image_sha256"})
    shard["mask_sha256"] = mask_digests(shard)
    scorer = [files.sha256_of_input(path) for path in (arguments.class_loss, arguments.weights)]
    folder = arguments.margins_dir / files.digest(scorer)
    shard["margin"] = [str(folder / row.mask_id / f"{row.seed}.png") for row in shard.itertuples()]
    shard["stamp"] = stamps(shard)
    current = [is_current(row.margin, row.stamp) for row in shard.itertuples()]
    missing = shard[[not there for there in current]]
    if len(missing):
        measure(missing, arguments)
    columns = ["mask_id", "seed", "image", "mask", "margin", "image_sha256", "mask_sha256"]
    tables.write_table(arguments.manifest, shard[columns])
    cli.tell(f"{arguments.manifest}: {len(missing)} margin maps measured, {sum(current)} were there")


def join_masks(arguments: argparse.Namespace):
    """The shard's rows with their mask's path; InputError for a mask that the table doesn't hold."""
    from freemask.errors import InputError

    shard = tables.read_table(arguments.shard, ["mask_id", "seed", "image", "sha256"])
    masks = tables.read_table(arguments.masks, ["mask_id", "mask"]).set_index("mask_id")["mask"]
    unknown = shard.mask_id[~shard.mask_id.isin(masks.index)]
    if len(unknown):
        raise InputError(f"{arguments.shard}: {arguments.masks} doesn't hold mask {unknown.iloc[0]!r}; plan again")
    return shard.assign(mask=masks.reindex(shard.mask_id).to_numpy())


def measure(rows, arguments: argparse.Namespace) -> None:
    """Score the rows' pairs and write their maps; maps are compressed and written while the next pairs are scored."""
    import torch

    from freemask.data.label_space import LabelSpace
    from freemask.filtering.margins import write_map
    from freemask.filtering.scoring import margin_codes, thresholds
    from freemask.parallel import map_ahead
    from freemask.segmentation.inference import load_segmentor, pair_losses
    from freemask.segmentation.runner import pick_device, read_config
    from freemask.selection.class_loss import read_class_loss

    device = pick_device(arguments.device, arguments.threads)
    labels = LabelSpace.read(arguments.classes, arguments.ignored_label)
    limits = thresholds(torch.tensor(read_class_loss(arguments.class_loss, labels))).to(device)
    model = load_segmentor(read_config(arguments.config), arguments.weights, device)
    pairs = zip(rows["image"], rows["mask"], strict=True)
    threads = max(2, arguments.threads or 0)
    losses = pair_losses(model, pairs, labels, arguments.batch_size, threads, fill=True)
    codes = (margin_codes(loss, train, limits).cpu().numpy() for loss, train in losses)
    maps = zip(rows.itertuples(), codes, strict=True)
    written = map_ahead(lambda made: write_map(made[0].margin, made[1], made[0].stamp), maps, threads, 2 * threads)
    for _ in cli.progress(written, "measure margins", "image", len(rows)):
        pass


if __name__ == "__main__":
    cli.run(main, options().parse_args(), gpus=1)
