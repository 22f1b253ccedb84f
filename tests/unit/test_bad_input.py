"""Bad input through the command lines: refused with the file named, code 1, no traceback, nothing half-written."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import toy_chain
from forked import Commands
from PIL import Image

OWN = "--classes classes.tsv --ignored-label 0"
COMMANDS = {
    "index_dataset": "--images images --masks masks --image-suffix .jpg --mask-suffix .png --index out/index.tsv",
    "check_dataset": f"--index index.tsv {OWN} --frequencies out/check.tsv --offenders out/offenders.tsv"
    " --cache out/cache.sqlite",
    "resize_masks": f"--index index.tsv {OWN} --mask-size 16 --masks-dir out/square --masks out/masks.tsv",
    "gather_class_loss": f"--index index.tsv --shards sums.tsv {OWN} --class-loss out/class_loss.tsv",
    "mask_hardness": "--masks masks.tsv --class-loss class_loss.tsv --hardness out/hardness.tsv",
    "plan_synthesis": "--hardness hardness.tsv --strategy hardness --n-max 2 --plan out/plan.tsv",
    "filter_masks": f"--alpha 1.25 --margins margins.tsv {OWN} --filtered-dir out/filtered --manifest out/filtered.tsv"
    " --class-shares out/classes.tsv",
    "synthetic_set": f"--plan plan.tsv --shards filtered.tsv --class-shards filtered.classes.tsv {OWN}"
    " --train out/train.tsv --class-shares out/shares.tsv",
    "verify": "--folder . --report out/report.tsv",
}
REPORT = f"{OWN} --offenders out/offenders.tsv --cache out/cache.sqlite"
MAY_BE_LEFT = {"out/offenders.tsv", "out/cache.sqlite"}  # a report and a memory, not a result


def write(path, content):
    return lambda: Path(path).write_bytes(content if isinstance(content, bytes) else content.encode())


def unlink(path):
    return lambda: Path(path).unlink()


def cut(path):
    return lambda: Path(path).write_bytes(Path(path).read_bytes()[:-60])


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


# name: script, further options, what is spoilt, what standard error must say
CASES = {
    "image without mask": ("index_dataset", "", unlink("masks/m01.png"), "images/m01.jpg"),
    "mask without image": ("index_dataset", "", unlink("images/m01.jpg"), "masks/m01.png"),
    "image without mask, one report": ("index_dataset", REPORT, unlink("masks/m01.png"), "m01.jpg: image without"),
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
    "no class table": ("check_dataset", "--classes gone.tsv", None, "gone.tsv: no such table"),
    "label twice": ("check_dataset", "", last_row_twice("classes.tsv"), "classes.tsv: label 9"),
    "label above 255": ("check_dataset", "", replace("classes.tsv", "\n9\t", "\n300\t"), "classes.tsv: label 300"),
    "label is a word": ("check_dataset", "", replace("classes.tsv", "\n9\t", "\nx\t"), "classes.tsv: label"),
    "class is ignored": ("check_dataset", "--ignored-label 9", None, "classes.tsv: label 9 is also"),
    "no word": ("check_dataset", "", replace("classes.tsv", "\tship\tship\t", "\tship\t\t"), "classes.tsv: label 9"),
    "bad colour": ("check_dataset", "", replace("classes.tsv", "#ff3d00", "red"), "classes.tsv: color 'red'"),
    "mask size 0": ("resize_masks", "--mask-size 0", None, "--mask-size 0"),
    "mask gone since": ("resize_masks", "", unlink("masks/m01.png"), "masks/m01.png: no such mask"),
    "sums of another index": ("gather_class_loss", "", without_last_row("index.tsv"), "sums.tsv: holds m03 beyond"),
    "shard lacks a row": ("gather_class_loss", "", without_last_row("sums.tsv"), "sums.tsv: holds nothing where"),
    "sums that aren't finite": ("gather_class_loss", "", replace("sums.tsv", ":2.5", ":inf"), "sums.tsv: the sums of"),
    "broken counts": ("mask_hardness", "", replace("masks.tsv", ":", ";"), "masks.tsv: counts"),
    "class without loss": ("mask_hardness", "", without_last_row("class_loss.tsv"), "class_loss.tsv: no finite loss"),
    "ranks with a gap": ("plan_synthesis", "", last_row_twice("hardness.tsv"), "hardness.tsv: ranks"),
    "unknown strategy": ("plan_synthesis", "--strategy best", None, "--strategy best"),
    "n_max 0": ("plan_synthesis", "--n-max 0", None, "--n-max 0"),
    "alpha between steps": ("filter_masks", "--alpha 0.33", None, "alpha 0.33"),
    "margin map of other size": ("filter_masks", "", save("margins/m01/42.png", size=(8, 8)), "m01/42.png: the"),
    "margin map gone": ("filter_masks", "", unlink("margins/m01/42.png"), "m01/42.png: no such"),
    "shard lacks an image": ("synthetic_set", "", without_last_row("filtered.tsv"), "shards of plan.tsv lack"),
    "image twice": ("synthetic_set", "", last_row_twice("filtered.tsv"), "shards of plan.tsv hold"),
    "nothing to verify": ("verify", "--folder results/none", None, "results/none: no such folder"),
    "cut table": ("verify", "", write("masks.tsv", "mask\tmask_sha256\na\n"), "masks.tsv, line 2"),
}  # fmt: skip


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A small data set and everything that is made of it, with paths relative to its folder."""
    folder = tmp_path_factory.mktemp("good")
    before = Path.cwd()
    os.chdir(folder)
    toy_chain.make(Path(), number=4, n_max=2)
    os.chdir(before)
    return folder


@pytest.fixture(scope="module")
def commands():
    with Commands() as running:
        yield running


def listing(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", CASES)
def test_refused(name, good, commands, tmp_path, monkeypatch):
    script, further, spoil, said = CASES[name]
    folder = shutil.copytree(good, tmp_path / "case")
    monkeypatch.chdir(folder)
    if spoil:
        spoil()
    before = listing(folder)
    code, stderr = commands.run(script, [*COMMANDS[script].split(), *further.split()], folder)
    assert code == 1, stderr
    assert said in stderr
    assert "Traceback" not in stderr
    left = {path for path in listing(folder) - before if not path.startswith(("out/square/", "out/filtered/"))}
    assert left <= MAY_BE_LEFT


@pytest.mark.parametrize("script", COMMANDS)
def test_good_input_is_accepted(script, good, commands, tmp_path):
    folder = shutil.copytree(good, tmp_path / "case")
    code, stderr = commands.run(script, COMMANDS[script].split(), folder)
    assert code == 0, stderr
