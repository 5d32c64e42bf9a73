"""The wait for a start: its outcome, and the snapshots that it is taken from."""

from collections import Counter

import pytest

from components.client.errors import ApiError
from components.client.follow.start import AppSnapshot, StartFollower, StartOutcome


@pytest.mark.parametrize(
    ("states", "crashes", "outcome"),
    [
        (["RUNNING", "RUNNING"], (), StartOutcome.RUNNING),
        (["RUNNING", "STARTING"], (), StartOutcome.WAIT),
        (["DOWN", "DOWN"], (), StartOutcome.WAIT),
        (["DOWN", "STARTING"], ("a",), StartOutcome.CRASHED),
        (["RUNNING", "DOWN"], ("a",), StartOutcome.WAIT),
        (["RUNNING", "FLAPPING"], (), StartOutcome.CRASHED),
        ([], (), StartOutcome.WAIT),
    ],
)
def test_the_outcome_of_a_start_follows_from_states_and_crashes(states, crashes, outcome):
    assert AppSnapshot(2, Counter(states), crashes).outcome() is outcome


class FakeApi:
    def __init__(self, *snapshots):
        self.snapshots = list(snapshots)

    def instances(self, _name):
        snapshot = self.snapshots.pop(0) if len(self.snapshots) > 1 else self.snapshots[0]
        if isinstance(snapshot, Exception):
            raise snapshot
        return [{"index": 0, **one} if isinstance(one, dict) else {"state": one} for one in snapshot]

    def crashes(self, _name):
        return [{"instance": "old", "since": 1}, *getattr(self, "fresh", [])]


def wait(api, seconds, settle=0.0):
    now = [0.0]
    follower = StartFollower(
        api,
        "x",
        1,
        lambda: {"old"},
        lambda: settle,
        clock=lambda: now[0],
        sleep=lambda s: now.__setitem__(0, now[0] + s),
    )
    return follower.wait(seconds), now[0]


def test_waiting_outlives_a_controller_that_is_replaced():
    (outcome, _), _ = wait(FakeApi(["DOWN"], ApiError(503, 0, "away"), ["RUNNING"]), 10)
    assert outcome is StartOutcome.RUNNING


def test_waiting_ends_with_its_time_and_old_crashes_do_not_count():
    (outcome, snapshot), spent = wait(FakeApi(["STARTING"]), 10)
    assert outcome is StartOutcome.WAIT
    assert snapshot.text() == "0/1 running, 1 starting"
    assert 10 <= spent < 10.1


def runs(since):
    return [{"state": "RUNNING", "since": since}]


def test_what_runs_has_to_run_on_where_that_is_wanted():
    assert wait(FakeApi(["STARTING"], runs(5)), 10)[1] < 1
    (outcome, _), spent = wait(FakeApi(["STARTING"], runs(5)), 1, settle=3)
    assert outcome is StartOutcome.RUNNING
    assert 3 <= spent < 5


@pytest.mark.parametrize("after", [[["DOWN"]], [["STARTING"]], [runs(9)]])
def test_what_crashes_while_it_is_watched_has_crashed(after):
    api = FakeApi(runs(5), runs(5), runs(5), runs(5), *after)
    api.fresh = [{"instance": "new", "since": 8}]
    (outcome, snapshot), spent = wait(api, 10, settle=3)
    assert (outcome, snapshot.crashes) == (StartOutcome.CRASHED, ("new",))
    assert spent < 3


def test_what_is_replaced_without_a_crash_is_watched_anew():
    (outcome, _), spent = wait(FakeApi(*[runs(5)] * 4, runs(9)), 10, settle=3)
    assert outcome is StartOutcome.RUNNING
    assert 3.5 < spent < 6


def test_waiting_does_not_hide_that_the_application_is_gone():
    with pytest.raises(ApiError):
        wait(FakeApi(ApiError(404, 301, "gone")), 10)
