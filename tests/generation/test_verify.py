"""Damaged and missing files are found, set aside, and exactly they are made again."""

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import packed
import pandas as pd
import pytest
from command_line import run_script

from freemask import files, images, packs
from freemask.data.label_space import LabelSpace
from freemask.data.masks import mask_path
from freemask.generation.shard import Shard, claim_folder, image_path, manifest, requests, shard_rows
from freemask.tables import read_table, write_table

WORDS = {3: "sky", 7: "road"}
FOLDER = Path("results/toy")
SYNTHESIS = FOLDER / "synthesis/noise"
FILTERED = FOLDER / "filtered/noise"
MAPS = FOLDER / "margins/noise/abc"


def image(mask_id: str, seed: int) -> Path:
    return image_path(SYNTHESIS / "images", mask_id, seed)


def mask(mask_id: str) -> Path:
    return mask_path(FOLDER / "masks", mask_id)


def noise(labels, names, seeds):
    """Noise of the seed and the mask."""
    return np.stack(
        [
            np.random.default_rng([seed, int(mask.sum())]).integers(0, 255, (8, 8, 3), np.uint8)
            for mask, seed in zip(labels, seeds, strict=True)
        ]
    )


def synthesize() -> int:
    """What synthesize.py does; how many images were made."""
    masks = read_table(FOLDER / "masks.tsv", ["mask_id", "mask"]).set_index("mask_id")["mask"].to_dict()
    plan = pd.DataFrame([(name, seed) for name in masks for seed in (42, 43)], columns=["mask_id", "seed"])
    made, generator = 0, SimpleNamespace(prepare=lambda *given: given, generate=lambda given: noise(*given))
    for item in ("1-of-2", "2-of-2"):
        target = SYNTHESIS / "plan" / f"{item}.tsv"
        if not target.exists():  # what Snakemake sees to
            requested = requests(shard_rows(plan, item), masks, WORDS, SYNTHESIS / "images")
            made += Shard(lambda: generator, None, batch_size=3, quality=95).make(requested, item)
            write_table(target, manifest(requested))
    return made


def resize():
    run_script("index_dataset", images="raw", masks="raw", image_suffix=".jpg", mask_suffix=".png", index="index.tsv")
    run_script("resize_masks", index="index.tsv", label_space="label_space.json", mask_size=8,
               masks_dir=FOLDER / "masks", masks=FOLDER / "masks.tsv")  # fmt: skip


def filter_masks(alpha):
    for item in ("1-of-2", "2-of-2"):
        shard = FOLDER / "margins/noise/plan" / f"{item}.tsv"
        target = FILTERED / "plan" / f"alpha-{alpha}"
        run_script("filter_masks", alpha=alpha, images=SYNTHESIS / "plan" / f"{item}.tsv", masks=FOLDER / "masks.tsv",
                   margins=shard, label_space="label_space.json", manifest=target / f"{item}.tsv",
                   class_shares=target / f"{item}.classes.tsv")  # fmt: skip


def measure() -> list[str]:
    """Margin maps of zeros; which of them were missing."""
    made = []
    masks = read_table(FOLDER / "masks.tsv", ["mask_id", "mask"]).set_index("mask_id")["mask"]
    for item in ("1-of-2", "2-of-2"):
        shard = read_table(SYNTHESIS / "plan" / f"{item}.tsv", ["mask_id", "seed", "image", "sha256"])
        shard["mask"] = masks.reindex(shard.mask_id).to_numpy()
        shard["margin"] = [f"{MAPS}/{row.mask_id}-{row.seed}.png" for row in shard.itertuples()]
        shard["stamp"] = [
            images.stamp(digest, files.sha256(path)) for digest, path in zip(shard.sha256, shard["mask"], strict=True)
        ]
        places = packs.find(shard.margin.tolist(), shard.stamp.tolist())
        missing = shard[[place is None for place in places]]
        if len(missing):
            packed.pack(dict.fromkeys(missing.margin, np.zeros((8, 8), np.uint8)), missing.stamp.tolist())
        made += missing.margin.tolist()
        write_table(FOLDER / "margins/noise/plan" / f"{item}.tsv", shard.drop(columns="sha256"))
    return made


