"""Order of the training pairs: halves, passes, ranks, resumption."""

from collections import Counter
from itertools import chain
from types import SimpleNamespace

import pytest

from freemask.errors import InputError
from freemask.segmentation import samplers


def draws(monkeypatch, ranks, count, sizes=(10, 30), kind=samplers.BalancedSampler, batch_size=2, skip=0, **options):
    """The first `count` draws of each rank."""
    made = []
    for rank in range(ranks):
        monkeypatch.setattr(samplers, "get_dist_info", lambda rank=rank: (rank, ranks))
        sampler = kind(SimpleNamespace(sizes=list(sizes)), batch_size=batch_size, seed=3, **options)
        sampler.skip(skip)
        stream = iter(sampler)
        made.append([next(stream) for _ in range(count)])
    return made


def steps(ranks_draws, batch_size):
    """Global batches: the draws of all ranks, step by step."""
    count = len(ranks_draws[0]) // batch_size
    return [[d for rank in ranks_draws for d in rank[s * batch_size : (s + 1) * batch_size]] for s in range(count)]


def flat(ranks_draws, batch_size):
    """The global sequence that the ranks share."""
    return list(chain.from_iterable(steps(ranks_draws, batch_size)))


@pytest.mark.parametrize(("ranks", "batch_size"), [(1, 8), (1, 2), (2, 1), (2, 3), (8, 1), (8, 2)])
def test_every_global_batch_is_half_real_half_synthetic(monkeypatch, ranks, batch_size):
    for batch in steps(draws(monkeypatch, ranks, 20 * batch_size, batch_size=batch_size), batch_size):
        assert sum(index < 10 for index in batch) == ranks * batch_size / 2


@pytest.mark.parametrize(("ranks", "batch_size"), [(1, 4), (8, 2)])
def test_an_even_batch_is_balanced_within_each_rank(monkeypatch, ranks, batch_size):
    for rank in draws(monkeypatch, ranks, 40, batch_size=batch_size):
        for start in range(0, 40, batch_size):
            assert sum(index < 10 for index in rank[start : start + batch_size]) == batch_size / 2


def test_an_odd_update_is_refused_unless_accumulated(monkeypatch):
    with pytest.raises(InputError, match="half real"):
        draws(monkeypatch, 1, 1, batch_size=1)
    stream = draws(monkeypatch, 1, 16, batch_size=1, accumulate=8)[0]
    assert sum(index < 10 for index in stream[:8]) == sum(index < 10 for index in stream[8:]) == 4


