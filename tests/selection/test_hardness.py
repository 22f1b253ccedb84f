"""Class-wise mean loss, hardness, images per mask, plans."""

import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from command_line import run_script
from cyclopts import CycloptsError

from freemask import tables
from freemask.data.masks import LabelCounts, count_labels
from freemask.errors import InputError
from freemask.selection import plans
from freemask.selection.estimates import measured_seconds
from freemask.selection.hardness import class_wise_mean, images_at_rank, mask_hardness, ranks
from freemask.selection.strategies import STRATEGIES, class_priority


def losses(**by_label):
    table = np.full(256, np.nan)
    for label, value in by_label.items():
        table[int(label[1:])] = value
    return table


def released_resample(hardness, n_max):
    """preprocess/resample.py, restated: sort by hardness, then a loop over ranks with Python's round."""
    order = sorted(range(len(hardness)), key=lambda i: hardness[i])
    images = [0] * len(hardness)
    for p, i in enumerate(order, start=1):
        images[i] = min(1 + round(n_max * p / len(hardness)), n_max)
    return images


def test_class_wise_mean_by_hand():
    mean = class_wise_mean(np.array([6.0, 0.5, 0.0]), np.array([3, 1, 0]))
    np.testing.assert_allclose(mean, [6 / 3.00001, 0.5 / 1.00001, 0.0], rtol=1e-15)
    for bad in ([np.nan, 0, 0], [-1.0, 0, 0]):
        with pytest.raises(ValueError, match="finite"):
            class_wise_mean(np.array(bad), np.array([1, 1, 1]))
    with pytest.raises(ValueError, match="shape"):
        class_wise_mean(np.zeros(2), np.zeros(3))


def test_mask_hardness_by_hand():
    counts = LabelCounts.parse(["1:3 7:1", "", "1:2"])
    rated = mask_hardness(counts, losses(_1=0.2, _7=1.0))
    np.testing.assert_allclose(rated, [(3 * 0.2 + 1 * 1.0) / 4, np.nan, 0.2])


def test_mask_hardness_equals_the_mean_over_pixels():
    random = np.random.default_rng(1)
    class_loss = random.uniform(0.01, 3, 256)
    masks = random.integers(0, 5, (20, 16, 16), dtype=np.uint8)
    rated = mask_hardness(LabelCounts.parse([count_labels(mask, ignored=0) for mask in masks]), class_loss)
    plain = [np.mean([class_loss[label] for label in mask.ravel() if label != 0]) for mask in masks]
    np.testing.assert_allclose(rated, plain, rtol=1e-12)


def test_harder_masks_get_more_images():
    counts = images_at_rank(ranks(np.array([0.9, 0.1, 0.5, 0.3])), n_max=8)
    assert counts.tolist() == [8, 3, 7, 5]  # by hand: ranks 4, 1, 3, 2


def test_halves_round_to_even_and_ties_keep_input_order():
    # n_max 2, N 4: 2 p / 4 = 0.5 1.0 1.5 2.0 -> round 0 1 2 2 -> 1 2 2 2
    assert images_at_rank(np.array([1, 2, 3, 4]), 2).tolist() == [1, 2, 2, 2]
    # n_max 5, N 2: 2.5 5 -> 2 5 -> 3 5
    assert images_at_rank(np.array([2, 1]), 5).tolist() == [5, 3]
    assert ranks(np.array([0.5, 0.1, 0.5, 0.1])).tolist() == [3, 1, 4, 2]
    assert images_at_rank(ranks(np.array([])), 3).tolist() == []
    assert images_at_rank(ranks(np.array([4.0])), 1).tolist() == [1]


@pytest.mark.parametrize(("number", "n_max"), [(1, 20), (7, 3), (64, 20), (1000, 6), (333, 1), (40, 5), (20, 50)])
def test_images_at_ranks_are_the_released_rule(number, n_max):
    hardness = np.random.default_rng(number).integers(0, 50, number) / 50  # with ties
    assert images_at_rank(ranks(hardness), n_max).tolist() == released_resample(hardness.tolist(), n_max)


