"""Whether the pool has room: what is summed, when it is too little, and that the alert does not flicker."""

import pytest
from hm_world import World
from hypothesis import given
from hypothesis import strategies as st

from components.common.bus.messages import Capacity, DeaBeat
from components.health_manager import alerts, capacity
from components.health_manager.alerts import Alert, Alerts
from components.health_manager.capacity import LARGEST, POOL, PoolRoom
from components.health_manager.config import Intervals
from components.health_manager.desired import DesiredApp
from components.health_manager.repairs import Repairs
from components.health_manager.state import Dea

S = Intervals()


def dea(name, memory, reserved, **more):
    made = Dea(name, 0.0, **more)
    made.capacity = Capacity(memory=memory, memory_reserved=reserved)
    return made


def app(memory, state="STARTED", instances=1, name="big"):
    return DesiredApp(1, state, instances, "v-1", staged=True, last_updated=0, memory=memory, name=name)


def test_the_sum_is_over_those_that_take_instances():
    found = capacity.room(
        [
            dea("a", 1000, 900),
            dea("b", 2000, 500),
            dea("lost", 4000, 0, lost_at=1.0),
            dea("leaving", 4000, 0, evacuating=True),
            Dea("old", 0.0),
        ],
        [app(64), app(256), app(4096, state="STOPPED"), app(8192, instances=0)],
    )
    assert found == PoolRoom(3000, 1600, 1500, 256, "big")


def test_nobody_who_says_what_it_has_is_no_news():
    assert capacity.room([Dea("old", 0.0)], [app(64)]) is None


def test_a_full_dea_has_no_room_for_the_largest():
    full = dea("a", 1000, 0)
    full.capacity = Capacity(memory=1000, instances=10, max_instances=10)
    found = capacity.room([full], [app(64)])
    assert found.most_free == 0
    assert found.low(LARGEST, S, already=False)


def test_a_pool_that_all_leave_is_low():
    found = capacity.room([dea("a", 1000, 0, evacuating=True)], [app(64)])
    assert found.low(LARGEST, S, already=False)


@given(st.integers(1, 10_000), st.integers(0, 10_000), st.integers(0, 10_000))
def test_what_was_reported_ends_later_than_it_began(memory, free, largest):
    room = PoolRoom(memory, free, free, largest)
    for subject in (POOL, LARGEST):
        if room.low(subject, S, already=False):
            assert room.low(subject, S, already=True)


def beat(memory, reserved):
    return DeaBeat(id="d", address="x", capacity=Capacity(memory=memory, memory_reserved=reserved))


def test_the_alert_begins_and_ends():
    world = World(deas=0)
    told: list[Alert] = []
    flags = Alerts(told.append)
    repairs = Repairs(S, world.desired, world.table, flags, 0.0)
    world.desired.load([app(100)], 0.0, 0.0)
    for now, reserved in enumerate((0, 850, 950, 950, 895, 880)):
        world.table.beat(beat(1000, reserved), 10.0 * now)
        repairs.look(10.0 * now, trusted=True, acting=False)
    seen = [(a.kind, a.subject, a.over) for a in told]
    # 5 % free: too little of the pool, and less than the 100 MB of the largest; 10.5 %: not yet over; 12 %: over.
    assert seen == [
        (alerts.CAPACITY_LOW, POOL, False),
        (alerts.CAPACITY_LOW, LARGEST, False),
        (alerts.CAPACITY_LOW, POOL, True),
        (alerts.CAPACITY_LOW, LARGEST, True),
    ]
    assert told[0].facts == {"memory_mb": 1000, "free_mb": 50}
    assert flags.lasting() == []


def test_a_state_in_doubt_raises_nothing():
    world = World(deas=0)
    told: list[Alert] = []
    repairs = Repairs(S, world.desired, world.table, Alerts(told.append), 0.0)
    world.table.beat(beat(1000, 1000), 0.0)
    repairs.look(0.0, trusted=False, acting=False)
    assert told == []


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_share_is_a_share(share):
    assert any("capacity_share" in p for p in Intervals(capacity_share=share).problems())
