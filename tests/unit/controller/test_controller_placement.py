"""Where instances go: properties over any pool, and the pool's own arithmetic."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from components.common.bus.messages import Capacity, DeaBeat
from components.controller.pool.placement import Candidate, Need, place
from components.controller.pool.registry import PENDING_SECONDS, REMEMBER_SECONDS, Pool, remembered

NEED = Need(droplet=1, memory=64, disk=10, runtime="python3")


def first(ids: Any) -> Any:
    return ids[0]


def beat(id_: Any, memory: Any = 1024, reserved: Any = 0, **more: Any) -> Any:
    return DeaBeat(
        id=id_,
        address=f"10.0.0.{id_[-1]}",
        capacity=Capacity(memory=memory, memory_reserved=reserved),
        **more,
    )


candidates = st.lists(
    st.builds(
        Candidate,
        id=st.text("abcdefgh", min_size=1, max_size=3),
        zone=st.sampled_from(["z1", "z2", "z3"]),
        free_memory=st.integers(0, 400),
        free_disk=st.none() | st.integers(0, 100),
        free_instances=st.integers(0, 5),
        usable=st.booleans(),
        runtimes=st.sampled_from([frozenset(), frozenset({"python3"}), frozenset({"node"})]),
        droplets=st.dictionaries(st.integers(1, 2), st.integers(0, 4)),
    ),
    max_size=8,
    unique_by=lambda c: c.id,
)


@given(candidates, st.integers(0, 12))
def test_nobody_gets_more_than_fits(pool: Any, count: Any) -> None:
    chosen = Counter(place(pool, NEED, count, first))
    for c in pool:
        taken = chosen[c.id]
        if taken:
            assert c.usable
            assert not c.runtimes or "python3" in c.runtimes
            assert taken * NEED.memory <= c.free_memory
            assert taken <= c.free_instances
            assert c.free_disk is None or taken * NEED.disk <= c.free_disk


@given(candidates, st.integers(0, 12))
def test_room_is_used_to_the_end(pool: Any, count: Any) -> None:
    room = sum(
        min(
            c.free_memory // NEED.memory,
            c.free_instances,
            c.free_disk // NEED.disk if c.free_disk is not None else 99,
        )
        for c in pool
        if c.usable and (not c.runtimes or "python3" in c.runtimes)
    )
    assert len(place(pool, NEED, count, first)) == min(count, room)


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 12))
def test_equal_machines_share_equally(zones: Any, each: Any, count: Any) -> None:
    pool = [Candidate(f"{z}{n}", f"z{z}", 10_000, None, 100) for z in range(zones) for n in range(each)]
    chosen = place(pool, NEED, count, first)
    by_dea = Counter(chosen)
    by_zone = Counter(id_[0] for id_ in chosen)
    assert max(by_zone.values()) - min(by_zone[str(z)] for z in range(zones)) <= 1
    if each == 1 or zones == 1:
        assert max(by_dea.values()) - min(by_dea[c.id] for c in pool) <= 1


def test_among_equals_the_most_free_memory_then_chance() -> None:
    pool = [Candidate("a", free_memory=500), Candidate("b", free_memory=900), Candidate("c", free_memory=900)]
    offered = []

    def choose(ids: Any) -> Any:
        offered.append(list(ids))
        return ids[-1]

    assert place(pool, NEED, 1, choose) == ["c"]
    assert offered == [["b", "c"]]


def test_one_that_has_the_application_already_comes_last() -> None:
    pool = [Candidate("a", "z1", 900, droplets={1: 1}), Candidate("b", "z2", 100), Candidate("c", "z1", 800)]
    assert place(pool, NEED, 1, first) == ["b"]


def test_placements_count_until_the_beat_shows_them() -> None:
    pool = Pool()
    pool.listening(0)
    pool.observe(beat("d1", 128, droplets={"²": 1, "9" * 5000: 1}), 0, 0)
    assert pool.reserve(NEED, 3, first, 0.1) == ["d1", "d1"]
    assert pool.reserve(NEED, 1, first, 0.2) == []
    # One of the two has arrived: it is in the beat, and no longer in our memory.
    pool.observe(beat("d1", 128, 64, droplets={"1": 1}), 1, 1)
    assert pool.reserve(NEED, 1, first, 1.1) == []
    # The other never came: after a while its room is free again.
    pool.observe(beat("d1", 128, 64, droplets={"1": 1}), 1 + PENDING_SECONDS, 6)
    assert pool.reserve(NEED, 1, first, 1.2 + PENDING_SECONDS) == ["d1"]


def test_silence_is_measured_in_the_machines_own_intervals() -> None:
    pool = Pool()
    pool.listening(0)
    pool.observe(beat("d1", interval=1.0), 10, 1000)
    pool.observe(beat("d2", interval=5.0), 10, 1000)
    assert pool.state("d1", 13.9) == "up"
    assert pool.state("d1", 14.1) == "lost"
    assert pool.state("d2", 29) == "up"
    assert pool.state("d3", 10) is None
    assert pool.reserve(NEED, 2, first, 14.1) == ["d2", "d2"]
    pool.observe(beat("d1"), 20, 1010)
    assert pool.state("d1", 20) == "up"


def test_deaf_ears_lose_nobody() -> None:
    pool = Pool()
    pool.listening(0)
    pool.observe(beat("d1"), 1, 1)
    pool.deaf()
    assert pool.state("d1", 100) == "up"
    pool.listening(100)
    assert pool.state("d1", 103) == "up"
    assert pool.state("d1", 105) == "lost"


def test_who_leaves_takes_nothing_new_and_is_not_lost() -> None:
    pool = Pool()
    pool.listening(0)
    pool.observe(beat("d1", evacuating=True, droplets={"1": 2}), 0, 0)
    assert pool.state("d1", 1) == "evacuating"
    assert not pool.any_up(1)
    assert pool.reserve(NEED, 1, first, 1) == []
    assert pool.picture(10, 10)["d1"]["state"] == "lost", "with instances on it, its silence is a loss"
    pool.observe(beat("d1", stopping=True), 11, 11)
    assert pool.picture(12, 12)["d1"]["state"] == "evacuating"
    assert pool.picture(20, 20) == {}


def state_of(machine: dict[str, Any] | None) -> Any:
    assert machine is not None
    return machine["state"]


def test_a_loss_is_remembered_for_an_hour() -> None:
    pool = Pool()
    pool.listening(0)
    pool.observe(beat("d1"), 0, 0)
    assert pool.picture(100, 100)["d1"]["state"] == "lost"
    assert pool.picture(REMEMBER_SECONDS + 1, REMEMBER_SECONDS + 1) == {}
    raw = {"id": "d1", "address": "a", "capacity": {"memory": 1}}
    assert state_of(remembered(raw, 0, 100)) == "lost"
    assert state_of(remembered(raw, 99, 100)) == "up"
    assert remembered(raw, 0, REMEMBER_SECONDS + 1) is None
    assert remembered({**raw, "stopping": True}, 0, 100) is None
    assert remembered({"nonsense": 1}, 0, 100) is None