@pytest.mark.parametrize(("number", "n_max", "mean"), [(20210, 20, 10.98), (118287, 6, 3.92)])
def test_mean_images_are_the_papers(number, n_max, mean):
    assert round(images_at_rank(np.arange(1, number + 1), n_max).mean(), 2) == mean


def test_bad_arguments():
    with pytest.raises(ValueError, match="n_max is 0"):
        images_at_rank(np.array([1]), 0)
    with pytest.raises(ValueError, match="nan is not finite"):
        ranks(np.array([0.1, np.nan]))


def looked_at(mask_ids, rank, counts=None, class_loss=None):
    """What a strategy looks at, without tables."""
    return SimpleNamespace(mask_ids=list(mask_ids), rank=rank, counts=counts, class_loss=class_loss)


def test_a_larger_n_max_only_adds_images():
    ids = [f"m{i}" for i in range(57)]
    rank = np.random.default_rng(2).permutation(57) + 1
    counts = LabelCounts.parse([f"1:50 {2 + row % 7}:50" for row in range(57)])
    masks = looked_at(ids, rank, counts, np.linspace(0.1, 2, 256))
    for strategy in STRATEGIES.values():
        smaller = {tuple(row) for row in plans.rows(ids, strategy(masks, 4), 42).itertuples(index=False)}
        for n_max in range(5, 12):
            larger = {tuple(row) for row in plans.rows(ids, strategy(masks, n_max), 42).itertuples(index=False)}
            assert smaller <= larger
            smaller = larger


def by_strategy(hardness, counts, class_loss, ids, n_max):
    """Images per mask of every strategy that looks at other masks."""
    masks = looked_at(ids, ranks(hardness), counts, class_loss)
    return {name: STRATEGIES[name](masks, n_max) for name in ("hardness", "uniform", "class_balanced")}


@pytest.mark.parametrize(("added", "n_max"), [(1, 20), (5, 20), (40, 6)])
def test_adding_masks_changes_others_as_little_as_ranks_allow(added, n_max):
    """A rank p of N becomes p to p + added of N + added, so n_max p / N moves by at most n_max added / (N + added)."""
    random, number = np.random.default_rng(added), 300
    ids = np.array([f"m{i:03d}" for i in range(number + added)])
    labels = [f"1:{a} {b}:{100 - a}" for a, b in zip(random.integers(20, 80, len(ids)), 2 + np.arange(len(ids)) % 5,
                                                     strict=True)]  # fmt: skip
    class_loss = losses(_1=0.1, _2=0.2, _3=0.4, _4=0.8, _5=1.6, _6=3.2)
    hardness = np.round(mask_hardness(LabelCounts.parse(labels), class_loss), 1)  # with ties
    new = np.zeros(len(ids), bool)
    new[random.choice(len(ids), added, replace=False)] = True  # somewhere between the others
    old = np.flatnonzero(~new)
    before = by_strategy(hardness[old], LabelCounts.parse([labels[i] for i in old]), class_loss, ids[old], n_max)
    after = by_strategy(hardness, LabelCounts.parse(labels), class_loss, ids, n_max)
    for strategy, counts in before.items():
        change = np.abs(after[strategy][old] - counts)
        assert change.max() <= np.ceil(n_max * added / (number + added)), strategy
        kept = {tuple(row) for row in plans.rows(ids[old], counts, 42).itertuples(index=False)}
        now = {tuple(row) for row in plans.rows(ids, after[strategy], 42).itertuples(index=False)}
        assert len(kept - now) == np.maximum(counts - after[strategy][old], 0).sum(), strategy  # all others are re-used
    order = np.argsort(ranks(hardness))  # the old ones among themselves, ties too, as they were
    assert np.array_equal(order[np.isin(order, old)], old[np.argsort(ranks(hardness[old]))])


def test_uniform_by_hand():
    """The hardness strategy makes 23 images of 4 masks with n_max 8 (3 + 5 + 7 + 8): 5 each and three more.

    SHA-256 of m1 to m4 begins with ca0d, 29c1, 1538, 2396: all but m1 get one more.
    """
    assert STRATEGIES["uniform"](looked_at(["m1", "m2", "m3", "m4"], np.arange(1, 5)), 8).tolist() == [5, 6, 6, 6]


