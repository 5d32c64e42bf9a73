"""The two tables, the answers given from them, and the configuration."""

from dataclasses import replace
from typing import Any

import pytest

from components.common.bus.messages import (
    Capacity,
    DeaBeat,
    DropletExited,
    HealthQuery,
    Heartbeat,
    HeartbeatEntry,
    IndicesReply,
    InstancesReply,
    StatusQuery,
)
from components.common.config import parse
from components.common.errors import ConfigError
from components.health_manager import replies
from components.health_manager.actual import ActualTable
from components.health_manager.analysis import Decision, DecisionContext, decide
from components.health_manager.config import HealthManagerConfig, Intervals
from components.health_manager.desired import INVALID, DesiredTable, epoch, parse_row

ROW = {
    "instances": 2,
    "state": "STARTED",
    "staged_package_hash": "ab",
    "run_count": 3,
    "package_state": "STAGED",
    "updated_at": 1_000,
    "memory": 64,
    "framework": "wsgi",
    "runtime": "python3",
    "name": "hello",
}


def entry(instance="i1", state="RUNNING", index=0, version="ab-3", droplet=1):
    return HeartbeatEntry(
        droplet=droplet, version=version, instance=instance, index=index, state=state, state_timestamp=5
    )


def beat(droplets=None, dea="d1", **more):
    return DeaBeat(id=dea, address="127.0.0.1", capacity=Capacity(memory=1), droplets=droplets or {}, **more)


def exited(instance="i1", reason="CRASHED", index=0, version="ab-3"):
    return DropletExited(
        droplet=1, version=version, instance=instance, index=index, reason=reason, crash_timestamp=9
    )


@pytest.fixture
def table():
    return ActualTable(Intervals())


# Desired.


def test_a_row_becomes_an_application():
    app = parse_row(7, ROW)
    assert (app.id, app.version, app.staged, app.instances) == (7, "ab-3", True, 2)
    assert app.last_updated == 1_000
    assert parse_row(7, {**ROW, "version": "cd-9"}).version == "cd-9"
    assert parse_row(7, {**ROW, "staged_package_hash": None}).version == ""


@pytest.mark.parametrize(
    "broken",
    [
        {"instances": "x"},
        {"instances": None},
        {"state": "ODD"},
        {"updated_at": "tomorrow"},
        {"updated_at": "²"},
        {"updated_at": "9" * 5000},
        {"updated_at": float("inf")},
        {"updated_at": None},
    ],
)
def test_a_row_without_sense_is_kept_and_left_alone(broken):
    assert parse_row(7, {**ROW, **broken}).state == INVALID


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(5, 5), (5.9, 5), ("5", 5), ("1970-01-01T00:01:00+00:00", 60), ("1970-01-01 00:01:00", 60)],
)
def test_times_are_read_as_controllers_write_them(text, seconds):
    assert epoch(text) == seconds


def test_a_change_dates_from_the_controllers_clock_and_is_reported_once():
    table = DesiredTable()
    assert table.load([parse_row(1, {**ROW, "updated_at": 5_000})], 100.0, wall=5_004.0) == [1]
    assert table.apps[1].changed_at == 96.0
    assert table.load([parse_row(1, {**ROW, "updated_at": 5_000})], 110.0, wall=5_014.0) == []
    assert table.apps[1].changed_at == 96.0
    # A clock that is ahead makes nothing older than it can be.
    table.load([parse_row(1, {**ROW, "updated_at": 9_000})], 120.0, wall=5_024.0)
    assert table.apps[1].changed_at == 120.0
    assert table.load([], 130.0, wall=5_034.0) == [1]


def test_a_reading_begun_before_the_change_is_not_fresh():
    table = DesiredTable()
    table.load([parse_row(1, ROW)], 100.0, wall=5_000.0)
    table.touch(1, 101.0)
    assert not table.fresh(1)
    assert table.load([parse_row(1, ROW)], 100.5, wall=5_000.0) == []
    assert not table.fresh(1)
    assert table.load([parse_row(1, ROW)], 102.0, wall=5_002.0) == [1]
    assert table.fresh(1)


# Actual.


def test_a_crash_is_counted_once_however_often_it_is_told(table):
    table.heartbeat(Heartbeat(dea="d1", droplets=[entry()]), 1.0)
    table.exited(exited(), 2.0)
    table.exited(exited(), 2.1)
    table.heartbeat(Heartbeat(dea="d1", droplets=[entry(state="CRASHED")]), 3.0)
    assert table.apps[1].indices["ab-3", 0].crashes == 1
    assert list(table.apps[1].crashed) == ["i1"]


