"""The tolerance margin, its scripts, and gathering the shards."""

import sys

import numpy as np
import packed
import pytest
from command_line import run_script

from freemask import files, images, packs, tables
from freemask.data.label_space import LabelSpace
from freemask.errors import InputError
from freemask.filtering.filters import ScoredMask, margin
from freemask.filtering.margins import ALPHAS, margin_code, parse_alpha
from freemask.filtering.sets import mask_filters, read_filtered
from freemask.filtering.shards import SET, in_plan_order
from freemask.selection import plans

CLASSES = "label\tname\tword\tcolor\n1\tsky\tsky\t#80c0ff\n2\troad\troad\t#808080\n7\tship\tship\t#c02020\n"
SHARD = ["mask_id", "seed", "image", "mask", "margin", "stamp", "sha256"]  # a margins and an images shard in one
CLASS_LOSS = np.zeros(256)
CLASS_LOSS[[1, 2, 7]] = 0.1, 0.2, 0.9


def margin_map(mask, loss):
    """Codes as measured: how many k >= 1 have loss > (k * 0.05) * h_j; at most 255."""
    k = np.arange(1, 256)
    return (loss[..., None] > (k * 0.05) * CLASS_LOSS[mask][..., None]).sum(-1).astype(np.uint8)


def released_filter(mask, loss, alpha):
    """preprocess/filter.py, restated: class by class, pixels above alpha * mean become ignored (0 here)."""
    filtered = mask.copy()
    for label in np.unique(mask):
        if label != 0:
            filtered[(mask == label) & (loss > alpha * CLASS_LOSS[label])] = 0
    return filtered


def filter_mask(mask, codes, alpha, ignored):
    """The paper's rule."""
    return margin(ScoredMask(mask, codes, alpha, ignored))


def test_filter_by_hand():
    mask = np.array([[1, 1, 2, 7, 0]], np.uint8)
    loss = np.array([[0.125001, 0.124, 0.3, 1.0, 5.0]])  # limits at alpha 1.25: 0.125, 0.125, 0.25, 1.125
    assert filter_mask(mask, margin_map(mask, loss), 1.25, ignored=0).tolist() == [[0, 1, 0, 7, 0]]
    assert filter_mask(mask, margin_map(mask, loss), 1.25, ignored=255)[0, 2] == 255


@pytest.mark.parametrize("k", [1, 5, 20, 25, 40, 255])
def test_filter_is_the_released_rule(k):
    random = np.random.default_rng(k)
    mask = random.choice(np.array([0, 1, 2, 7], np.uint8), (40, 50))
    loss = random.gamma(0.5, 4, mask.shape).astype(np.float32) * CLASS_LOSS[mask]
    expected = released_filter(mask, loss, k * 0.05)
    assert np.array_equal(filter_mask(mask, margin_map(mask, loss), k * 0.05, ignored=0), expected)


def test_a_larger_alpha_filters_less():
    random = np.random.default_rng(3)
    mask, codes = np.ones((9, 9), np.uint8), random.integers(0, 256, (9, 9), dtype=np.uint8)
    left = [filter_mask(mask, codes, alpha, 0) for alpha in (0.05, 1, 1.25, 6, 12.7)]
    assert all((small <= large).all() for small, large in zip(left, left[1:], strict=False))
    with pytest.raises(ValueError, match="shape"):
        filter_mask(mask, codes[1:], 1, 0)


def test_alpha_is_a_multiple_of_0_05_or_inf():
    assert [margin_code(parse_alpha(text)) for text in ("0.05", "0.15", "1.25", "12.75")] == [1, 3, 25, 255]
    assert parse_alpha("inf") == float("inf")
    assert list(ALPHAS) == [5 * k / 100 for k in range(1, 256)]
    for text in ("0", "-1", "1.26", "12.8", "nan", "-inf", "much", ""):
        with pytest.raises(InputError, match="want a multiple of 0.05"):
            parse_alpha(text)


def write_masks(folder):
    rows = [(name, f"{folder}/{name}.png", counts) for name, counts in (("a", "1:2 2:1"), ("b", "2:3 7:1"))]
    lines = ["mask_id\tmask\tcounts\tmask_sha256", *("\t".join([*row, files.sha256(row[1])]) for row in rows)]
    (folder / "masks.tsv").write_text("\n".join(lines) + "\n")