def test_uniform_has_the_same_total_and_differs_by_at_most_one():
    for number, n_max in ((1, 4), (57, 5), (100, 20)):
        rank = np.arange(1, number + 1)
        counts = STRATEGIES["uniform"](looked_at(map(str, range(number)), rank), n_max)
        assert counts.sum() == images_at_rank(rank, n_max).sum()
        assert counts.max() - counts.min() <= 1


def test_class_priority_by_hand():
    # the example of docs/selection.md: labels 1 sky, 2 road, 7 ship
    counts = LabelCounts.parse(["1:50 2:50", "1:90 2:10", "1:20 2:80", "1:98 7:2"])
    class_loss = losses(_1=0.1, _2=0.2, _7=0.9)
    priority = class_priority(counts, class_loss)
    np.testing.assert_allclose(priority, [0.2 / np.sqrt(0.75)] * 3 + [1.8])
    # hardness 0.15, 0.11, 0.18, 0.116: among equals the easier mask comes first
    masks = looked_at([], ranks(mask_hardness(counts, class_loss)), counts, class_loss)
    assert STRATEGIES["class_balanced"](masks, n_max=8).tolist() == [5, 3, 7, 8]


def test_stray_pixels_claim_nothing():
    counts = LabelCounts.parse(["1:9999 7:1", "1:9990 7:10"])
    priority = class_priority(counts, losses(_1=0.1, _7=0.9))
    np.testing.assert_allclose(priority, [0.1, 0.9 / np.sqrt(0.5)])


def test_rows_are_masks_with_their_first_seeds():
    plan = plans.rows(["b", "a"], np.array([2, 1]), first_seed=42)
    assert list(plan.itertuples(index=False, name=None)) == [("b", 42), ("b", 43), ("a", 42)]


def test_a_plan_is_written_from_its_ranks(tmp_path):
    """Ids of several lengths, with characters that tables quote, or that aren't ASCII."""
    ids = [f"m{'x' * (row % 90)}{row}" for row in range(9000)] + ['a "b"', "ü x", "tab\tin"]
    ranked = ranks(np.random.default_rng(0).random(len(ids)))
    table = pd.DataFrame({"mask_id": ids, "hardness": ranked / 7, "rank": ranked})
    tables.write_table(tmp_path / "hardness.tsv", table)
    found, rank = plans.read_ranked(tmp_path / "hardness.tsv")
    assert found == ids and rank.tolist() == ranked.tolist()
    run_script("plan_synthesis", hardness=tmp_path / "hardness.tsv", strategy="hardness", n_max=11, first_seed=98,
               plan=tmp_path / "plan.tsv")  # fmt: skip
    plan = plans.read_plan(tmp_path / "plan.tsv")
    images = dict(zip(ids, images_at_rank(ranked, 11), strict=True))
    expected = [(mask_id, seed) for mask_id in ids for seed in range(98, 98 + images[mask_id])]
    assert list(plan.itertuples(index=False, name=None)) == expected


@pytest.mark.parametrize("mask_id", ["b", "b" * 63, "b" * 64, "ü" * 32, "b" * 150])
def test_ids_are_read_whole(tmp_path, mask_id):
    (tmp_path / "hardness.tsv").write_text(f"mask_id\thardness\trank\na\t0.1\t2\n{mask_id}\t0.1\t1\n")
    ids, rank = plans.read_ranked(tmp_path / "hardness.tsv")
    assert ids == ["a", mask_id] and rank.tolist() == [2, 1]


@pytest.mark.parametrize("mask_id", [b"", b"b" * 151, "ü".encode() * 76, b"a\0b", b"b\xff"])
def test_ids_that_no_file_can_have_are_refused(tmp_path, mask_id):
    (tmp_path / "hardness.tsv").write_bytes(b"mask_id\thardness\trank\na\t0.1\t2\n" + mask_id + b"\t0.1\t1\n")
    with pytest.raises(
        InputError, match=r"hardness\.tsv: (mask_id .* can't be the name of a file|not a tab-separated|not UTF-8)"
    ):
        plans.read_ranked(tmp_path / "hardness.tsv")


