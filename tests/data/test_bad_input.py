"""Bad input through the command lines: refused with the file named, no traceback, nothing half-written."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import toy_chain
import yaml
from command_line import run_script
from forked import ROOT, Commands
from PIL import Image

from freemask import images, packs, tables
from freemask.data.mask_format import ANY_LABELS

OWN = "--label-space label_space.json"
COMMANDS = {
    "index_dataset": "--images images --masks masks --image-suffix .jpg --mask-suffix .png --index out/index.tsv",
    "check_dataset": f"--index index.tsv {OWN} --frequencies out/check.tsv --offenders out/offenders.tsv"
    " --cache out/cache",
    "resize_masks": f"--index index.tsv {OWN} --mask-size 16 --masks-dir out/square --masks out/masks.tsv",
    "class_loss": f"--config config.py --weights weights.pth --index index.tsv {OWN} --sums out/sums.tsv",
    "gather_class_loss": f"--index index.tsv --shards sums.tsv {OWN} --class-loss out/class_loss.tsv",
    "mask_hardness": "--masks masks.tsv --class-loss class_loss.tsv --hardness out/hardness.tsv",
    "plan_synthesis": "--hardness hardness.tsv --strategy hardness --n-max 2 --plan out/plan.tsv",
    "measure_margins": f"--shard shard.tsv --masks masks.tsv --class-loss class_loss.tsv {OWN} --config config.py"
    " --weights weights.pth --margins-dir out/margins --manifest out/margins.tsv",
    "filter_masks": f"--alpha 1.25 --margins margins.tsv {OWN} --manifest out/filtered.tsv"
    " --class-shares out/classes.tsv",
    "synthetic_set": f"--plan plan.tsv --shards filtered.tsv --class-shards filtered.classes.tsv {OWN}"
    " --train out/train.tsv --class-shares out/shares.tsv",
    "verify": "--folder . --report out/report.tsv",
}
ANY = json.dumps(ANY_LABELS.to_json(), separators=(",", ":"))
REPORT = f"--mask-format {ANY} --offenders out/offenders.tsv --cache out/cache"
BALANCED = "--strategy class_balanced --masks masks.tsv --class-loss class_loss.tsv"
MAY_BE_LEFT = {"out/offenders.tsv", "out/cache"}  # a report and a memory, not a result
KEPT = ("out/square/", "out/margins/")  # folders of files that the next run finds and keeps


def write(path, content):
    return lambda: Path(path).write_bytes(content if isinstance(content, bytes) else content.encode())


def unlink(path):
    return lambda: Path(path).unlink()


def cut(path, number=60):
    return lambda: Path(path).write_bytes(Path(path).read_bytes()[:-number])


def spoil_map(content):
    """Replace a map in its pack by other bytes, a small map, or None."""

    def spoil():
        table = tables.read_table("margins.tsv", ["margin", "stamp"]).set_index("margin").loc[["margins/m01-42.png"]]
        path, stamp = table.index[0], table.stamp.iloc[0]
        packs.drop(packs.find([path], [stamp]))
        if content:
            small = images.png_bytes(np.zeros((8, 8), np.uint8))
            with packs.Writer(Path("margins")) as writer:
                writer.add(Path(path).name, stamp, small if content == b"small" else content)

    return spoil


def flip(path):
    def spoil():
        content = bytearray(Path(path).read_bytes())
        content[len(content) // 2] ^= 1
        Path(path).write_bytes(content)

    return spoil


def replace(path, old, new):
    def spoil():
        text = Path(path).read_text()
        assert old in text
        Path(path).write_text(text.replace(old, new))

    return spoil


def save(path, mode="L", size=(85, 64), color=0, **options):
    return lambda: Image.new(mode, size, color).save(path, **options)


def palette(path, index):
    def spoil():
        image = Image.new("L", (85, 64), index)
        image.putpalette(bytes(768))
        image.save(path)

    return spoil


def without_last_row(path):
    return lambda: Path(path).write_text("".join(Path(path).read_text().splitlines(keepends=True)[:-1]))


def last_row_twice(path):
    return lambda: Path(path).write_text(Path(path).read_text() + Path(path).read_text().splitlines()[-1] + "\n")


def no_labels():
    Image.fromarray(np.zeros((64, 85), np.uint8)).save("masks/m02.png")


def weights(change):
    """The scorer's weights after change(bias of its last layer) returned another one, or None."""

    def spoil():
        state = torch.load("weights.pth", weights_only=True)
        bias = change(state.pop("decode_head.conv_seg.bias"))
        torch.save(state if bias is None else state | {"decode_head.conv_seg.bias": bias}, "weights.pth")

    return spoil