@pytest.mark.parametrize("ranks", [1, 2, 8])
def test_pairs_are_used_once_in_each_pass_in_changing_order(monkeypatch, ranks):
    stream = flat(draws(monkeypatch, ranks, 160 // ranks), 2)
    real = [int(index) for index in stream if index < 10]
    passes = [real[start : start + 10] for start in range(0, 80, 10)]
    assert all(sorted(one) == list(range(10)) for one in passes)
    assert len({tuple(one) for one in passes}) == len(passes)
    synthetic = [int(index) for index in stream if index >= 10]
    assert sorted(synthetic[:30]) == sorted(synthetic[30:60]) == list(range(10, 40))


@pytest.mark.parametrize("kind", [samplers.BalancedSampler, samplers.ShuffledSampler])
def test_ranks_share_one_sequence(monkeypatch, kind):
    one = flat(draws(monkeypatch, 1, 160, kind=kind, batch_size=16), 16)
    eight = flat(draws(monkeypatch, 8, 20, kind=kind, batch_size=2), 2)
    assert one == eight
    assert [draw.entropy for draw in one] == [draw.entropy for draw in eight]


@pytest.mark.parametrize("ranks", [1, 2, 8])
def test_skipping_continues_the_stream(monkeypatch, ranks):
    whole = draws(monkeypatch, ranks, 60)
    later = draws(monkeypatch, ranks, 26, skip=34)
    assert [rank[34:] for rank in whole] == later


def test_shuffled_sampler_uses_each_pair_once_and_repeats_real_ones_if_told(monkeypatch):
    plain = draws(monkeypatch, 1, 40, kind=samplers.ShuffledSampler)[0]
    assert sorted(plain) == list(range(40))
    repeated = Counter(draws(monkeypatch, 1, 60, kind=samplers.ShuffledSampler, repeat_real=True)[0])
    # 30 synthetic / 10 real: each real pair three times
    assert [repeated[index] for index in range(40)] == [3] * 10 + [1] * 30


# ranks, images a rank and step, steps an update accumulates; odd sizes, so that passes end anywhere in a batch
UPDATES = [
    (ranks, batch, accumulate)
    for ranks in (1, 2, 8)
    for batch in (1, 2, 3, 4)
    for accumulate in (1, 2, 4)
    if ranks * batch * accumulate % 2 == 0
]
SIZES = (7, 23)


def updates(monkeypatch, ranks, batch, accumulate, count, skip=0):
    """The pairs of each update, all ranks and accumulated steps together; `skip` updates are left out."""
    drawn = draws(monkeypatch, ranks, count * batch * accumulate, SIZES, batch_size=batch, accumulate=accumulate,
                  skip=skip * batch * accumulate)  # fmt: skip
    stream, size = flat(drawn, batch), ranks * batch * accumulate
    return [stream[start : start + size] for start in range(0, len(stream), size)]


@pytest.mark.parametrize(("ranks", "batch", "accumulate"), UPDATES)
def test_every_update_is_half_real_and_every_pair_is_used_equally_often(monkeypatch, ranks, batch, accumulate):
    half = ranks * batch * accumulate // 2
    made = updates(monkeypatch, ranks, batch, accumulate, count=-(-3 * SIZES[1] // half))  # three synthetic passes
    assert all(sum(index < SIZES[0] for index in update) == half for update in made)
    for first, size in ((0, SIZES[0]), (SIZES[0], SIZES[1])):
        side = [int(index) for update in made for index in update if first <= index < first + size]
        passes = [side[start : start + size] for start in range(0, len(side) - size + 1, size)]
        assert len(passes) >= 3
        assert all(sorted(one) == list(range(first, first + size)) for one in passes)
        assert len({tuple(one) for one in passes}) == len(passes)  # shuffled anew
        for seen in range(1, len(side) + 1):  # at any moment, not only at a pass's end
            counts = Counter(side[:seen])
            assert max(counts.values()) - min(counts[index] for index in range(first, first + size)) <= 1


@pytest.mark.parametrize(("ranks", "batch", "accumulate"), UPDATES)
def test_a_run_that_resumes_after_any_update_draws_what_was_left(monkeypatch, ranks, batch, accumulate):
    whole = updates(monkeypatch, ranks, batch, accumulate, count=12)
    for done in (1, 5, 11):
        rest = updates(monkeypatch, ranks, batch, accumulate, count=12 - done, skip=done)
        assert rest == whole[done:]
        assert [[d.entropy for d in u] for u in rest] == [[d.entropy for d in u] for u in whole[done:]]


@pytest.mark.parametrize(("ranks", "batch"), [(1, 16), (2, 8), (8, 2), (4, 1)])
def test_the_released_balance_is_half_and_half_on_average_only(monkeypatch, ranks, batch):
    """7 real pairs three times (round(23 / 7)) and 23 synthetic ones once, in each pass of 44."""
    drawn = draws(monkeypatch, ranks, 44 * 16 // ranks, SIZES, samplers.ShuffledSampler, batch, repeat_real=True)
    stream = flat(drawn, batch)
    for start in range(0, len(stream), 44):
        one = Counter(int(index) for index in stream[start : start + 44])
        assert [one[index] for index in range(30)] == [3] * 7 + [1] * 23
    shares = {sum(index < SIZES[0] for index in stream[s : s + 16]) for s in range(0, len(stream), 16)}
    assert len(shares) > 1  # batches differ