def test_measured_seconds_are_those_of_shards_that_made_images(tmp_path):
    def shard(name, log, benchmark):
        path = tmp_path / "freestyle" / "p" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".log").write_text(log)
        path.with_suffix(".benchmark.tsv").write_text(benchmark)

    assert measured_seconds(tmp_path).empty
    shard("1-of-3", "x\nsynthesize 1-of-3: 30 images made, 2 were there\n", "s\th:m:s\n60.0\t0:01:00\n")
    shard("2-of-3", "synthesize 2-of-3: 10 images made, 0 were there\n", "s\th:m:s\n40.0\t0:00:40\n")
    shard("3-of-3", "synthesize 3-of-3: 0 images made, 9 were there\n", "s\th:m:s\n5.0\t0:00:05\n")
    shard("1-of-1", "error", "s\n")
    measured = measured_seconds(tmp_path)
    assert measured.to_dict("index") == {"freestyle": {"images": 40, "seconds_per_image": 100 / 40}}


@pytest.fixture
def made(tmp_path):
    (tmp_path / "masks.tsv").write_text(
        "mask_id\tmask\tcounts\nm1\tm1.png\t1:50 2:50\nm2\tm2.png\t1:90 2:10\n"
        "m3\tm3.png\t1:20 2:80\nm4\tm4.png\t1:98 7:2\n"
    )
    (tmp_path / "class_loss.tsv").write_text(
        "label\tname\tloss_sum\tpixels\tclass_loss\n1\tsky\t1\t10\t0.1\n2\troad\t2\t10\t0.2\n7\tship\t9\t10\t0.9\n"
        "8\tnull\t0\t0\t0\n"
    )
    return tmp_path


def rate(folder):
    run_script("mask_hardness", masks=folder / "masks.tsv", class_loss=folder / "class_loss.tsv",
                hardness=folder / "hardness.tsv")  # fmt: skip


def plan(folder, strategy, n_max=8, **more):
    run_script("plan_synthesis", hardness=folder / "hardness.tsv", masks=folder / "masks.tsv",
                class_loss=folder / "class_loss.tsv", strategy=strategy, n_max=n_max, plan=folder / "plan.tsv",
                **more)  # fmt: skip
    return tables.read_table(folder / "plan.tsv", ["mask_id", "seed"])


def test_scripts_rate_and_plan(made, capsys):
    rate(made)
    table = tables.read_table(made / "hardness.tsv", ["mask_id", "hardness", "rank"])
    np.testing.assert_allclose(table.hardness, [0.15, 0.11, 0.18, 0.116])
    assert table["rank"].tolist() == [3, 1, 4, 2]
    counts = {s: plan(made, s).groupby("mask_id").size().tolist() for s in STRATEGIES}
    assert counts["hardness"] == [7, 3, 8, 5]
    assert counts["class_balanced"] == [5, 3, 7, 8]
    assert sorted(counts["uniform"]) == [5, 6, 6, 6]
    assert counts["all"] == [8] * 4
    capsys.readouterr()
    plan(made, "all", n_max=450, mask_size=64, shards=5, seconds_per_image=2, first_seed=7)
    said = capsys.readouterr().err
    assert "1,800 images of 64x64: about 1.0 GPU hours at 2 s an image" in said
    assert "1,844 files and folders: " in said  # 4 masks in 4 subfolders, 8 files for each of 5 shards
    folder = made / "logs" / "g" / "p"
    folder.mkdir(parents=True)
    (folder / "1-of-1.log").write_text("synthesize 1-of-1: 100 images made, 0 were there\n")
    (folder / "1-of-1.benchmark.tsv").write_text("s\th:m:s\n400\t0:06:40\n")
    before = (made / "plan.tsv").read_bytes()
    plan(made, "all", n_max=450, first_seed=7, synthesis_logs=made / "logs")
    assert "as g took for 100 images here: 2.0 GPU hours at 4 s an image" in capsys.readouterr().err
    assert (made / "plan.tsv").read_bytes() == before  # an estimate changes no plan


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_plans_are_nested_and_the_same_bytes_again(made, strategy):
    rate(made)
    smaller = set()
    for n_max in (1, 2, 3, 5, 8, 20):
        larger = {tuple(row) for row in plan(made, strategy, n_max).itertuples(index=False)}
        assert smaller <= larger and {mask_id for mask_id, _ in larger} == {"m1", "m2", "m3", "m4"}
        assert max(seed for _, seed in larger) < 42 + n_max
        before = (made / "plan.tsv").read_bytes()
        plan(made, strategy, n_max)
        assert (made / "plan.tsv").read_bytes() == before
        smaller = larger
    with open(made / "masks.tsv", "a") as file:  # one mask more
        file.write("m5\tm5.png\t2:100\n")
    rate(made)
    again = {tuple(row) for row in plan(made, strategy, 20).itertuples(index=False)}
    lost = {mask_id for mask_id, _ in smaller - again}
    # rank p of 4 becomes p or p + 1 of 5, so 20 p / 4 moves by at most 20 / 5; `all` looks at no rank
    assert all(len({row for row in smaller - again if row[0] == mask_id}) <= 4 for mask_id in lost)
    assert strategy != "all" or again - smaller == {("m5", seed) for seed in range(42, 62)} and not lost


