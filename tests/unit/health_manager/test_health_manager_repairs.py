"""The health manager's rules, one by one, on a simulated platform (protocol 5.2 to 5.4)."""

import pytest
from hm_world import World

from components.common.bus.messages import HmRequest
from components.dea.instances.renewal import Renewal
from components.health_manager.config import Intervals


@pytest.fixture
def world():
    world = World()
    world.app(1, instances=3)
    world.launch_all()
    world.run(8)
    assert world.requests == []
    assert world.doubts == []
    return world


def starts(requests: list[HmRequest]) -> list[tuple[int, int]]:
    return [(r.droplet, i) for r in requests if r.op == "START" for i in r.indices or []]


def stops(requests: list[HmRequest]) -> list[str]:
    return [i for r in requests if r.op == "STOP" for i in r.instances or []]


def holder(world: World, droplet: int, index: int) -> str:
    return next(
        str(i.id)
        for d in world.deas.values()
        for i in d.instances.values()
        if (i.droplet, i.index) == (droplet, index)
    )


def test_a_state_that_agrees_asks_for_nothing(world):
    assert world.run(60) == []


def test_a_crashed_instance_is_started_at_once(world):
    world.exit(holder(world, 1, 1))
    made = world.run(0.3)
    assert starts(made) == [(1, 1)]
    assert made[0].version == world.version(1)
    assert world.run(30) == []
    assert world.running(1) == [0, 1, 2]


def test_a_lost_dea_has_its_instances_elsewhere_within_the_goal(world):
    dead = next(d.id for d in world.deas.values() if d.instances)
    number = len(world.deas[dead].instances)
    world.power_off(dead)
    made = world.run(7)
    assert len(starts(made)) == number
    assert world.running(1) == [0, 1, 2]


def test_a_dea_without_beats_has_the_old_patience():
    world = World(deas=0)
    world.app(1)
    world.run(8)
    world.requests.clear()
    from hm_world import SimDea

    old = SimDea("old", heard=False)
    world.deas["old"] = old
    world.launch(1, 0, "old")
    world.heartbeat(old)
    assert starts(world.run(28)) == []
    assert starts(world.run(5)) == [(1, 0)]


def test_a_missing_instance_that_nobody_mentioned_is_started(world):
    world.exit(holder(world, 1, 2), told=False)
    assert starts(world.run(12)) == [(1, 2)]


def test_a_request_that_nothing_came_of_is_repeated_after_its_timeout(world):
    world.obey = False
    world.exit(holder(world, 1, 0))
    assert starts(world.run(9)) == [(1, 0)]
    assert starts(world.run(3)) == [(1, 0)]


def test_instances_that_are_counted_but_not_named_hold_back_a_second_start(world):
    # The controller places it just before the crash of another is told: the DEA counts it at once, names it late.
    world.obey = False
    world.start_seconds = 9.0
    world.exit(holder(world, 1, 0))
    world.launch(1, 0)
    world.run(1)
    world.requests.clear()
    assert starts(world.run(15)) == []


def test_a_surplus_index_is_stopped(world):
    extra = world.launch(1, 7)
    assert stops(world.run(10)) == [extra.id]
    assert world.running(1) == [0, 1, 2]


def test_a_duplicate_newcomer_is_stopped(world):
    old = holder(world, 1, 0)
    new = world.launch(1, 0)
    assert stops(world.run(10)) == [new.id]
    assert holder(world, 1, 0) == old


def test_a_newcomer_is_not_stopped_while_the_older_ones_dea_evacuates(world):
    old = holder(world, 1, 0)
    home = next(d for d in world.deas.values() if old in d.instances)
    home.evacuating = True
    world.start_seconds = 8.0
    made = world.run(7)
    assert (1, 0) in starts(made)
    assert stops(made) == []
    # It goes when its successor runs, and not before.
    made = world.run(20)
    assert stops(made) == [old]
    assert world.running(1).count(0) == 1
    assert holder(world, 1, 0) not in home.instances
    assert world.run(20) == []


def test_what_is_said_to_be_evacuated_runs_on_until_its_successor_does(world):
    old = holder(world, 1, 0)
    home = next(d for d in world.deas.values() if old in d.instances)
    home.evacuating = True
    world.exit(old, "DEA_EVACUATION", gone=False)
    world.start_seconds = 8.0
    made = world.run(7)
    assert starts(made) == [
        (1, number) for number in range(3) if number in {i.index for i in home.instances.values()}
    ]
    assert stops(made) == []
    assert old in stops(world.run(20))
    assert world.running(1) == [0, 1, 2]
    assert not home.instances


