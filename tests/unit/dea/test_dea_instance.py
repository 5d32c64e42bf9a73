"""Instances and their registry: states, filters, room, answers to discover."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from components.common.bus.messages import DeaDiscover, DeaStart, FindDroplet, Limits
from components.common.states import InstanceState
from components.dea.errors import NoRoomError, TransitionError
from components.dea.instances.instance import Instance, TaskFacts
from components.dea.instances.registry import Bounds, Registry, answers_discover

_ids = itertools.count()
ALLOWED = {
    (InstanceState.STARTING, InstanceState.RUNNING),
    (InstanceState.STARTING, InstanceState.STOPPING),
    (InstanceState.STARTING, InstanceState.CRASHED),
    (InstanceState.RUNNING, InstanceState.STOPPING),
    (InstanceState.RUNNING, InstanceState.CRASHED),
    (InstanceState.STOPPING, InstanceState.DELETED),
    (InstanceState.CRASHED, InstanceState.DELETED),
}


def make(
    state: InstanceState = InstanceState.RUNNING, *, droplet: int = 1, index: int = 0, mem: int = 64
) -> Instance:
    message = DeaStart(
        droplet=droplet, name="a", version="v1", uris=["a.x"], index=index, limits=Limits(mem=mem, disk=100)
    )
    instance = Instance.of(message, f"{next(_ids):032x}", 100.7)
    instance.state = state
    return instance


def registry(*instances: Instance, memory: int = 256, disk: int = 1000, count: int = 10) -> Registry:
    found = Registry(Bounds(memory, disk, count))
    for instance in instances:
        found.add(instance)
    return found


@pytest.mark.parametrize(("before", "after"), list(itertools.product(InstanceState, InstanceState)))
def test_only_some_transitions_are_possible(before: InstanceState, after: InstanceState) -> None:
    instance = make(before)
    if (before, after) in ALLOWED:
        instance.move(after, 200.9, "because")
        assert (instance.state, instance.state_timestamp, instance.detail) == (after, 200, "because")
    else:
        with pytest.raises(TransitionError):
            instance.move(after, 200)
        assert instance.state is before


def test_route_names_the_instance_and_is_none_without_port_or_uris() -> None:
    instance = make()
    assert instance.route("d", "10.0.0.1") is None
    instance.port = 61001
    instance.framework = "wsgi"
    route = instance.route("d", "10.0.0.1")
    assert route is not None
    assert (route.port, route.uris, route.tags) == (61001, ["a.x"], {"framework": "wsgi"})
    assert route.private_instance_id == instance.id
    assert instance.route("d", "10.0.0.1", []) is None


def test_what_is_being_stopped_still_holds_its_memory_but_is_not_found() -> None:
    found = registry(make(InstanceState.STOPPING), make(InstanceState.CRASHED), make(InstanceState.STARTING))
    assert found.capacity().memory_reserved == 128
    assert found.capacity().instances == 2
    assert [i.state for i in found.find(1)] == [InstanceState.CRASHED, InstanceState.STARTING]
    assert found.counts() == {"1": 1}


@pytest.mark.parametrize(
    ("bounds", "word"),
    [
        ({"memory": 100}, "64 MB of memory wanted, 36 MB free"),
        ({"disk": 150}, "disk"),
        ({"count": 1}, "instances"),
    ],
)
def test_room_is_refused_by_name(bounds: dict[str, int], word: str) -> None:
    with pytest.raises(NoRoomError, match=word):
        registry(make(), **bounds).check_room(Limits(mem=64, disk=100))


def test_filters_narrow_and_both_names_of_instances_are_honoured() -> None:
    one, two = make(index=0), make(index=1)
    found = registry(one, two, make(droplet=2))
    assert found.asked_for(FindDroplet(droplet=1)) == [one, two]
    assert found.asked_for(FindDroplet(droplet=1, indices=[1])) == [two]
    assert found.asked_for(FindDroplet(droplet=1, instances=[one.id])) == [one]
    assert found.asked_for(FindDroplet(droplet=1, instance_ids=[two.id])) == [two]
    assert found.asked_for(FindDroplet(droplet=1, states=["CRASHED"])) == []
    assert found.asked_for(FindDroplet(droplet=1, version="v2")) == []
    assert found.asked_for(FindDroplet(droplet=1, instances=[])) == []


def test_discover_is_answered_with_room_and_runtime_only() -> None:
    found = registry(make())
    fits, too_much = Limits(mem=64, disk=10), Limits(mem=500, disk=10)
    assert answers_discover(DeaDiscover(droplet=1, limits=fits, runtime="python"), found, ["python"])
    assert answers_discover(DeaDiscover(droplet=1, limits=fits), found, [])
    assert not answers_discover(DeaDiscover(droplet=1, limits=fits, runtime="ruby"), found, ["python"])
    assert not answers_discover(DeaDiscover(droplet=1, limits=too_much), found, [])


def test_emptier_deas_answer_first() -> None:
    assert registry().taint(1) == 0
    # 10 ms for the one of the same application, 100 ms times the quarter of the memory.
    assert registry(make()).taint(1) == pytest.approx(0.035)
    assert registry(make()).taint(2) == pytest.approx(0.025)
    assert registry(*(make(mem=8) for _ in range(30))).taint(1) == 0.25


def test_taint_is_exact() -> None:
    """Protocol 4.3: min(250, 10 x same + 100 x reserved / max) milliseconds; crashed ones hold nothing."""
    found = registry(
        make(mem=64), make(mem=64), make(droplet=2, mem=32), make(InstanceState.CRASHED), memory=320
    )
    assert found.taint(1) == pytest.approx((10 * 2 + 100 * 160 / 320) / 1000)
    assert found.taint(2) == pytest.approx((10 * 1 + 50) / 1000)
    assert found.taint(3) == pytest.approx(0.05)
    # One that stops is no more of the application's, but has its memory yet.
    assert registry(make(InstanceState.STOPPING, mem=128)).taint(1) == pytest.approx(0.05)


def test_a_full_file_system_is_no_room() -> None:
    found = registry()
    found.disk_full = "96 percent of its inodes are taken"
    with pytest.raises(NoRoomError, match="nearly full: 96 percent of its inodes are taken"):
        found.check_room(Limits(mem=1, disk=1))
    # So that nobody is sent here in vain.
    assert (found.capacity().disk_reserved, found.capacity().memory_reserved) == (1000, 0)


def test_every_filter_of_a_stop_narrows() -> None:
    starting, running, crashed = (
        make(InstanceState.STARTING),
        make(index=1),
        make(InstanceState.CRASHED, index=1),
    )
    crashed.version = "v2"
    found = registry(starting, running, crashed, make(InstanceState.STOPPING), make(droplet=2))

    def chosen(**filters: Any) -> list[Instance]:
        return found.find(1, **filters)

    assert chosen() == [starting, running, crashed]
    assert chosen(version="v2") == [crashed]
    assert chosen(version="") == []
    assert chosen(instances=[running.id, crashed.id]) == [running, crashed]
    assert chosen(instances=[]) == []
    assert chosen(indices=[1]) == [running, crashed]
    assert chosen(states=["RUNNING", "STARTING"]) == [starting, running]
    assert chosen(indices=[1], states=["RUNNING"], version="v1", instances=[running.id]) == [running]
    assert chosen(indices=[0], states=["RUNNING"]) == []


def test_tasks_hold_memory_and_are_no_instances() -> None:
    task = make()
    task.task = TaskFacts(timeout=5, deadline=10)
    found = registry(task)
    assert task.unit == f"ingot-task-{task.id}"
    assert found.find(1) == found.live() == found.in_state(*InstanceState) == []
    assert found.counts() == {}
    assert found.tasks() == found.watched() == [task]
    assert found.capacity().memory_reserved == 64


def test_crashed_ones_expire() -> None:
    old, young = make(InstanceState.CRASHED), make(InstanceState.CRASHED)
    old.state_timestamp, young.state_timestamp = 100, 3000
    assert registry(old, young, make()).expired(3701, 3600) == [old]


def crashed(kept: int, when: int, **more: Any) -> Instance:
    found = make(InstanceState.CRASHED, **more)
    found.kept_mb, found.state_timestamp, found.released = kept, when, True
    return found


def test_what_is_kept_of_crashed_ones_counts_and_goes_first_where_room_is_wanted() -> None:
    old, young = crashed(40, 100), crashed(30, 200)
    clearing = crashed(50, 50)
    clearing.released = False
    found = registry(young, old, clearing, disk=1000)
    assert found.capacity().disk_reserved == 70
    found.check_room(Limits(mem=1, disk=1000))
    with pytest.raises(NoRoomError, match="1001 MB of disk wanted, 1000 MB free"):
        found.check_room(Limits(mem=1, disk=1001))
    assert found.in_the_way(Limits(mem=1, disk=930)) == []
    assert found.in_the_way(Limits(mem=1, disk=931)) == [old]
    assert found.in_the_way(Limits(mem=1, disk=1000)) == [old, young]


def test_crashed_ones_hold_a_tenth_of_the_disk_at_most() -> None:
    old, young = crashed(60, 100), crashed(60, 200)
    assert registry(young, old, disk=1200).expired(200, 3600) == []
    assert registry(young, old, disk=1190).expired(200, 3600) == [old]
    assert registry(young, old, disk=1190).expired(3701, 3600) == [old]