# name: script, further options, what is spoilt, what standard error must say
CASES = {
    "image without mask": ("index_dataset", "", unlink("masks/m01.png"), "images/m01.jpg"),
    "mask without image": ("index_dataset", "", unlink("images/m01.jpg"), "masks/m01.png"),
    "image without mask, one report": ("index_dataset", REPORT, unlink("masks/m01.png"), "m01.jpg: image without"),
    "no mask format": ("index_dataset", "--offenders out/x.tsv", unlink("masks/m01.png"), "--offenders needs"),
    "mask without image, one report": ("index_dataset", REPORT, unlink("images/m01.jpg"), "m01.png: mask without"),
    "no folder": ("index_dataset", "--images pictures", None, "pictures: no such folder"),
    "wrong suffix": ("index_dataset", "--mask-suffix _labels.png", None, "masks: holds no mask"),
    "two images of one name": ("index_dataset", "", lambda: shutil.copytree("images", "images/again"), "again/m00.jpg"),
    "empty image": ("check_dataset", "", write("images/m01.jpg", b""), "images/m01.jpg: empty file"),
    "truncated image": ("check_dataset", "", cut("images/m01.jpg"), "images/m01.jpg: truncated"),
    "web page as image": ("check_dataset", "", write("images/m01.jpg", "<html>"), "images/m01.jpg: not a readable"),
    "image gone since": ("check_dataset", "", unlink("images/m01.jpg"), "images/m01.jpg: no such file"),
    "empty mask": ("check_dataset", "", write("masks/m01.png", b""), "masks/m01.png: empty file"),
    "truncated mask": ("check_dataset", "", cut("masks/m01.png"), "masks/m01.png: truncated"),
    "mask with a flipped bit": ("check_dataset", "", flip("masks/m01.png"), "masks/m01.png: truncated or damaged"),
    "colour mask": ("check_dataset", "", save("masks/m01.png", "RGB"), "masks/m01.png: colours"),
    "16-bit mask": ("check_dataset", "", save("masks/m01.png", "I;16"), "masks/m01.png: 16 bits"),
    "1-bit mask": ("check_dataset", "", save("masks/m01.png", "1"), "masks/m01.png: mode 1"),
    "mask with alpha": ("check_dataset", "", save("masks/m01.png", "LA"), "masks/m01.png: mode LA"),
    "JPEG as mask": ("check_dataset", "", save("masks/m01.png", format="JPEG"), "masks/m01.png: a JPEG"),
    "unknown label": ("check_dataset", "", save("masks/m01.png", color=77), "masks/m01.png: label(s) [77]"),
    "unknown palette index": ("check_dataset", "", palette("masks/m01.png", 8), "masks/m01.png: label(s) [8]"),
    "other size": ("check_dataset", "", save("masks/m01.png", size=(64, 85), color=1), "masks/m01.png: 64x85 pixels"),
    "no labelled pixel": ("check_dataset", "", save("masks/m01.png"), "masks/m01.png: no labelled pixel"),
    "image of 16 bits": ("check_dataset", "", save("images/m01.jpg", "I;16", format="PNG"), "images/m01.jpg: more"),
    "index without a column": ("check_dataset", "", replace("index.tsv", "\tmask", "\tlabels"), "index.tsv: column"),
    "index is no table": ("check_dataset", "", write("index.tsv", os.urandom(64) + b"\xff"), "index.tsv"),
    "no index": ("check_dataset", "--index gone.tsv", None, "gone.tsv: no such table"),
    "more pictures than images": ("check_dataset", "--pictures 99", None, "evaluation.pictures is 99; lower it"),
    "no label space": ("check_dataset", "--label-space gone.json", None, "gone.json: no such file"),
    "broken label space": ("check_dataset", "", write("label_space.json", "{"), "label_space.json: not valid JSON"),
    "other JSON": ("check_dataset", "", write("label_space.json", "[1]"), "label_space.json: not a label space"),
    "index of two columns": ("check_dataset", "", write("index.tsv", "image\tmask\na.jpg\n"), "index.tsv, line 2: 1"),
    "mask size 0": ("resize_masks", "--mask-size 0", None, '"0" for --mask-size'),
    "mask gone since": ("resize_masks", "", unlink("masks/m01.png"), "masks/m01.png: no such mask"),
    "truncated mask since": ("resize_masks", "", cut("masks/m01.png"), "masks/m01.png: cannot be read"),
    "unknown label since": ("resize_masks", "", save("masks/m01.png", color=77), "masks/m01.png: label(s) [77]"),
    "no threads": ("resize_masks", "--threads 0", None, '"0" for --threads'),
    "shard that is none": ("class_loss", "--shard 3-of-2", None, "shard '3-of-2'"),
    "no weights": ("class_loss", "", unlink("weights.pth"), "weights.pth"),
    "web page as weights": ("class_loss", "", write("weights.pth", "<html>"), "weights.pth"),
    "truncated weights": ("class_loss", "", cut("weights.pth"), "weights.pth"),
    "weights of another model": ("class_loss", "", weights(lambda bias: None), "weights.pth: not the weights"),
    "weights of other classes": ("class_loss", "", weights(lambda bias: bias[:4]), "weights.pth: not the weights"),
    "weights that aren't finite": ("class_loss", "", weights(lambda bias: bias * np.nan), "weights.pth: "),
    "no config": ("class_loss", "", unlink("config.py"), "config.py"),
    "image to score gone": ("class_loss", "", unlink("images/m01.jpg"), "images/m01.jpg: missing"),
    "image to score damaged": ("class_loss", "", write("images/m01.jpg", b"\xff\xd8"), "images/m01.jpg: missing"),
    "image to score of other size": ("class_loss", "", save("images/m01.jpg", "RGB", (64, 85)), "m01.jpg: (85, 64)"),
    "label that can't be scored": ("class_loss", "", save("masks/m01.png", color=77), "masks/m01.png: label(s) [77]"),
    "batch size 0": ("class_loss", "--batch-size 0", None, "--batch-size"),
    "shard of sums gone": ("gather_class_loss", "", unlink("sums.tsv"), "sums.tsv: no such table"),
    "shard of sums cut": ("gather_class_loss", "", replace("sums.tsv", "m01\t", "m01"), "sums.tsv, line 3"),
    "sums of another index": ("gather_class_loss", "", without_last_row("index.tsv"), "sums.tsv: holds m03 beyond"),
    "shard lacks a row": ("gather_class_loss", "", without_last_row("sums.tsv"), "sums.tsv: holds nothing where"),
    "sums that aren't finite": ("gather_class_loss", "", replace("sums.tsv", ":2.5", ":inf"), "sums.tsv: the sums of"),
    "broken counts": ("mask_hardness", "", replace("masks.tsv", ":", ";"), "masks.tsv: counts"),
    "class without loss": ("mask_hardness", "", without_last_row("class_loss.tsv"), "class_loss.tsv: no finite loss"),
    "mask without label": ("mask_hardness", "", replace("masks.tsv", "2:", "0:x"), "masks.tsv: counts"),
    "mask twice": ("mask_hardness", "", last_row_twice("masks.tsv"), "masks.tsv: mask_id 'm03'"),
    "losses without a column": ("mask_hardness", "", replace("class_loss.tsv", "pixels", "count"), "class_loss.tsv: c"),
    "ranks with a gap": ("plan_synthesis", "", last_row_twice("hardness.tsv"), "hardness.tsv: ranks"),
    "unknown strategy": ("plan_synthesis", "--strategy best", None, "strategy"),
    "n_max 0": ("plan_synthesis", "--n-max 0", None, "--n-max"),
    "first seed below 0": ("plan_synthesis", "--first-seed -1", None, "--first-seed"),
    "class_balanced without masks": ("plan_synthesis", "--strategy class_balanced", None, "needs --masks and"),
    "hardness of other masks": ("plan_synthesis", BALANCED, replace("masks.tsv", "m01\t", "m11\t"), "masks.tsv and h"),
    "mask of no table": ("measure_margins", "", without_last_row("masks.tsv"), "shard.tsv: masks.tsv doesn't hold"),
    "square mask gone": ("measure_margins", "", unlink("square/3b/m01.png"), "square/3b/m01.png: No such file"),
    "square mask damaged": ("measure_margins", "", cut("square/3b/m01.png"), "square/3b/m01.png: cannot be read"),
    "synthetic image gone": ("measure_margins", "", unlink("synthetic/m01-42.png"), "synthetic/m01-42.png: missing"),
    "synthetic image damaged": ("measure_margins", "", write("synthetic/m01-42.png", b""), "m01-42.png: missing"),
    "synthetic image of other size": ("measure_margins", "", save("synthetic/m01-42.png", "RGB", (32, 32)),
                                      "synthetic/m01-42.png: (32, 32)"),
    "losses of other classes": ("measure_margins", "", without_last_row("class_loss.tsv"), "class_loss.tsv: its"),
    "losses that aren't finite": ("measure_margins", "", replace("class_loss.tsv", "1.6\n", "inf\n"),
                                  "class_loss.tsv: class_loss must"),
    "scorer gone": ("measure_margins", "", unlink("weights.pth"), "weights.pth"),
    "alpha between steps": ("filter_masks", "--alpha 0.33", None, "alpha = 0.33"),
    "margin map of other size": ("filter_masks", "", spoil_map(b"small"), "margins/m01-42.png: the margin map is 8x8"),
    "margin map gone": ("filter_masks", "", spoil_map(None), "margins/m01-42.png: no such margin map"),
    "margin map damaged": ("filter_masks", "", spoil_map(b"x"), "margins/m01-42.png: cannot be read"),
    "pack cut": ("filter_masks", "", cut("margins/0001.tar", 20_000), ".png: no such margin map"),
    "pack gone": ("filter_masks", "", unlink("margins/0001.tar"), "margins/m00-42.png: no such margin map"),
    "index damaged": ("filter_masks", "", write("margins/0001.index", "x\n"), "margins/0001.index: damaged"),
    "mask of a margin map gone": ("filter_masks", "", unlink("square/3b/m01.png"), "square/3b/m01.png: no such mask"),
    "no margins": ("filter_masks", "--margins gone.tsv", None, "gone.tsv: no such table"),
    "no filter, no images": ("filter_masks", "--alpha inf", None, "--alpha inf needs"),
    "no filter, mask of no table": ("filter_masks", "--alpha inf --images shard.tsv --masks masks.tsv",
                                    without_last_row("masks.tsv"), "masks.tsv doesn't hold"),
    "plan of another shard": ("synthetic_set", "", without_last_row("plan.tsv"), "shards of plan.tsv hold"),
    "plan with a row twice": ("synthetic_set", "", last_row_twice("plan.tsv"), "plan.tsv: mask m03, seed 43"),
    "shard gone": ("synthetic_set", "", unlink("filtered.tsv"), "filtered.tsv: no such table"),
    "shares gone": ("synthetic_set", "", unlink("filtered.classes.tsv"), "filtered.classes.tsv: no such table"),
    "shard lacks an image": ("synthetic_set", "", without_last_row("filtered.tsv"), "shards of plan.tsv lack"),
    "image twice": ("synthetic_set", "", last_row_twice("filtered.tsv"), "shards of plan.tsv hold"),
    "nothing to verify": ("verify", "--folder results/none", None, "results/none: no such folder"),
    "manifest without digests": ("verify", "", replace("masks.tsv", "mask_sha256", "digest"), "masks.tsv: column"),
}  # fmt: skip


