"""The ring of ports: in turn, resting, kept over a restart."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.dea.errors import NoRoomError
from components.dea.instances.number_ring import Ring, RingState


def test_numbers_go_round_and_rest() -> None:
    ring = Ring(1, 3, rest=240)
    assert [ring.take(), ring.take()] == [1, 2]
    ring.give_back(1)
    assert ring.take() == 3
    with pytest.raises(NoRoomError, match="1 to 3"):
        ring.take()
    ring.advance(239)
    with pytest.raises(NoRoomError):
        ring.take()
    ring.advance(1)
    assert ring.take() == 1


def test_what_is_unusable_is_passed_over() -> None:
    assert Ring(1, 5).take(lambda number: number > 3) == 4


def test_a_restart_forgets_neither_the_place_nor_the_rest() -> None:
    ring = Ring(1, 4, rest=10)
    ring.take()
    gone = ring.take()
    ring.give_back(gone)
    ring.advance(4)
    again = Ring(1, 4, rest=10, state=ring.state())
    again.claim([1])
    assert again.state() == RingState(3, {2: 6})
    assert [again.take(), again.take()] == [3, 4]
    with pytest.raises(NoRoomError):
        again.take()


def test_a_state_of_another_range_is_no_harm() -> None:
    assert Ring(10, 12, state=RingState(99, {1: 5, 11: 5})).take() == 10


def test_without_rest_a_number_is_free_at_once() -> None:
    ring = Ring(1, 1)
    ring.give_back(ring.take())
    assert ring.take() == 1


@given(st.lists(st.sampled_from(["take", "back", "tick"]), max_size=60))
def test_no_number_is_ever_held_twice_or_within_its_rest(steps: list[str]) -> None:
    ring = Ring(1, 5, rest=3)
    held: list[int] = []
    returned: dict[int, int] = {}
    now = 0
    for step in steps:
        if step == "tick":
            now += 1
            ring.advance(1)
        elif step == "back" and held:
            number = held.pop(0)
            returned[number] = now
            ring.give_back(number)
        elif step == "take":
            try:
                number = ring.take()
            except NoRoomError:
                continue
            assert number not in held
            assert now - returned.get(number, -99) >= 3
            held.append(number)
