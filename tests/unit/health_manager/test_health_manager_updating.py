"""While an update rolls, two versions serve: neither is missing where the other runs, neither is surplus."""

import pytest
from hm_world import World, row
from hypothesis import given
from hypothesis import strategies as st

from components.common.bus.messages import HealthQuery, HmRequest
from components.health_manager import replies
from components.health_manager.analysis import DecisionContext, decide
from components.health_manager.config import Intervals
from components.health_manager.desired import DesiredApp, parse_row
from components.health_manager.state import AppActual, Instance


@pytest.fixture
def world() -> World:
    """Three instances of the version before; the update to the second has just been written."""
    world = World()
    world.app(1, instances=3)
    world.launch_all()
    world.run(8)
    world.change(1, run_count=2, updating="aa-1")
    return world


def starts(requests: list[HmRequest]) -> list[tuple[str, int]]:
    return [(r.version, i) for r in requests if r.op == "START" for i in r.indices or []]


def stops(requests: list[HmRequest]) -> list[str]:
    return [i for r in requests if r.op == "STOP" for i in r.instances or []]


def holder(world: World, index: int, version: str = "aa-1") -> str:
    return next(
        str(i.id)
        for d in world.deas.values()
        for i in d.instances.values()
        if (i.index, i.version) == (index, version)
    )


def test_the_row_says_it_and_absent_means_no():
    assert parse_row(1, row(updating="aa-0")).updating == "aa-0"
    assert parse_row(1, row(updating=None)).updating == ""
    assert parse_row(1, row()).updating == ""
    assert not parse_row(1, row(updating="aa-0")).same(parse_row(1, row()))


def test_the_version_before_is_left_alone_however_long_it_takes(world):
    assert world.run(300) == []


def test_an_index_that_has_been_replaced_is_left_alone_too(world):
    old = holder(world, 0)
    world.launch(1, 0)
    assert world.run(100) == []
    # The update stops the old one itself.
    world.exit(old, "STOPPED")
    assert world.run(100) == []


def test_an_index_without_either_version_is_started_with_the_new_one(world):
    world.exit(holder(world, 2))
    assert starts(world.run(2)) == [("aa-2", 2)]
    assert world.run(60) == []


def test_what_is_left_of_the_version_before_goes_when_the_update_is_over(world):
    for index in range(3):
        world.launch(1, index)
    world.run(30)
    old = {holder(world, index) for index in range(3)}
    world.change(1, updating=None)
    assert set(stops(world.run(30))) == old
    assert world.running(1) == [0, 1, 2]


def test_an_update_taken_back_leaves_the_version_before(world):
    new = world.launch(1, 0).id
    world.run(5)
    world.change(1, run_count=1, updating=None)
    made = world.run(30)
    assert stops(made) == [new]
    assert starts(made) == []
    assert world.running(1) == [0, 1, 2]


def test_one_on_a_dea_that_evacuates_gets_a_successor_of_the_new_version(world):
    home = next(d for d in world.deas.values() if holder(world, 1) in d.instances)
    mine = sorted(i.index for i in home.instances.values())
    home.evacuating = True
    assert sorted(starts(world.run(10))) == [("aa-2", index) for index in mine]
    assert world.run(60) == []


def test_a_third_version_is_surplus(world):
    stray = world.launch(1, 0, version="zz-9").id
    # It has no successor of its own, so it has its time.
    assert stops(world.run(80)) == [stray]


def test_who_asks_for_the_new_version_is_told_of_both(world):
    world.launch(1, 0)
    world.exit(holder(world, 0), "STOPPED")
    world.run(5)
    asked = HealthQuery(droplets=[{"droplet": 1, "version": "aa-2"}])
    assert [r.healthy for r in replies.health(asked, world.desired, world.table)] == [3]
    before = HealthQuery(droplets=[{"droplet": 1, "version": "aa-1"}])
    assert [r.healthy for r in replies.health(before, world.desired, world.table)] == [2]


INSTANCES = st.lists(
    st.tuples(
        st.sampled_from(["new-2", "old-1", "older-0"]),
        st.integers(0, 4),
        st.sampled_from(["RUNNING", "STARTING"]),
        st.sampled_from(["dea1", "leaving"]),
    ),
    max_size=12,
)


@given(INSTANCES, st.integers(0, 4))
def test_whatever_runs_the_two_versions_are_neither_stopped_nor_doubled(instances, wanted):
    actual = AppActual()
    for n, (version, index, state, dea) in enumerate(instances):
        actual.live[f"i{n}"] = Instance(f"i{n}", version, index, state, 0, dea, 0.0, 100.0)
    app = DesiredApp(1, "STARTED", wanted, "new-2", staged=True, last_updated=0, updating="old-1")
    decision = decide(app, actual, DecisionContext(frozenset({"leaving"}), 0.0, 101.0, Intervals()))
    stopped = {s.instance: s.reason for s in decision.stops}
    for name, instance in actual.live.items():
        assert instance.version != "old-1" or name not in stopped
        if instance.version == "new-2":
            assert stopped.get(name) in (None, "duplicate", "evacuating")
    for start in decision.starts:
        assert start.version == "new-2"
        staying = [
            i
            for i in actual.live.values()
            if i.index == start.index and i.dea != "leaving" and i.version != "older-0"
        ]
        assert staying == []
    covered = {i.index for i in actual.live.values() if i.version != "older-0"}
    assert decision.missing == len(set(range(wanted)) - covered)