@pytest.fixture
def world(tmp_path, monkeypatch):
    """Five masks, ten images in two shards, their margin maps, and what two filters take."""
    monkeypatch.chdir(tmp_path)
    words = ("sky", "road")
    LabelSpace((3, 7), words, words, ((128, 192, 255), (128, 128, 128)), ignored=0).write("label_space.json")
    for number in range(5):
        mask = np.full((6, 9), 3 if number % 2 else 7, np.uint8)
        mask[:2, : number + 2] = 0
        files.write_atomic(f"raw/m{number}.png", images.png_bytes(mask))
        files.write_atomic(f"raw/m{number}.jpg", images.jpeg_bytes(np.zeros((6, 9, 3), np.uint8), 95))
    resize()
    claim_folder(SYNTHESIS / "images", {"image_size": 8})
    assert synthesize() == 10
    assert len(measure()) == 10
    filter_masks("1.25")
    filter_masks("inf")
    columns = ["image", "mask", "margin"]
    shards = [read_table(FILTERED / f"plan/alpha-1.25/{i}-of-2.tsv", columns) for i in (1, 2)]
    write_table(FOLDER / "synthetic/set/train.tsv", pd.concat(shards)[columns])


def verify(*flags, threads=1):
    """Verify; the report."""
    options = {"folder": FOLDER, "report": FOLDER / "verify/report.tsv", "threads": threads}
    run_script("verify", **options, **dict.fromkeys(flags, True))
    return read_table(FOLDER / "verify/report.tsv", ["path", "what", "tables"])


