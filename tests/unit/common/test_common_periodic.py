from __future__ import annotations

import queue

from structlog.testing import capture_logs

from components.common.periodic import Interval, Periodic


def test_a_round_that_raises_is_logged_and_the_next_one_follows() -> None:
    rounds: queue.Queue[int] = queue.Queue()

    def work() -> None:
        rounds.put(1)
        raise ZeroDivisionError

    periodic = Periodic("test", 0.001, work, "test_failed")
    with capture_logs() as lines:
        periodic.start()
        for _ in range(3):
            rounds.get(timeout=10)
        periodic.stop()
    assert {line["event"] for line in lines} == {"test_failed"}
    assert len(lines) >= 2


def test_no_round_begins_after_the_end_and_a_wait_within_a_round_ends_with_it() -> None:
    rounds: queue.Queue[bool] = queue.Queue()
    begun: queue.Queue[int] = queue.Queue()

    def work() -> None:
        begun.put(1)
        rounds.put(periodic.wait(60))

    periodic = Periodic("test", 3600, work, "test_failed")
    periodic.start()
    periodic.wake()
    begun.get(timeout=10)
    assert not periodic.ending
    periodic.stop(10)
    assert periodic.ending
    assert rounds.get(timeout=10)
    periodic.wake()
    periodic.stop()
    assert begun.empty()


def test_what_never_started_can_be_stopped() -> None:
    Periodic("test", 3600, lambda: None, "test_failed").stop()


def test_an_interval_is_due_at_once_and_then_when_it_has_passed() -> None:
    interval = Interval(10)
    assert [interval.due(now) for now in (5, 14.9, 15, 16, 40, 49.9, 50)] == [
        True, False, True, False, True, False, True
    ]  # fmt: skip
    assert [Interval(10, last=5).due(now) for now in (14, 15)] == [False, True]