def test_one_that_its_dea_names_gets_a_successor_first_and_the_others_stay(world):
    old = holder(world, 1, 0)
    home = next(d for d in world.deas.values() if old in d.instances)
    others = {holder(world, 1, n) for n in (1, 2)}
    home.leaving = [old]
    world.start_seconds = 8.0
    made = world.run(7)
    assert starts(made) == [(1, 0)]
    assert stops(made) == []
    # It goes when its successor runs, and not before.
    assert stops(world.run(20)) == [old]
    assert world.running(1) == [0, 1, 2]
    assert others == {holder(world, 1, n) for n in (1, 2)}
    home.leaving = []
    assert world.run(20) == []


@pytest.mark.parametrize("start_seconds", [200.0, 600.0])
def test_instances_of_an_earlier_making_are_replaced_however_long_a_start_takes(start_seconds):
    world, renewal = World(), Renewal()
    home = world.deas["dea0"]
    for droplet in (1, 2):
        world.app(droplet)
        world.launch(droplet, 0, dea=home.id)
    world.run(20)
    for old in home.instances:
        renewal.add(old)
    world.start_seconds = start_seconds
    made: list[HmRequest] = []
    for _ in range(round(2 * start_seconds) + 120):
        home.leaving = renewal.turn(set(home.instances), world.now)
        made += world.run(1)
        assert {*world.running(1)} == {*world.running(2)} == {0}
    assert renewal.left(set(home.instances)) == 0
    assert len(starts(made)) == len(stops(made)) == 2


def test_one_that_is_named_no_more_before_its_successor_runs_stays(world):
    old = holder(world, 1, 0)
    home = next(d for d in world.deas.values() if old in d.instances)
    home.leaving = [old]
    world.start_seconds = 8.0
    world.run(4)
    home.leaving = []
    made = world.run(20)
    assert old not in stops(made)
    assert holder(world, 1, 0) == old
    assert world.running(1) == [0, 1, 2]


def test_an_evacuated_index_without_successor_is_started(world):
    world.exit(holder(world, 1, 0), "DEA_SHUTDOWN")
    assert starts(world.run(0.3)) == [(1, 0)]


def test_an_old_version_goes_when_its_successor_runs(world):
    old = {holder(world, 1, n) for n in range(3)}
    world.change(1, run_count=2)
    assert world.run(9) == []
    world.start_seconds = 8.0
    made = world.run(7)
    assert starts(made) == [(1, 0), (1, 1), (1, 2)]
    assert stops(made) == []
    assert set(stops(world.run(15))) == old
    assert world.run(30) == []
    assert world.running(1) == [0, 1, 2]


def test_an_old_version_without_a_successor_has_its_time(world):
    world.obey = False
    world.change(1, run_count=2)
    assert stops(world.run(58)) == []
    assert len(set(stops(world.run(10)))) == 3


def test_what_its_owner_has_just_changed_is_left_alone(world):
    world.change(1, instances=5)
    assert starts(world.run(9)) == []
    assert starts(world.run(7)) == [(1, 3), (1, 4)]


def test_a_stopped_application_is_stopped(world):
    world.change(1, state="STOPPED")
    assert world.run(9) == []
    assert len(stops(world.run(7))) == 3
    assert world.running(1) == []


def test_a_stop_by_the_controller_is_not_undone_before_the_reason_is_known(world):
    # `dea.stop` overtakes the desired state: the instances say STOPPED, the last reading says STARTED.
    world.bulk_works = False
    for n in range(3):
        world.exit(holder(world, 1, n), "STOPPED")
    assert world.run(5) == []


def test_an_unstaged_application_is_not_started():
    world = World()
    world.app(1, package_state="PENDING")
    world.app(2, staged_package_hash=None)
    assert world.run(40) == []


def test_an_unknown_application_is_stopped_after_two_readings(world):
    del world.rows[1]
    assert world.run(9) == []
    assert len(stops(world.run(12))) == 3


def test_when_most_of_what_runs_is_unknown_it_is_the_desired_state_that_is_wrong():
    world = World()
    for n in range(1, 9):
        world.app(n)
    world.launch_all()
    world.run(8)
    world.rows.clear()
    assert world.run(60) == []


def test_a_row_that_makes_no_sense_is_neither_started_nor_stopped(world):
    world.rows[1]["instances"] = "many"
    assert world.run(60) == []