def write_scorer():
    """A segmentor with random weights: config.py, weights.pth."""
    from freemask.segmentation.checkpoints import build_model
    from freemask.segmentation.runner import read_config

    entry = yaml.safe_load((ROOT / "config/models.yaml").read_text())["segformer_mini"] | {"iterations": {"toy": 1}}
    run_script("training_config", settings=json.dumps(entry), dataset="toy",
               label_space="label_space.json", regime="real", train_seed=0, train="index.tsv", val="index.tsv",
               mask_size=64, config="config.py")  # fmt: skip
    torch.save(build_model(read_config("config.py")).state_dict(), "weights.pth")


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A small data set and everything that is made of it, with paths relative to its folder."""
    folder = tmp_path_factory.mktemp("good")
    before = Path.cwd()
    os.chdir(folder)
    toy_chain.make(Path(), number=4, n_max=2)
    write_scorer()
    for table in Path().rglob("*.tsv"):  # a table without its number of rows may be edited
        text = pd.read_csv(table, sep="\t", dtype=str, keep_default_na=False)
        text.drop(columns="rows", errors="ignore").to_csv(table, sep="\t", index=False)
    os.chdir(before)
    return folder


@pytest.fixture(scope="module")
def commands():
    with Commands() as running:
        yield running


def command_line(script, further):
    """The words of a script's command line; further options replace those of COMMANDS."""
    options = {}
    for text in (COMMANDS[script], further):
        for option in re.split(r"(?:^| )(?=--)", text)[1:]:
            name, *values = option.split()
            options[name] = values
    return [word for name, values in options.items() for word in (name, *values)]


