"""The pace of requests."""

import pytest

from components.health_manager.analysis import Start, Stop
from components.health_manager.pace import PaceQueue


def start(index, rank=0, urgency=3, tries=0):
    return Start(index, "v-1", "missing", (tries, rank, urgency))


def drain(queue, now):
    found = []
    while (request := queue.take(now)) is not None:
        found.append(request)
    return found


@pytest.fixture
def queue():
    return PaceQueue(1000.0, 0.0)


def test_the_first_instance_of_every_application_goes_first(queue):
    queue.replace(1, 10, [start(0, 0), start(1, 1)])
    queue.replace(2, 20, [start(0, 0), start(1, 1)])
    assert [(r.droplet, r.start.index) for r in drain(queue, 1)] == [(1, 0), (2, 0), (1, 1), (2, 1)]


def test_of_equals_the_application_longest_unchanged_goes_first(queue):
    queue.replace(1, 20, [start(0)])
    queue.replace(2, 10, [start(0)])
    assert [r.droplet for r in drain(queue, 1)] == [2, 1]


def test_more_urgent_reasons_go_first(queue):
    queue.replace(1, 10, [start(0, 0, 4)])
    queue.replace(2, 10, [start(0, 0, 0)])
    assert [r.droplet for r in drain(queue, 1)] == [2, 1]


def test_a_stop_is_one_message_after_what_has_nothing(queue):
    queue.replace(1, 10, [start(0, 2)], [Stop("a", "extra"), Stop("b", "extra")])
    queue.replace(2, 10, [start(0, 0)])
    kinds = [(r.droplet, len(r.stops)) for r in drain(queue, 1)]
    assert kinds == [(2, 0), (1, 2), (1, 0)]


def test_what_is_no_longer_wanted_is_not_handed_out(queue):
    queue.replace(1, 10, [start(0), start(1)])
    queue.replace(1, 11, [start(1)])
    assert len(queue) == 1
    assert [(r.start.index, r.last_updated) for r in drain(queue, 1)] == [(1, 11)]
    queue.replace(1, 12, [start(0)])
    queue.replace(1, 12)
    assert drain(queue, 2) == []
    assert len(queue) == 0


def test_the_rate_holds(queue):
    slow = PaceQueue(50.0, 0.0)
    slow.replace(1, 10, [start(n, n) for n in range(200)])
    handed = 0
    for tick in range(1, 21):
        handed += len(drain(slow, tick / 10))
    assert 95 <= handed <= 111


def test_clear_forgets_everything(queue):
    queue.replace(1, 10, [start(0)])
    queue.clear()
    assert drain(queue, 1) == []
    assert len(queue) == 0


def test_what_was_asked_for_in_vain_goes_after_what_was_not(queue):
    queue.replace(1, 10, [start(0, tries=2)])
    queue.replace(2, 20, [start(0, rank=3)])
    assert [r.droplet for r in drain(queue, 1)] == [2, 1]


def test_while_no_start_may_go_stops_do(queue):
    queue.replace(1, 10, [start(0)], [Stop("a", "extra")])
    assert [len(r.stops) for r in [queue.take(1, starts=False)]] == [1]
    assert queue.take(1, starts=False) is None
    assert queue.take(1).start == start(0)