def tables():
    return {str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*.tsv") if "verify" not in path.parts}


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_all_well(world, capfd):
    before = tables()
    assert len(verify(threads=2)) == 0
    # 5 square masks, 10 images, 10 margin maps
    assert "25 files, all there and whole" in capfd.readouterr().err
    assert tables() == before


def test_a_file_is_judged_by_the_newest_table_that_names_it(world):
    """Plans share images: one was synthesized before the masks changed, and not again since."""
    for shard in (SYNTHESIS / "plan").glob("?-of-2.tsv"):
        old = read_table(shard, ["sha256"]).assign(sha256="0" * 64)
        target = SYNTHESIS / "a-plan" / shard.name
        write_table(target, old)
        os.utime(target, (1, 1))
    assert len(verify()) == 0


def test_a_damaged_mask_that_was_written_as_labels(world, capfd):
    """Its index is made again; an index that names the data set's own masks is none of verify's business."""
    label = Path("results/toy/labels/val/m.png")
    files.write_atomic(label, images.png_bytes(np.full((4, 4), 3, np.uint8)))
    row = {"mask_id": ["m"], "image": ["raw/m0.jpg"], "mask": [str(label)], "image_sha256": ["0"]}
    row |= {"mask_sha256": [files.sha256(label)], "source": ["raw/m.tif"]}
    write_table(FOLDER / "index/val.tsv", pd.DataFrame(row))
    write_table(FOLDER / "index/train.tsv", read_table("index.tsv", []).assign(mask_sha256="0"))
    assert len(verify()) == 0
    label.write_bytes(label.read_bytes()[:-3])
    table = verify()
    assert table[["path", "tables"]].to_numpy().tolist() == [[str(label), "results/toy/index/val.tsv"]]
    assert (FOLDER / "verify/damaged/labels/val/m.png").exists() and not label.exists()
    assert not (FOLDER / "index/val.tsv").exists() and (FOLDER / "index/train.tsv").exists()
    assert "make the tables among them: snakemake results/toy/index/val.tsv" in capfd.readouterr().err


@pytest.mark.parametrize("kind", ["image", "mask"])
def test_windows_of_images_are_made_files_as_well(world, kind):
    paths = {name: str(FOLDER / f"windows/val/32-8/{name}s/00/m.png") for name in ("image", "mask")}
    for path in paths.values():
        files.write_atomic(path, images.png_bytes(np.full((4, 4), 3, np.uint8)))
    digests = {f"{name}_sha256": files.sha256(path) for name, path in paths.items()}
    write_table(FOLDER / "index/val.tsv", pd.DataFrame([{"mask_id": "m", **paths, **digests}]))
    assert len(verify()) == 0
    Path(paths[kind]).unlink()
    table = verify()
    assert table.to_numpy().tolist() == [[paths[kind], "missing", "results/toy/index/val.tsv"]]
    assert not (FOLDER / "index/val.tsv").exists()


def test_two_damaged_images_and_one_missing_are_made_again_and_no_others(world, capfd):
    before = contents(SYNTHESIS)
    flipped, cut, gone = (image(mask_id, 42) for mask_id in ("m0", "m2", "m4"))
    content = bytearray(flipped.read_bytes())
    content[-30] ^= 4
    flipped.write_bytes(content)
    cut.write_bytes(cut.read_bytes()[:-50])  # its comment still says that it is made
    gone.unlink()
    table = verify()
    assert dict(zip(table.path, table.what, strict=True)) == {
        str(flipped): "other content than when it was made",
        str(cut): "other content than when it was made",
        str(gone): "missing",
    }
    named = ["filtered/noise/plan/alpha-1.25/1-of-2.tsv", "filtered/noise/plan/alpha-inf/1-of-2.tsv",
             "margins/noise/plan/1-of-2.tsv", "synthesis/noise/plan/1-of-2.tsv", "synthetic/set/train.tsv"]  # fmt: skip
    assert sorted(table.tables[0].split(",")) == [str(FOLDER / name) for name in named]
    assert not tables() & set(named)
    assert {name.replace("1-of", "2-of") for name in named[:4]} <= tables()
    aside = FOLDER / "verify/damaged"
    assert (aside / flipped.relative_to(FOLDER)).read_bytes() == content and (aside / cut.relative_to(FOLDER)).exists()
    assert "1 of 25 files missing, 2 damaged" in capfd.readouterr().err
    assert verify().what.tolist() == ["missing"] * 4  # tables of the first shard, until they are made again
    assert synthesize() == 3
    assert contents(SYNTHESIS) == before
    measure()
    filter_masks("1.25")
    filter_masks("inf")
    assert len(verify()) == 0


def test_damaged_masks_and_margins(world):
    good = mask("m1").read_bytes()
    mask("m1").write_bytes(good + b"x")  # readable, the same labels
    shards = [read_table(FOLDER / f"margins/noise/plan/{i}-of-2.tsv", ["margin", "stamp"]) for i in (1, 2)]
    named = pd.concat(shards).sort_values("margin")
    before = {path: packed.read(path, stamp).tobytes() for path, stamp in zip(named.margin, named.stamp, strict=True)}
    where = dict(zip(named.margin, packs.find(named.margin.tolist(), named.stamp.tolist()), strict=True))
    flipped, gone, small = (f"{MAPS}/{name}.png" for name in ("m0-42", "m0-43", "m3-43"))
    content = bytearray(Path(where[flipped].pack).read_bytes())
    content[where[flipped].offset + where[flipped].size - 20] ^= 1
    Path(where[flipped].pack).write_bytes(content)
    packs.drop([where[gone]])
    stamps = dict(zip(named.margin, named.stamp, strict=True))
    packed.pack({small: np.zeros((4, 4), np.uint8)}, [stamps[small]])
    what = dict(verify()[["path", "what"]].itertuples(index=False, name=None))
    assert what.pop(str(mask("m1"))) == "other content than when it was made"
    assert "can't be read" in what.pop(flipped)
    assert what.pop(gone) == "missing"
    assert what.pop(small) == "4x4 pixels, want 8x8"
    assert not what
    aside = FOLDER / "verify/damaged"
    assert len((aside / Path(flipped).relative_to(FOLDER)).read_bytes()) == where[flipped].size
    # m3-43 is row 8 of 10, in the second shard; the images' own tables stay
    assert {"synthesis/noise/plan/1-of-2.tsv", "synthesis/noise/plan/2-of-2.tsv"} <= tables()
    assert not {"masks.tsv", "filtered/noise/plan/alpha-1.25/2-of-2.tsv", "synthetic/set/train.tsv"} & tables()
    resize()
    assert mask("m1").read_bytes() == good
    assert synthesize() == 0  # the masks come first, so their images are as they were
    assert set(measure()) == {flipped, gone}  # the third's first map is in its pack still
    after = {path: packed.read(path, stamp).tobytes() for path, stamp in zip(named.margin, named.stamp, strict=True)}
    assert after == before
    assert len(verify()) == 0


def cut(name: str, lines: int) -> None:
    """Cut a table at the end of a line."""
    path = FOLDER / name
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:lines]))