@pytest.fixture
def shard(tmp_path):
    """Two masks, three images, in two shards."""
    (tmp_path / "classes.tsv").write_text(CLASSES)
    LabelSpace.of_class_table(tmp_path / "classes.tsv", 0).write(tmp_path / "label_space.json")
    masks = {"a": [[1, 1], [2, 0]], "b": [[7, 2], [2, 2]]}
    margins = {("a", 42): [[25, 24], [0, 255]], ("a", 43): [[0, 0], [0, 0]], ("b", 42): [[30, 25], [3, 26]]}
    for mask_id, labels in masks.items():
        files.write_atomic(tmp_path / f"{mask_id}.png", images.png_bytes(np.array(labels, np.uint8)))
    rows = {0: [], 1: []}
    for (mask_id, seed), codes in margins.items():
        path, stamp = f"{tmp_path}/margins/{mask_id}-{seed}.png", f"{mask_id}{seed}"
        packed.pack({path: np.array(codes, np.uint8)}, [stamp])
        rows[mask_id == "b"].append(
            [mask_id, str(seed), f"{mask_id}-{seed}.jpg", f"{tmp_path}/{mask_id}.png", path, stamp, f"{seed:064x}"]
        )
    for number, lines in rows.items():
        text = ["\t".join(line) for line in [SHARD, *lines]]
        (tmp_path / f"margins-{number}.tsv").write_text("\n".join(text) + "\n")
    write_masks(tmp_path)
    tables.write_table(tmp_path / "plan.tsv", plans.rows(["a", "b"], np.array([2, 1]), 42))
    return tmp_path


def filter_shard(folder, number, alpha="1.25", **more):
    shard = folder / f"margins-{number}.tsv"
    run_script("filter_masks", alpha=alpha, margins=shard, images=shard, masks=folder / "masks.tsv",
               label_space=folder / "label_space.json", manifest=folder / f"{number}.tsv",
               class_shares=folder / f"{number}.classes.tsv", **more)  # fmt: skip
    return tables.read_table(folder / f"{number}.tsv", SET)


def filtered(table, folder):
    """The masks that a table says to train with."""
    space = LabelSpace.read(folder / "label_space.json")
    pairs = zip(table["mask"], mask_filters(table), strict=True)
    return [read_filtered(*pair, space).tolist() for pair in pairs]


def gather(folder, shards=(0, 1)):
    run_script("synthetic_set", plan=folder / "plan.tsv", shards=[folder / f"{n}.tsv" for n in shards],
               class_shards=[folder / f"{n}.classes.tsv" for n in shards], label_space=folder / "label_space.json",
               train=folder / "train.tsv", class_shares=folder / "shares.tsv")  # fmt: skip
    return tables.read_table(folder / "train.tsv", SET)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_shard_by_hand(shard, threads):
    table = filter_shard(shard, 0, threads=threads)
    np.testing.assert_allclose(table.filtered, [1 / 3, 0], atol=1e-9)
    assert table["mask"].tolist() == [str(shard / "a.png")] * 2
    assert table.margin.tolist() == [str(shard / "margins" / f"a-{seed}.png") for seed in (42, 43)]
    assert set(table["filter"]) == {"margin"} and set(table.alpha) == {1.25}
    assert filtered(table, shard) == [[[0, 1], [2, 0]], [[1, 1], [2, 0]]]
    classes = tables.read_table(shard / "0.classes.tsv", ["label", "pixels", "filtered"])
    assert classes.values.tolist() == [[1, 4, 1], [2, 2, 0], [7, 0, 0]]


@pytest.mark.parametrize("options", [{"alpha": "inf"}, {"filter": "none"}])
def test_without_a_filter_no_margin_map_is_named(shard, options):
    table = filter_shard(shard, 0, **options)
    assert table["mask"].tolist() == [str(shard / "a.png")] * 2 and table.filtered.tolist() == [0, 0]
    assert table.margin.isna().all() and table.stamp.notna().all()
    assert filtered(table, shard) == [[[1, 1], [2, 0]]] * 2
    classes = tables.read_table(shard / "0.classes.tsv", ["label", "pixels", "filtered"])
    assert classes.values.tolist() == [[1, 4, 0], [2, 2, 0], [7, 0, 0]]


def test_filtering_writes_no_mask(shard):
    before = set(shard.rglob("*"))
    filter_shard(shard, 0)
    assert {path.name for path in set(shard.rglob("*")) - before} == {"0.tsv", "0.classes.tsv"}