def test_a_heartbeat_written_before_the_exit_brings_nobody_back(table):
    table.heartbeat(Heartbeat(dea="d1", droplets=[entry()]), 1.0)
    table.exited(exited(), 2.0)
    table.heartbeat(Heartbeat(dea="d1", droplets=[entry()]), 2.1)
    assert table.apps[1].live == {}


def test_an_unknown_instances_crash_answers_the_request_in_flight(table):
    table.request_start(1, "ab-3", 0, 1.0)
    table.exited(exited("new"), 2.0)
    assert table.apps[1].indices["ab-3", 0].requested == float("-inf")


def test_a_lost_instances_late_exit_answers_nothing(table):
    table.heartbeat(Heartbeat(dea="d1", droplets=[entry()]), 1.0)
    table.lose(table.deas["d1"], 6.0)
    table.request_start(1, "ab-3", 0, 6.1)
    table.exited(exited(), 7.0)
    assert table.apps[1].indices["ab-3", 0].requested == 6.1


def test_a_dea_of_2011_without_a_name_is_taken_instance_by_instance(table):
    table.heartbeat(Heartbeat(droplets=[entry()]), 1.0)
    assert table.deas == {}
    assert list(table.apps[1].live) == ["i1"]


def test_counts_that_fall_short_twice_drop_what_is_not_named(table):
    two = [entry("i1"), entry("i2", index=1)]
    table.heartbeat(Heartbeat(dea="d1", droplets=two), 1.0)
    table.beat(beat({"1": 2}), 1.1)
    table.heartbeat(Heartbeat(dea="d1", droplets=two[1:]), 2.0)
    table.beat(beat({"1": 1}), 2.1)
    assert len(table.apps[1].live) == 2
    table.beat(beat({"1": 1}), 3.1)
    assert list(table.apps[1].live) == ["i2"]


def test_a_single_heartbeat_does_not_make_the_others_disappear(table):
    two = [entry("i1"), entry("i2", index=1)]
    table.heartbeat(Heartbeat(dea="d1", droplets=two), 1.0)
    table.heartbeat(Heartbeat(dea="d1", droplets=two[1:]), 2.0)
    for at in (2.1, 3.1, 4.1):
        table.beat(beat({"1": 2}), at)
    assert len(table.apps[1].live) == 2


def test_what_is_counted_but_not_named_is_not_asked_for_again(table):
    app = parse_row(1, ROW)

    def asked(now):
        context = DecisionContext(frozenset(), 0.0, now, table.settings)
        return [s.index for s in decide(replace(app, changed_at=0.0), table.apps.get(1), context).starts]

    assert asked(50.0) == [0, 1]
    table.beat(beat({"1": 1}), 50.0)
    assert asked(50.1) == [0]
    # The one counted is the answer to the request in flight: the other index is still missing.
    table.request_start(1, "ab-3", 0, 50.2)
    assert asked(50.3) == [1]
    # What stays without a name for too long is nobody.
    assert asked(81.0) == [0, 1]
    table.beat(beat({}), 82.0)
    assert table.apps[1].unnamed == {}


def test_one_that_was_lost_and_is_back_does_not_answer_the_request_in_flight(table):
    table.heartbeat(Heartbeat(dea="d1", droplets=[entry()]), 1.0)
    table.lose(table.deas["d1"], 6.0)
    table.request_start(1, "ab-3", 0, 6.1)
    table.heartbeat(Heartbeat(dea="d1", droplets=[entry()]), 7.0)
    assert table.apps[1].indices["ab-3", 0].requested == 6.1
    table.heartbeat(Heartbeat(dea="d2", droplets=[entry("new")]), 8.0)
    assert table.apps[1].indices["ab-3", 0].requested == float("-inf")


def test_absurd_intervals_and_counts_are_bounded(table):
    table.beat(beat({"x": 3, "-1": 2, "²": 1, "9" * 5000: 1}, interval=0.0), 1.0)
    assert table.deas["d1"].limit(Intervals()) == pytest.approx(0.8)
    table.beat(beat(interval=1e9), 1.0)
    assert table.deas["d1"].limit(Intervals()) == 240.0


def test_an_instance_that_moves_to_another_id_of_its_dea_is_one_instance(table):
    table.heartbeat(Heartbeat(dea="d1", droplets=[entry()]), 1.0)
    table.heartbeat(Heartbeat(dea="d2", droplets=[entry()]), 2.0)
    table.lose(table.deas["d1"], 6.0)
    assert list(table.apps[1].live) == ["i1"]


def test_what_is_over_is_forgotten(table):
    table.heartbeat(Heartbeat(dea="d1", droplets=[entry()]), 1.0)
    table.exited(exited(), 2.0)
    table.tidy(1, "ab-3", 3.0)
    assert table.apps[1].crashed
    table.tidy(1, None, 1_000.0)
    assert table.apps == {}
    table.prune(1_000.0)
    assert table._gone == {}


