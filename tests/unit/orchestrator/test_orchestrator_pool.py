"""What a request for a pool means."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.bus_view import BusView, Dea
from orchestrator.db.models import FAILED, READY
from orchestrator.errors import RefusedError
from orchestrator.rules.pool import Member, Pool, crowded, grow, shrink, without
from tests.unit.orchestrator.hands_rig import beat


def dea(
    instances: int = 0, reserved: int | None = None, memory: int = 2048, *, evacuating: bool = False
) -> Dea:
    bus_view = BusView(None)
    droplets = {"1": instances} if instances else {}
    bus_view.on_beat(beat("10.0.0.9", droplets, reserved=reserved, memory=memory, evacuating=evacuating))
    found = bus_view.at("10.0.0.9")
    assert found is not None
    return found


def pool(*members: Member, floor: int = 1, maximum: int = 6) -> Pool:
    return Pool("dea", "dea", floor, maximum, members)


def fixed(name: str, *arguments: Any, **options: Any) -> Member:
    return Member(name, fixed=True, dea=dea(*arguments, **options))


def made(name: str, *arguments: Any, state: str = READY, **options: Any) -> Member:
    return Member(name, state=state, dea=dea(*arguments, **options))


def test_new_machines_get_the_lowest_free_numbers() -> None:
    assert grow(pool(fixed("dea1"), made("dea4")), 3, {"dea2", "core1"}) == ["dea3", "dea5", "dea6"]


def test_a_pool_does_not_outgrow_its_maximum() -> None:
    assert grow(pool(fixed("dea1"), maximum=3), 2, ()) == ["dea2", "dea3"]
    with pytest.raises(RefusedError, match=r"has 1 machines and may have 3: 3 more are too many. Ask for 2"):
        grow(pool(fixed("dea1"), maximum=3), 3, ())
    with pytest.raises(RefusedError, match="count: must be 1 or more, not 0"):
        grow(pool(fixed("dea1")), 0, ())


def test_the_cheapest_leaves_first() -> None:
    full = pool(
        fixed("dea1"),
        made("dea2", 1, 512),
        made("dea3", 1, 256),
        made("dea4", 3, 128),
        made("dea5", 2, evacuating=True),
        Member("dea6", state=FAILED),
        floor=0,
    )
    assert shrink(full, 5) == ["dea6", "dea5", "dea3", "dea2", "dea4"]
    assert shrink(pool(fixed("dea1"), made("dea2"), made("dea3")), 1) == ["dea3"]


def test_one_that_is_not_heard_gives_nothing() -> None:
    assert shrink(pool(fixed("dea1"), made("dea2"), Member("dea3")), 1) == ["dea3"]


def test_silence_of_all_removes_nobody() -> None:
    with pytest.raises(RefusedError, match="nothing is removed blindly") as raised:
        shrink(pool(Member("dea1", fixed=True), Member("dea2")), 1)
    assert raised.value.status == 409


def test_a_pool_keeps_its_floor_and_its_fixed_machines() -> None:
    with pytest.raises(
        RefusedError, match=r"2 machines and its floor is 2: 1 fewer are too few. It can lose 0"
    ):
        shrink(pool(fixed("dea1"), made("dea2"), floor=2), 1)
    with pytest.raises(
        RefusedError, match=r"2 of them are fixed and never deleted: 2 fewer are too few. It can lose 1"
    ):
        shrink(pool(fixed("dea1"), fixed("dea2"), made("dea3")), 2)
    with pytest.raises(RefusedError, match="dea1 is a fixed machine") as raised:
        without(pool(fixed("dea1"), made("dea2")), "dea1")
    assert raised.value.status == 409
    with pytest.raises(RefusedError, match="has no machine dea9") as raised:
        without(pool(fixed("dea1")), "dea9")
    assert raised.value.status == 404


def test_instances_must_fit_elsewhere() -> None:
    tight = pool(fixed("dea1", 1, 1800), made("dea2", 3, 300), made("dea3", 2, 1000))
    # dea1 has 248 MB and dea3 1048 MB left: dea2's three instances of 100 MB fit, dea3's of 500 MB each in dea2 alone.
    assert crowded(tight, ["dea2"]) == ""
    assert crowded(tight, ["dea3"]) == ""
    assert "dea2 has 3 instances with 300 MB" in crowded(tight, ["dea2", "dea3"])
    with pytest.raises(RefusedError, match="cannot lose 2 machines now"):
        shrink(tight, 2)
    assert without(tight, "dea3") == ["dea3"]


def test_memory_in_pieces_is_no_room() -> None:
    pieces = pool(fixed("dea1", 1, 1800), fixed("dea2", 1, 1800), made("dea3", 1, 400))
    assert "have no room" in crowded(pieces, ["dea3"])
    with pytest.raises(RefusedError, match="Scale applications down, or add a machine first"):
        without(pieces, "dea3")


def test_who_evacuates_is_no_room() -> None:
    assert crowded(pool(fixed("dea1", evacuating=True), made("dea2", 1)), ["dea2"]) != ""


def test_the_next_best_leaves_where_the_cheapest_cannot() -> None:
    # dea3 has one big instance that fits nowhere, dea2 two small ones that fit.
    mixed = pool(fixed("dea1", 4, 1500), made("dea2", 2, 200), made("dea3", 1, 2000), floor=1)
    assert shrink(mixed, 1) == ["dea2"]