def test_a_set_is_in_plan_order_with_shares_per_class(shard):
    for number in (0, 1):
        filter_shard(shard, number)
    train = gather(shard, (1, 0))
    assert list(zip(train.mask_id, train.seed, strict=True)) == [("a", 42), ("a", 43), ("b", 42)]
    assert filtered(train, shard) == [[[0, 1], [2, 0]], [[1, 1], [2, 0]], [[0, 0], [2, 0]]]
    shares = tables.read_table(shard / "shares.tsv", ["label", "name", "pixels", "filtered", "share"])
    assert shares.pixels.tolist() == [4, 5, 1] and shares.filtered.tolist() == [1, 2, 1]
    np.testing.assert_allclose(shares.share, [0.25, 0.4, 1.0])


def in_order(folder, *shards):
    rows = in_plan_order(folder / "plan.tsv", [folder / name for name in shards], ["mask_id", "seed", "image"])
    return list(rows.itertuples(index=False, name=None))


def write_shards(folder, **shards):
    """A plan of 3 masks with 2 images each, and shards: names of rows such as a42, one after another."""
    tables.write_table(folder / "plan.tsv", plans.rows(["a", "b", "c"], np.array([2, 2, 2]), 42))
    for name, rows in shards.items():
        lines = ["image\tseed\tmask_id", *(f"{row}.jpg\t{row[1:]}\t{row[0]}" for row in rows.split())]
        (folder / name).write_text("\n".join(lines) + "\n")


def test_shards_in_any_order_come_in_the_plans(tmp_path):
    write_shards(tmp_path, one="a42 b42 c42", two="a43 b43 c43", whole="c43 a42 b43 b42 a43 c42", none="")
    expected = [(row[0], int(row[1:]), f"{row}.jpg") for row in ("a42", "a43", "b42", "b43", "c42", "c43")]
    assert in_order(tmp_path, "one", "two") == expected
    assert in_order(tmp_path, "two", "none", "one") == expected
    assert in_order(tmp_path, "whole") == expected


def test_a_line_that_was_cut_is_refused(tmp_path):
    write_shards(tmp_path, one="a42 b42 c42", two="a43 b43 c43")
    (tmp_path / "two").write_text((tmp_path / "two").read_text().replace("\tc", ""))
    with pytest.raises(InputError, match="two, line 4: 2 fields, want 3"):
        in_order(tmp_path, "one", "two")


MISFITS = {  # what the second of two shards holds, where the first holds a42 b42 c42 of a42 a43 b42 b43 c42 c43
    "a43 b43": "lack mask c seed 43; give all",
    "": "lack mask a seed 43, mask b seed 43, mask c seed 43; give all",
    "a43 b43 c44 c43": "hold, against the plan, mask c seed 44; give all",
    "a43 b43 c43 a42": "hold mask a seed 42 more than once",
    "a42 a43 b43 c43": "hold mask a seed 42 more than once",
    "d42 a43 b43 d42 c43": "hold mask d seed 42 more than once",
}


@pytest.mark.parametrize(("two", "said"), MISFITS.items())
def test_shards_that_dont_fit_their_plan_are_refused(tmp_path, two, said):
    write_shards(tmp_path, one="a42 b42 c42", two=two)
    with pytest.raises(InputError, match=rf"the shards of .*plan\.tsv {said}"):
        in_order(tmp_path, "one", "two")


def test_a_plan_that_holds_a_row_twice_is_refused(tmp_path):
    write_shards(tmp_path, one="a42 b42 c42 a42", two="a43 b43 c43")
    with open(tmp_path / "plan.tsv", "a") as plan:
        plan.write("a\t42\n")
    with pytest.raises(InputError, match=r"plan\.tsv: mask a, seed 42 stands there twice"):
        in_order(tmp_path, "one", "two")


@pytest.mark.parametrize("alpha", ["1.25", "inf"])
def test_a_list_differs_where_a_file_of_the_same_name_does(shard, alpha):
    def make():
        for number in (0, 1):
            filter_shard(shard, number, alpha=alpha)
        return gather(shard), (shard / "train.tsv").read_bytes()

    table, before = make()
    assert make()[1] == before

    files.write_atomic(shard / "b.png", images.png_bytes(np.array([[2, 2], [7, 2]], np.uint8)))  # the same counts
    write_masks(shard)
    other, after = make()
    changed = "digest" if alpha == "1.25" else "stamp"  # measure_margins would also give the map another stamp
    assert (other[changed] == table[changed]).tolist() == [True, True, False]
    assert other.drop(columns=changed).equals(table.drop(columns=changed))

    path, lines = shard / "margins-0.tsv", (shard / "margins-0.tsv").read_text()
    packed.pack({f"{shard}/margins/a-43.png": np.zeros((2, 2), np.uint8)}, ["other"])
    path.write_text(lines.replace("a43", "other").replace(f"{43:064x}", f"{9:064x}"))  # another image
    assert (make()[0].stamp == other.stamp).tolist() == [True, False, True]