@pytest.mark.parametrize(
    ("file", "old", "new", "error"),
    [
        ("masks.tsv", "1:90 2:10", "", "1 of 4 masks have no labelled pixel: m2"),
        ("masks.tsv", "m3\t", "m1\t", "mask_id 'm1' stands on more than one line"),
        ("masks.tsv", "7:2", "8:2", r"no finite loss on any pixel for label\(s\) 8"),
        ("masks.tsv", "7:2", "9:2", r"label\(s\) 9"),
        ("class_loss.tsv", "\t0.9", "\tnan", r"label\(s\) 7"),
    ],
)
def test_what_cannot_be_rated_is_named(made, file, old, new, error):
    path = made / file
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(InputError, match=error):
        rate(made)
    assert not (made / "hardness.tsv").exists()


def test_bad_plans_are_refused(made):
    rate(made)
    with pytest.raises(InputError, match="strategy 'random' isn't known; use one of hardness, uniform, all, class_bal"):
        plan(made, "random")
    for n_max, first_seed, option in ((0, 42, "--n-max"), (1, -1, "--first-seed")):
        with pytest.raises(CycloptsError, match=option):
            plan(made, "all", n_max, first_seed=first_seed)
    (made / "hardness.tsv").write_text("mask_id\thardness\trank\nm1\t0.1\t1\nm2\t0.2\t3\n")
    with pytest.raises(InputError, match="ranks aren't 1 to 2"):
        plan(made, "hardness")
    (made / "hardness.tsv").write_text("mask_id\thardness\trank\nm1\t0.1\t1\nm2\t0.2\t2\n")
    with pytest.raises(InputError, match="list different masks"):
        plan(made, "class_balanced")
    assert not (made / "plan.tsv").exists()


TOY = """
import numpy as np

def rare(masks, n_max):
    return np.where(masks.counts.sum_by_mask(masks.counts.label == 7) > 0, n_max, masks.rank == 4)

def many(masks, n_max):
    return np.full(len(masks.rank), n_max + 1)
"""


def test_a_strategy_from_outside(made, monkeypatch):
    monkeypatch.chdir(made)
    monkeypatch.setattr("sys.path", [*sys.path])
    (made / "toy_strategy.py").write_text(TOY)
    rate(made)
    rows = plan(made, "toy_strategy:rare", n_max=3)  # m4 holds label 7, m3 is the hardest
    assert list(rows.itertuples(index=False, name=None)) == [("m3", 42), ("m4", 42), ("m4", 43), ("m4", 44)]
    with pytest.raises(InputError, match="strategy toy_strategy:many: want a whole number of 0 to 3 images for each"):
        plan(made, "toy_strategy:many", n_max=3)
    with pytest.raises(InputError, match="strategy 'toy_strategy:few' can't be imported"):
        plan(made, "toy_strategy:few")
