"""Work that runs ahead on threads."""

import threading

import pytest

from freemask.parallel import map_ahead


@pytest.mark.parametrize(("threads", "ahead"), [(1, 1), (2, 3), (4, 100)])
def test_order_stays_and_no_more_than_ahead_are_taken(threads, ahead):
    taken = []

    def items():
        for number in range(20):
            taken.append(threading.current_thread())
            yield number

    given = map_ahead(lambda number: number * number, items(), threads, ahead)
    for position, result in enumerate(given):
        assert result == position * position
        assert len(taken) <= position + ahead
    assert set(taken) == {threading.current_thread()}  # a model stays on its thread


def test_what_work_raises_comes_at_its_turn():
    given = map_ahead(lambda number: 1 // (2 - number), range(5), 2, 3)
    assert [next(given), next(given)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(given)