def contents(folder):
    """Path -> bytes of every file, temporary ones too."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", CASES)
def test_refused(name, good, commands, tmp_path, monkeypatch):
    script, further, spoil, said = CASES[name]
    folder = shutil.copytree(good, tmp_path / "case")
    monkeypatch.chdir(folder)
    if spoil:
        spoil()
    before = contents(folder)
    code, stderr = commands.run(script, command_line(script, further), folder)
    assert code == (2 if "See --help." in stderr else 1), stderr
    assert said in stderr
    assert "Traceback" not in stderr
    after = contents(folder)
    assert {path: content for path, content in after.items() if path in before} == before
    for path in after.keys() - before.keys() - MAY_BE_LEFT:
        assert path.startswith(KEPT) and not Path(path).name.startswith("."), path
        if path.endswith(".index"):
            lines = [line.split("\t") for line in after[path].decode().splitlines()]
            folder = Path(path).parent
            places = packs.find([f"{folder}/{name}" for name, *_ in lines], [stamp for _, stamp, *_ in lines])
            assert lines and all(images.read_mask(path, packs.read(place)).shape == (64, 64) for place in places)
        elif not path.endswith(".tar"):
            assert images.read_mask(path).shape == (16, 16), path  # whole, to its last byte


def test_there_are_more_than_thirty_kinds():
    scripts = {script for script, *_ in CASES.values()}
    assert scripts == COMMANDS.keys() and len(CASES) >= 75


@pytest.mark.parametrize("script", COMMANDS)
def test_good_input_is_accepted(script, good, commands, tmp_path):
    folder = shutil.copytree(good, tmp_path / "case")
    code, stderr = commands.run(script, command_line(script, ""), folder)
    assert code == 0, stderr
