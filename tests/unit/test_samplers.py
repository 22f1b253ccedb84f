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