def test_a_changed_rule_of_the_same_name_gives_another_list(shard, monkeypatch):
    """Its masks are stored nowhere, so their digests tell."""
    monkeypatch.chdir(shard)
    monkeypatch.setattr("sys.path", [*sys.path])
    monkeypatch.setattr("sys.dont_write_bytecode", True)  # which a file of the same second and size would be taken for
    found = []
    for limit in (26, 26, 30):
        monkeypatch.delitem(sys.modules, "changing", raising=False)
        (shard / "changing.py").write_text(TOY.replace("26", str(limit)))
        found.append(filter_shard(shard, 1, filter="changing:relabel").digest[0])
        (shard / "changing.py").unlink()
    assert found[0] == found[1] != found[2]


def test_missing_doubled_and_unplanned_images_are_refused(shard):
    for number in (0, 1):
        filter_shard(shard, number)
    with pytest.raises(InputError, match="lack mask b seed 42; give all"):
        gather(shard, (0,))
    with pytest.raises(InputError, match="mask a seed 42, mask a seed 43 more than once"):
        gather(shard, (0, 1, 0))
    tables.write_table(shard / "plan.tsv", plans.rows(["a", "b"], np.array([1, 1]), 42))
    with pytest.raises(InputError, match="against the plan, mask a seed 43"):
        gather(shard)
    assert not (shard / "train.tsv").exists()


def test_bad_filter_input_is_refused(shard):
    packed.pack({f"{shard}/margins/a-43.png": np.zeros((3, 2), np.uint8)}, ["a43"])
    with pytest.raises(InputError, match=r"a-43.png: the margin map is 2x3, its mask 2x2"):
        filter_shard(shard, 0)
    packs.drop(packs.find([f"{shard}/margins/b-42.png"], ["b42"]))
    with pytest.raises(InputError, match=r"b-42.png: no such margin map"):
        filter_shard(shard, 1, threads=2)
    (shard / "masks.tsv").write_text("mask_id\tmask\tcounts\tmask_sha256\nz\tz.png\t1:1\t0\n")
    with pytest.raises(InputError, match=r"doesn't hold mask\(s\) b"):
        filter_shard(shard, 1, alpha="inf")
    (shard / "masks.tsv").write_text("mask_id\tmask\tcounts\tmask_sha256\n" + "b\tb.png\t1:1\t0\n" * 2)
    with pytest.raises(InputError, match=r"mask_id 'b' stands on more than one line"):
        filter_shard(shard, 1, alpha="inf")
    (shard / "masks.tsv").write_text("mask_id\tmask\tcounts\tmask_sha256\nb\tb.png\t1-1\t0\n")
    with pytest.raises(InputError, match=r"masks.tsv: counts aren't"):
        filter_shard(shard, 1, alpha="inf")
    assert not {"0.tsv", "1.tsv", "0.classes.tsv", "1.classes.tsv"} & {path.name for path in shard.iterdir()}


TOY = """
import numpy as np

def relabel(scored):
    return np.where(scored.margin >= 26, np.uint8(1), scored.mask)

def shrink(scored):
    return scored.mask[1:]

def unknown(scored):
    return np.full_like(scored.mask, 99)
"""


def test_a_filter_from_outside(shard, monkeypatch):
    """A rule that relabels: what it changed counts as filtered."""
    monkeypatch.chdir(shard)
    monkeypatch.setattr("sys.path", [*sys.path])
    (shard / "toy_filter.py").write_text(TOY)
    table = filter_shard(shard, 1, filter="toy_filter:relabel", threads=2)
    assert filtered(table, shard) == [[[1, 2], [2, 1]]]
    assert table.filtered.tolist() == [0.5]
    classes = tables.read_table(shard / "1.classes.tsv", ["label", "pixels", "filtered"])
    assert classes.values.tolist() == [[1, 0, 0], [2, 3, 1], [7, 1, 1]]
    for rule, error in (
        ("shrink", r"filter toy_filter:shrink gives uint8 \(1, 2\), want uint8 \(2, 2\)"),
        ("unknown", r"b.png after filter toy_filter:unknown: label\(s\) \[99\]"),
        ("missing", "filter 'toy_filter:missing' can't be imported"),
    ):
        with pytest.raises(InputError, match=error):
            filter_shard(shard, 1, filter=f"toy_filter:{rule}")
    with pytest.raises(InputError, match="filter 'best' isn't known; use one of margin, none, relabel, or"):
        filter_shard(shard, 1, filter="best")
