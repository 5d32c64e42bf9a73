"""Which instances are of an earlier making, and whose turn it is to be replaced."""

from __future__ import annotations

import pytest

from components.common.bus.messages import DeaStart, Limits
from components.common.units import UnitState, UnitStatus
from components.dea.instances.instance import Instance
from components.dea.instances.renewal import Renewal, outdated


def instance(uid: int | None) -> Instance:
    record = Instance.of(
        DeaStart(droplet=3, name="a", version="v", limits=Limits(mem=64, disk=10)), "a" * 32, 5
    )
    record.uid = uid
    return record


@pytest.mark.parametrize(
    ("uid", "status", "old"),
    [
        (50001, UnitStatus(UnitState.RUNNING, 7), True),
        (50001, UnitStatus(UnitState.RUNNING, 7, user="50001"), False),
        # It is being replaced already, or there is nothing to replace.
        (50001, UnitStatus(UnitState.EXITED), False),
        # Plain processes have no account to run under.
        (None, UnitStatus(UnitState.RUNNING, 7), False),
    ],
)
def test_a_unit_without_an_account_is_of_an_earlier_making(
    uid: int | None, status: UnitStatus, old: bool
) -> None:
    assert outdated(instance(uid), status) is old


def test_one_at_a_time_asks_for_a_successor_until_it_has_gone() -> None:
    renewal = Renewal(patience=60)
    assert renewal.turn({"x"}, 10) == []
    for name in ("a", "b", "c"):
        renewal.add(name)
    live = {"a", "b", "c", "x"}
    assert renewal.left(live) == 3
    assert [renewal.turn(live, now) for now in (11, 12, 70)] == [["a"], ["a"], ["a"]]
    live -= {"a", "c"}
    assert renewal.left(live) == 1
    assert renewal.turn(live, 71) == ["b"]
    assert renewal.turn({"x"}, 72) == []
    assert renewal.left({"x"}) == 0


def test_one_that_finds_no_room_lets_the_next_have_its_turn() -> None:
    renewal = Renewal(patience=60)
    for name in ("a", "b"):
        renewal.add(name)
    live = {"a", "b"}
    turns = [renewal.turn(live, now) for now in (100, 159, 160, 219, 220)]
    assert turns == [["a"], ["a"], ["b"], ["b"], ["a"]]
    # It has its whole time, however late the one before it went.
    assert renewal.turn({"b"}, 270) == ["b"]
    assert renewal.turn({"b"}, 329) == ["b"]


def test_the_only_one_is_named_on() -> None:
    renewal = Renewal(patience=60)
    renewal.add("a")
    assert [renewal.turn({"a"}, now) for now in (100, 160, 500)] == [["a"]] * 3