# Answers.


def test_status_and_health(table):
    desired = DesiredTable()
    desired.load([parse_row(1, ROW)], 0.0, wall=5_000.0)
    s = table.settings
    table.heartbeat(
        Heartbeat(dea="d1", droplets=[entry(), entry("i2", "STARTING", 1), entry("o", version="ab-2")]), 1.0
    )
    (health,) = replies.health(
        HealthQuery(droplets=[{"droplet": 1, "version": "ab-3"}, {"droplet": 2}, {}]), desired, table
    )
    assert (health.droplet, health.version, health.healthy) == (1, "ab-3", 1)
    for n in range(s.flapping_death + 1):
        table.exited(exited(f"c{n}", index=1), 2.0 + n)
    flapping = replies.status(StatusQuery(droplet=1, state="FLAPPING"), desired, table, 10.0, s)
    assert isinstance(flapping, IndicesReply)
    assert flapping.indices == [{"index": 1, "since": 9}]
    crashed = replies.status(StatusQuery(droplet=1, state="CRASHED"), desired, table, 10.0, s)
    assert isinstance(crashed, InstancesReply)
    assert len(crashed.instances) == s.flapping_death + 1
    assert replies.status(StatusQuery(droplet=2, state="CRASHED"), desired, table, 10.0, s) is None
    assert replies.status(StatusQuery(droplet=1, state="ODD"), desired, table, 10.0, s) is None


def test_varz_says_minus_one_before_there_is_a_state(table):
    assert replies.varz(DesiredTable(), table, {})["running_instances"] == -1
    desired = DesiredTable()
    desired.load([parse_row(1, ROW)], 0.0, wall=5_000.0)
    facts = replies.varz(desired, table, {1: Decision(running=1, missing=1)})
    assert (facts["total_instances"], facts["running_instances"], facts["down_instances"]) == (2, 1, 1)


# Configuration.


def test_every_contradiction_is_reported():
    raw: dict[str, Any] = {
        "bus": {"urls": ["http://x"]},
        "controllers": ["ftp://x"],
        "bulk_batch": 0,
        "intervals": {
            "silent_share": 2,
            "desired_max_age": 1,
            "lease_renew": 4,
            "restart_timeout": 0,
            "odd": 1,
        },
    }
    with pytest.raises(ConfigError) as caught:
        parse(raw, HealthManagerConfig)
    text = "\n".join(caught.value.problems)
    assert "intervals.odd" in text
    assert "bus.urls" in text
    del raw["intervals"]["odd"]
    raw["bus"]["urls"] = ["nats://127.0.0.1:4222"]
    with pytest.raises(ConfigError) as caught:
        parse(raw, HealthManagerConfig)
    text = "\n".join(caught.value.problems)
    for name in ("silent_share", "desired_max_age", "lease_renew", "restart_timeout"):
        assert f"intervals.{name}" in text
    raw["intervals"] = {}
    with pytest.raises(ConfigError) as caught:
        parse(raw, HealthManagerConfig)
    assert len(caught.value.problems) == 2


def test_the_shipped_timings_agree_with_each_other():
    assert Intervals().problems() == []


# Settling.


def test_settling_takes_its_whole_time_after_a_start_of_the_health_manager(table):
    table.listen_from(100.0)
    table.beat(beat(), 101.0)
    assert not table.settled(104.9)
    assert table.settled(105.0)


def test_a_bus_that_is_lost_again_after_a_start_shortens_nothing(table):
    table.listen_from(100.0)
    table.beat(beat(dea="d1"), 100.5)
    table.listen_from(101.0)
    for at in (101.5, 102.5):
        table.beat(beat(dea="d1"), at)
    assert not table.settled(105.9)
    assert table.settled(106.0)


def test_settling_takes_half_its_time_where_every_dea_of_before_is_heard_twice(table):
    table.beat(beat(dea="d1"), 90.0)
    table.beat(beat(dea="d2"), 90.0)
    table.listen_from(100.0)
    for at in (101.0, 102.0):
        table.beat(beat(dea="d1"), at)
    table.beat(beat(dea="d2"), 102.5)
    assert not table.settled(103.4)
    table.beat(beat(dea="d2"), 103.5)
    assert table.settled(103.5)
    table.listen_from(104.0)
    assert not table.settled(104.0)


def test_a_dea_that_was_lost_before_is_not_waited_for(table):
    table.beat(beat(dea="d1"), 90.0)
    table.beat(beat(dea="d2"), 90.0)
    table.lose(table.deas["d2"], 99.5)
    table.listen_from(100.0)
    for at in (101.0, 102.0):
        table.beat(beat(dea="d1"), at)
    assert table.settled(102.5)
