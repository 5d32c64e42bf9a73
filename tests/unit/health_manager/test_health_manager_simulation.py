"""Long histories on the simulated platform with several managers: whatever happens, these things hold, and in the end all is well."""

from __future__ import annotations

import pytest
from hm_sim import Sim

from components.health_manager.config import Intervals

# Patient with crashes: giving up is another test's matter. Few starts at once, so that the limit is met.
SETTINGS = Intervals(flapping_death=1000, starts_in_flight=4)
APPS = {1: 1, 2: 3, 3: 6, 4: 2, 5: 4}


def world(seed: int, **more: object) -> Sim:
    sim = Sim(seed, settings=SETTINGS, **more)
    for droplet, instances in APPS.items():
        sim.app(droplet, instances=instances)
    sim.launch_all()
    sim.run(15)
    assert sim.requests == []
    return sim


def mishap(sim: Sim) -> None:
    """One thing goes wrong, or right again."""
    dice = sim.dice
    if (sim.bus_away or not sim.bulk_works) and dice.random() < 0.6:
        sim.resume_bus()
        sim.bulk_works = True
        return
    droplet = dice.choice(list(sim.rows))
    things = (
        lambda: crash(sim, told=True),
        lambda: crash(sim, told=True),
        lambda: crash(sim, told=False),
        lambda: leave(sim, power=False),
        lambda: leave(sim, power=True),
        lambda: come_back(sim),
        lambda: come_back(sim),
        sim.pause_bus,
        lambda: setattr(sim, "bulk_works", False),
        lambda: sim.kill(dice.choice(sim.minds), dice.uniform(1, 8)),
        lambda: sim.change(droplet, instances=dice.randint(1, 6)),
        lambda: sim.change(droplet, run_count=sim.rows[droplet]["run_count"] + 1),
    )
    dice.choice(things)()


def crash(sim: Sim, *, told: bool) -> None:
    alive = sorted(i for d in sim.deas.values() if d.up for i in d.instances)
    if alive:
        sim.exit(sim.dice.choice(alive), told=told and not sim.bus_away)


def leave(sim: Sim, *, power: bool) -> None:
    up = [d for d in sim.deas.values() if d.up and not d.evacuating]
    if len(up) > 3:
        dea = sim.dice.choice(up)
        if power:
            sim.power_off(dea.id)
        else:
            dea.evacuating = True


def come_back(sim: Sim) -> None:
    dea = sim.dice.choice(list(sim.deas.values()))
    dea.up, dea.evacuating = True, False


@pytest.mark.parametrize("seed", range(4))
def test_a_thousand_seconds_of_mishaps(seed: int) -> None:
    sim = world(seed)
    while sim.now < 2000:
        mishap(sim)
        sim.run(sim.dice.uniform(0.5, 20))
    sim.resume_bus()
    sim.bulk_works = True
    for dea in sim.deas.values():
        dea.up, dea.evacuating = True, False
    sim.run(200)
    assert sim.broken == []
    assert sim.most_in_flight <= SETTINGS.starts_in_flight
    for droplet, row in sim.rows.items():
        assert sim.running(droplet) == list(range(row["instances"])), droplet
        versions = {
            i.version for d in sim.deas.values() for i in d.instances.values() if i.droplet == droplet
        }
        assert versions <= {sim.version(droplet)}
    quiet = len(sim.requests)
    sim.run(60)
    assert len(sim.requests) == quiet
    assert quiet > 30, "the history must have given it something to do"


@pytest.mark.parametrize("seed", range(4))
def test_no_index_is_started_beside_itself(seed: int) -> None:
    """Crashes, lost machines, killed leaders and bus pauses, with nobody changing what is wanted: no index ever runs twice."""
    sim = world(seed)
    while sim.now < 1800:
        dice = sim.dice
        what = dice.choice(("crash", "off", "on", "pause", "kill", "bulk"))
        if what == "crash":
            crash(sim, told=True)
        elif what == "off":
            leave(sim, power=True)
        elif what == "on":
            come_back(sim)
        elif what == "pause":
            sim.pause_bus()
            sim.run(dice.uniform(0.5, 30))
            sim.resume_bus()
        elif what == "kill" and sim.leader() is not None:
            sim.kill(sim.leader(), dice.uniform(1, 8))
        elif what == "bulk":
            sim.bulk_works = not sim.bulk_works
        sim.run(dice.uniform(0.5, 25))
    assert sim.doubles == []
    assert sim.broken == []


def test_a_killed_leader_is_followed_within_seconds() -> None:
    sim = world(1)
    first = sim.leader()
    assert first is not None
    sim.kill(first, 60)
    sim.exit(min(i for d in sim.deas.values() for i in d.instances))
    made = sim.run(8)
    assert len([r for r in made if r.op == "START"]) == 1
    assert sim.leader() is not None
    assert sim.leader() is not first


def test_of_a_whole_pool_lost_every_application_has_its_first_instance_before_any_has_its_second() -> None:
    sim = world(2)
    # All lose power and come back while nobody hears of it.
    sim.pause_bus()
    for dea in list(sim.deas.values()):
        sim.power_off(dea.id)
        dea.up = True
    sim.run(5)
    sim.resume_bus()
    started: list[int] = []
    for request in sim.run(120):
        if request.op == "START":
            started.extend([request.droplet] * len(request.indices or []))
    assert set(started[: len(APPS)]) == set(APPS)
    assert sim.most_in_flight == SETTINGS.starts_in_flight
    for droplet, instances in APPS.items():
        assert sim.running(droplet) == list(range(instances))
