"""Class-wise mean loss, hardness, images per mask, plans."""

import numpy as np
import pandas as pd
import pytest
from command_line import run_script

from freemask import tables
from freemask.data.masks import LabelCounts, count_labels
from freemask.errors import InputError
from freemask.selection import plans
from freemask.selection.hardness import class_wise_mean, images_at_rank, images_per_mask, mask_hardness, ranks


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
    counts = images_per_mask(np.array([0.9, 0.1, 0.5, 0.3]), n_max=8)
    assert counts.tolist() == [8, 3, 7, 5]  # by hand: ranks 4, 1, 3, 2


def test_halves_round_to_even_and_ties_keep_input_order():
    # n_max 2, N 4: 2 p / 4 = 0.5 1.0 1.5 2.0 -> round 0 1 2 2 -> 1 2 2 2
    assert images_at_rank(np.array([1, 2, 3, 4]), 2).tolist() == [1, 2, 2, 2]
    # n_max 5, N 2: 2.5 5 -> 2 5 -> 3 5
    assert images_at_rank(np.array([2, 1]), 5).tolist() == [5, 3]
    assert ranks(np.array([0.5, 0.1, 0.5, 0.1])).tolist() == [3, 1, 4, 2]
    assert images_per_mask(np.array([]), 3).tolist() == []
    assert images_per_mask(np.array([4.0]), 1).tolist() == [1]


@pytest.mark.parametrize(("number", "n_max"), [(1, 20), (7, 3), (64, 20), (1000, 6), (333, 1), (40, 5), (20, 50)])
def test_images_per_mask_are_the_released_rule(number, n_max):
    hardness = np.random.default_rng(number).integers(0, 50, number) / 50  # with ties
    assert images_per_mask(hardness, n_max).tolist() == released_resample(hardness.tolist(), n_max)


@pytest.mark.parametrize(("number", "n_max", "mean"), [(20210, 20, 10.98), (118287, 6, 3.92)])
def test_mean_images_are_the_papers(number, n_max, mean):
    assert round(images_at_rank(np.arange(1, number + 1), n_max).mean(), 2) == mean


def test_bad_arguments():
    with pytest.raises(ValueError, match="n_max is 0"):
        images_at_rank(np.array([1]), 0)
    with pytest.raises(ValueError, match="nan is not finite"):
        images_per_mask(np.array([0.1, np.nan]), 3)


def test_a_larger_n_max_only_adds_images():
    ids = [f"m{i}" for i in range(57)]
    rank = np.random.default_rng(2).permutation(57) + 1
    for count in (
        lambda n: images_at_rank(rank, n),
        lambda n: plans.uniform(ids, n),
        lambda n: plans.class_balanced(rank % 7, rank, n),
    ):
        smaller = {tuple(row) for row in plans.rows(ids, count(4), 42).itertuples(index=False)}
        for n_max in range(5, 12):
            larger = {tuple(row) for row in plans.rows(ids, count(n_max), 42).itertuples(index=False)}
            assert smaller <= larger
            smaller = larger


def by_strategy(hardness, counts, class_loss, ids, n_max):
    """Images per mask of every strategy that looks at other masks."""
    rank = ranks(hardness)
    return {
        "hardness": images_at_rank(rank, n_max),
        "uniform": plans.uniform(ids, n_max),
        "class_balanced": plans.class_balanced(plans.class_priority(counts, class_loss), rank, n_max),
    }


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
    assert plans.uniform(["m1", "m2", "m3", "m4"], 8).tolist() == [5, 6, 6, 6]


def test_uniform_has_the_same_total_and_differs_by_at_most_one():
    for number, n_max in ((1, 4), (57, 5), (100, 20)):
        counts = plans.uniform([str(i) for i in range(number)], n_max)
        assert counts.sum() == images_at_rank(np.arange(1, number + 1), n_max).sum()
        assert counts.max() - counts.min() <= 1


def test_class_priority_by_hand():
    # the example of docs/plans.md: labels 1 sky, 2 road, 7 ship
    counts = LabelCounts.parse(["1:50 2:50", "1:90 2:10", "1:20 2:80", "1:98 7:2"])
    priority = plans.class_priority(counts, losses(_1=0.1, _2=0.2, _7=0.9))
    np.testing.assert_allclose(priority, [0.2 / np.sqrt(0.75)] * 3 + [1.8])
    # hardness 0.15, 0.11, 0.18, 0.116: among equals the easier mask comes first
    rank = ranks(mask_hardness(counts, losses(_1=0.1, _2=0.2, _7=0.9)))
    assert plans.class_balanced(priority, rank, n_max=8).tolist() == [5, 3, 7, 8]


