"""Who leads: the decision, on a clock of its own."""

import pytest

from components.health_manager.lease import LeaseState


@pytest.fixture
def state():
    return LeaseState("me", 5.0)


def test_nobody_leads_before_an_answer(state):
    assert not state.leads(0.0)
    assert not state.someone_else_leads(0.0)


def test_a_grant_counts_from_before_the_request_and_ends_early(state):
    state.granted(3, sent=100.0, now=100.8)
    assert state.leads(104.4)
    assert not state.leads(104.5)
    assert (state.token, state.since) == (3, 100.8)


def test_an_answer_that_came_too_late_gives_nothing(state):
    state.granted(3, sent=100.0, now=106.0)
    assert not state.leads(106.0)


def test_renewing_keeps_the_beginning(state):
    state.granted(3, 100.0, 100.0)
    state.granted(3, 102.0, 102.1)
    assert state.since == 100.0
    assert state.leads(106.4)


def test_a_gap_begins_anew(state):
    state.granted(3, 100.0, 100.0)
    state.granted(4, 110.0, 110.0)
    assert state.since == 110.0


def test_a_refusal_ends_it_at_once_and_names_the_other(state):
    state.granted(3, 100.0, 100.0)
    state.refused("other", 4, 4.0, 101.0)
    assert not state.leads(101.0)
    assert state.someone_else_leads(104.9)
    assert not state.someone_else_leads(105.1)
    assert (state.other, state.token) == ("other", 4)


def test_a_watcher_asks_as_soon_as_the_others_time_is_up(state):
    state.refused("other", 4, 5.0, 100.0)
    assert state.wait(1.5, 100.0) == 1.5
    assert state.wait(1.5, 104.5) == pytest.approx(0.55)
    assert state.wait(1.5, 104.99) == pytest.approx(0.1)


def test_a_leader_renews_in_its_time_and_a_lonely_one_tries_often(state):
    assert state.wait(1.5, 100.0) == 0.5
    state.granted(3, 100.0, 100.0)
    assert state.wait(1.5, 101.0) == 1.5


@pytest.mark.parametrize("delay", [0.0, 0.9, 4.0])
def test_the_old_leader_has_ended_before_the_keeper_can_grant_again(state, delay):
    state.granted(1, sent=100.0, now=100.0 + delay)
    # The keeper handled the request at 100.0 at the earliest, and holds it for five seconds.
    assert not state.leads(105.0)