def test_a_flapping_index_waits_longer_and_longer_and_is_given_up():
    s = Intervals()
    world = World()
    world.app(1)
    world.launch_all()
    world.run(8)
    gaps = []
    for _ in range(s.giveup_crash_number):
        at = world.now
        world.exit(holder(world, 1, 0))
        count = len(world.requests)
        while len(world.requests) == count and world.now - at < 2000:
            world.step()
        gaps.append(round(world.requests[-1][0] - at))
        world.run(3)
    assert gaps[: s.flapping_death] == [0] * s.flapping_death
    for gap, wanted in zip(gaps[s.flapping_death :], [60, 120, 240, 480], strict=True):
        assert wanted <= gap <= wanted + s.droplets_analysis + 1
    assert world.requests[-1][1].flapping
    world.exit(holder(world, 1, 0))
    assert world.run(1500) == []
    assert world.repairs.decisions[1].given_up == (0,)
    # Its owner's change starts it afresh.
    world.change(1, run_count=2)
    assert starts(world.run(20)) == [(1, 0)]
    assert world.repairs.decisions[1].given_up == ()


def test_an_index_that_was_quiet_long_enough_starts_its_count_again(world):
    for _ in range(8):
        world.exit(holder(world, 1, 0))
        assert starts(world.run(2)) == [(1, 0)]
        world.run(505)


def test_nothing_is_asked_on_stale_desired_data(world):
    world.bulk_works = False
    world.run(21)
    assert "desired_stale" in world.doubts
    world.exit(holder(world, 1, 0))
    assert world.run(30) == []
    world.bulk_works = True
    assert starts(world.run(6)) == [(1, 0)]


def test_nothing_is_asked_while_settling(world):
    world.table.listen_from(world.now)
    world.exit(holder(world, 1, 0))
    assert world.run(2.3) == []
    assert starts(world.run(2)) == [(1, 0)]


def test_settling_takes_its_whole_time_while_a_dea_of_before_is_not_heard(world):
    world.deas["dea2"].heard = False
    world.table.listen_from(world.now)
    world.exit(holder(world, 1, 0))
    assert world.run(4.8) == []
    assert (1, 0) in starts(world.run(2))


def test_too_many_silent_at_once_are_held_and_then_believed(world):
    for name in ("dea0", "dea1", "dea2"):
        world.power_off(name)
    assert world.run(30) == []
    assert world.doubts == ["pool_silent"]
    world.run(45)
    assert world.running(1) == [0, 1, 2]


def test_a_silence_that_ends_leaves_no_trace(world):
    for name in ("dea0", "dea1", "dea2"):
        world.deas[name].heard = False
    world.run(20)
    for dea in world.deas.values():
        dea.heard = True
    assert world.run(60) == []


def test_half_the_pool_is_not_too_many():
    world = World(deas=2)
    world.app(1, instances=2)
    world.launch_all()
    world.run(8)
    world.power_off("dea0")
    world.run(7)
    assert world.running(1) == [0, 1]


def test_a_dea_that_comes_back_with_its_instances_has_the_surplus_stopped(world):
    away = next(d for d in world.deas.values() if d.instances)
    mine = set(away.instances)
    away.heard = False
    assert len(starts(world.run(8))) == len(mine)
    away.heard = True
    assert set(stops(world.run(15))) == mine
    assert world.running(1) == [0, 1, 2]


def test_a_machine_that_rebooted_between_two_beats_is_noticed(world):
    home = next(d for d in world.deas.values() if d.instances)
    number = len(home.instances)
    home.instances.clear()
    assert len(starts(world.run(4))) == number


def test_one_instance_of_every_application_goes_before_the_rest():
    world = World(settings=Intervals(dequeueing_rate=10.0))
    for n in range(1, 11):
        world.app(n, instances=5, last_updated=int(1_600_000_000 + n))
    made = starts(world.run(20))
    assert [d for d, _ in made[:10]] == list(range(1, 11))
    assert len(set(made[:10])) == 10
    assert len(made) == 50
    first, last = world.requests[0][0], world.requests[49][0]
    assert last - first >= 4.5


def test_an_agent_that_said_it_stops_is_given_time_for_a_restart(world):
    home = next(d for d in world.deas.values() if d.instances)
    world.table.deas[home.id].stopping = True
    home.heard = False
    assert world.run(10) == []
    home.heard = True
    assert world.run(30) == []