def test_stray_pixels_claim_nothing():
    counts = LabelCounts.parse(["1:9999 7:1", "1:9990 7:10"])
    priority = plans.class_priority(counts, losses(_1=0.1, _7=0.9))
    np.testing.assert_allclose(priority, [0.1, 0.9 / np.sqrt(0.5)])
    with pytest.raises(ValueError, match="presence"):
        plans.class_priority(counts, losses(_1=0.1, _7=0.9), presence=0.5)


def test_rows_are_masks_with_their_first_seeds():
    plan = plans.rows(["b", "a"], np.array([2, 1]), first_seed=42)
    assert list(plan.itertuples(index=False, name=None)) == [("b", 42), ("b", 43), ("a", 42)]


@pytest.mark.parametrize("ids", [["b", "a"], ['a"b', "ü x"], ["tab\tin", "b"]])
def test_a_plan_is_written_as_its_table_would_be(tmp_path, ids):
    for counts in (np.array([2, 1]), np.array([1, 12])):
        cells = np.array([mask_id.encode() for mask_id in ids])
        assert plans.write_plan(tmp_path / "plan.tsv", cells, counts, 42) == counts.sum()
        tables.write_table(tmp_path / "table.tsv", plans.rows(ids, counts, 42))
        assert (tmp_path / "plan.tsv").read_bytes() == (tmp_path / "table.tsv").read_bytes()


def test_long_plans_are_written_whole(tmp_path):
    """More masks than are written at once, ids of several lengths, one that would be quoted."""
    ids = [f"m{'x' * (row % 90)}{row}" for row in range(9000)]
    ids[8500] = 'a "b"'
    ranked = ranks(np.random.default_rng(0).random(9000))
    table = pd.DataFrame({"mask_id": ids, "hardness": ranked / 7, "rank": ranked})
    tables.write_table(tmp_path / "hardness.tsv", table)
    cells, rank = plans.read_ranked(tmp_path / "hardness.tsv")
    assert [cell.decode() for cell in cells] == ids and rank.tolist() == ranked.tolist()
    counts = images_at_rank(rank, 11)
    plans.write_plan(tmp_path / "plan.tsv", cells, counts, 98)
    tables.write_table(tmp_path / "table.tsv", plans.rows(ids, counts, 98))
    assert (tmp_path / "plan.tsv").read_bytes() == (tmp_path / "table.tsv").read_bytes()


@pytest.mark.parametrize("mask_id", ["b", "b" * 63, "b" * 64, "ü" * 32, "b" * 255])
def test_ids_are_read_whole(tmp_path, mask_id):
    (tmp_path / "hardness.tsv").write_text(f"mask_id\thardness\trank\na\t0.1\t2\n{mask_id}\t0.1\t1\n")
    ids, rank = plans.read_ranked(tmp_path / "hardness.tsv")
    assert [cell.decode() for cell in ids] == ["a", mask_id] and rank.tolist() == [2, 1]


@pytest.mark.parametrize("mask_id", ["", "b" * 256, "ü" * 128])
def test_ids_that_no_file_can_have_are_refused(tmp_path, mask_id):
    (tmp_path / "hardness.tsv").write_text(f"mask_id\thardness\trank\na\t0.1\t2\n{mask_id}\t0.1\t1\n")
    with pytest.raises(InputError, match=r"hardness\.tsv: a mask_id is empty or longer than 255 bytes"):
        plans.read_ranked(tmp_path / "hardness.tsv")


@pytest.mark.parametrize(("mask_id", "message"), [(b"b\xff", "isn't UTF-8"), (b"a\0b", "holds a zero byte")])
def test_ids_that_no_text_can_have_are_refused(tmp_path, mask_id, message):
    (tmp_path / "hardness.tsv").write_bytes(b"mask_id\thardness\trank\na\t0.1\t2\n" + mask_id + b"\t0.1\t1\n")
    with pytest.raises(InputError, match=rf"hardness\.tsv: .*{message}"):
        plans.read_ranked(tmp_path / "hardness.tsv")