def test_broken_and_missing_tables_are_findings_like_others(world, capfd):
    """Cut at the end of a line, cut within one, no table, gone; and an index of a pack. All other files are checked."""
    cut("masks.tsv", 4)
    cut("filtered/noise/plan/alpha-1.25/1-of-2.classes.tsv", 1)
    half, empty, gone = (FOLDER / f"filtered/noise/plan/alpha-{name}" for name in ("1.25/2-of-2.tsv", "inf/1-of-2.tsv",
                                                                                   "inf/2-of-2.tsv"))  # fmt: skip
    half.write_bytes(half.read_bytes()[:-40])
    empty.write_bytes(b"")
    gone.unlink()
    files.write_atomic(FOLDER / "plans/plan.tsv", b"mask_id\tseed\trows\nm0\t42\t2\n")
    index = MAPS / "0001.index"
    index.write_text("a\tb\tc\td\n")
    image("m4", 42).unlink()
    table = verify().set_index("path")
    what = {str(Path(path).relative_to(FOLDER)): what for path, what in table.what.items()}
    assert what["masks.tsv"].startswith("3 rows, but it was written with 5 rows: it was cut off")
    assert "it was written with at least one row" in what["filtered/noise/plan/alpha-1.25/1-of-2.classes.tsv"]
    assert "fields, want" in what["filtered/noise/plan/alpha-1.25/2-of-2.tsv"]
    assert "not a tab-separated table" in what["filtered/noise/plan/alpha-inf/1-of-2.tsv"]
    assert what["filtered/noise/plan/alpha-inf/2-of-2.tsv"] == "missing"
    assert "1 rows, but it was written with 2 rows" in what["plans/plan.tsv"]
    assert what[str(index.relative_to(FOLDER))].startswith("damaged")
    assert what[str(image("m4", 42).relative_to(FOLDER))] == "missing"
    assert not (FOLDER / "masks.tsv").exists() and not half.exists() and not index.exists()
    assert (FOLDER / "verify/damaged/masks.tsv").exists()
    assert "files missing" in capfd.readouterr().err
    resize()
    assert synthesize() == 1 and len(measure()) == 5  # those of the index
    filter_masks("1.25")
    filter_masks("inf")
    assert len(verify()) == 0


def test_a_pack_that_is_gone_is_measured_again(world):
    (MAPS / "0001.tar").unlink()
    table = verify()
    assert len(table) == 5 and set(table.what) == {"missing"}
    assert not {"margins/noise/plan/1-of-2.tsv", "filtered/noise/plan/alpha-1.25/1-of-2.tsv"} & tables()
    assert {"margins/noise/plan/2-of-2.tsv", "filtered/noise/plan/alpha-inf/1-of-2.tsv"} <= tables()
    assert sorted(measure()) == table.path.tolist()
    filter_masks("1.25")
    assert len(verify()) == 0


def test_report_only_touches_nothing(world):
    mask("m1").unlink()
    before = tables()
    assert verify("report_only").what.tolist() == ["missing"]
    assert tables() == before