def test_measured_seconds_are_those_of_shards_that_made_images(tmp_path):
    def shard(name, log, benchmark):
        path = tmp_path / "freestyle" / "p" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".log").write_text(log)
        path.with_suffix(".benchmark.tsv").write_text(benchmark)

    assert plans.measured_seconds(tmp_path) == {}
    shard("1-of-3", "x\nsynthesize 1-of-3: 30 images made, 2 were there\n", "s\th:m:s\n60.0\t0:01:00\n")
    shard("2-of-3", "synthesize 2-of-3: 10 images made, 0 were there\n", "s\th:m:s\n40.0\t0:00:40\n")
    shard("3-of-3", "synthesize 3-of-3: 0 images made, 9 were there\n", "s\th:m:s\n5.0\t0:00:05\n")
    shard("1-of-1", "error", "s\n")
    assert plans.measured_seconds(tmp_path) == {"freestyle": (100 / 40, 40)}


@pytest.fixture
def tables(tmp_path):
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


def test_scripts_rate_and_plan(tables, capsys):
    rate(tables)
    table = tables.read_table(tables / "hardness.tsv", ["mask_id", "hardness", "rank"])
    np.testing.assert_allclose(table.hardness, [0.15, 0.11, 0.18, 0.116])
    assert table["rank"].tolist() == [3, 1, 4, 2]
    counts = {s: plan(tables, s).groupby("mask_id").size().tolist() for s in plans.STRATEGIES}
    assert counts["hardness"] == [7, 3, 8, 5]
    assert counts["class_balanced"] == [5, 3, 7, 8]
    assert sorted(counts["uniform"]) == [5, 6, 6, 6]
    assert counts["all"] == [8] * 4
    capsys.readouterr()
    plan(tables, "all", n_max=450, mask_size=64, seconds_per_image=2, first_seed=7)
    assert "1,800 images of 64x64: about 1.0 GPU hours at 2 s an image" in capsys.readouterr().err
    folder = tables / "logs" / "g" / "p"
    folder.mkdir(parents=True)
    (folder / "1-of-1.log").write_text("synthesize 1-of-1: 100 images made, 0 were there\n")
    (folder / "1-of-1.benchmark.tsv").write_text("s\th:m:s\n400\t0:06:40\n")
    before = (tables / "plan.tsv").read_bytes()
    plan(tables, "all", n_max=450, first_seed=7, synthesis_logs=tables / "logs")
    assert "as g took for 100 images here: 2.0 GPU hours at 4 s an image" in capsys.readouterr().err
    assert (tables / "plan.tsv").read_bytes() == before  # an estimate changes no plan


@pytest.mark.parametrize("strategy", plans.STRATEGIES)
def test_plans_are_nested_and_the_same_bytes_again(tables, strategy):
    rate(tables)
    smaller = set()
    for n_max in (1, 2, 3, 5, 8, 20):
        larger = {tuple(row) for row in plan(tables, strategy, n_max).itertuples(index=False)}
        assert smaller <= larger and {mask_id for mask_id, _ in larger} == {"m1", "m2", "m3", "m4"}
        assert max(seed for _, seed in larger) < 42 + n_max
        before = (tables / "plan.tsv").read_bytes()
        plan(tables, strategy, n_max)
        assert (tables / "plan.tsv").read_bytes() == before
        smaller = larger
    with open(tables / "masks.tsv", "a") as file:  # one mask more
        file.write("m5\tm5.png\t2:100\n")
    rate(tables)
    again = {tuple(row) for row in plan(tables, strategy, 20).itertuples(index=False)}
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
def test_what_cannot_be_rated_is_named(tables, file, old, new, error):
    path = tables / file
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(InputError, match=error):
        rate(tables)
    assert not (tables / "hardness.tsv").exists()


def test_bad_plans_are_refused(tables):
    rate(tables)
    for strategy, n_max, first_seed, error in (
        ("random", 8, 42, "--strategy random: want one of hardness, uniform, all, class_balanced"),
        ("all", 0, 42, "--n-max 0"),
        ("all", 1, -1, "--first-seed -1"),
    ):
        with pytest.raises(InputError, match=error):
            plan(tables, strategy, n_max, first_seed=first_seed)
    (tables / "hardness.tsv").write_text("mask_id\thardness\trank\nm1\t0.1\t1\nm2\t0.2\t3\n")
    with pytest.raises(InputError, match="ranks aren't 1 to 2"):
        plan(tables, "hardness")
    (tables / "hardness.tsv").write_text("mask_id\thardness\trank\nm1\t0.1\t1\nm2\t0.2\t2\n")
    with pytest.raises(InputError, match="list different masks"):
        plan(tables, "class_balanced")
    assert not (tables / "plan.tsv").exists()
