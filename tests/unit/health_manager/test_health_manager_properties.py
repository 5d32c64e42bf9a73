"""What holds whatever happens: histories made up by hypothesis, on the simulated platform."""

from hm_world import World
from hypothesis import given, settings
from hypothesis import strategies as st

from components.health_manager.actual import ActualTable
from components.health_manager.analysis import DecisionContext, decide
from components.health_manager.config import Intervals
from components.health_manager.desired import DesiredApp
from components.health_manager.state import AppActual, Instance

KINDS = ("crash", "vanish", "power_off", "power_on", "deaf", "hear", "evacuate", "scale", "restart", "wait")
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(KINDS),
        st.integers(0, 10_000),
        st.floats(0.1, 12.0),
    ),
    max_size=12,
)


def happen(world: World, event: str, number: int) -> None:
    deas = list(world.deas.values())
    dea = deas[number % len(deas)]
    alive = sorted(i for d in deas if d.up for i in d.instances)
    droplet = 1 + number % len(world.rows)
    if event in ("crash", "vanish") and alive:
        world.exit(alive[number % len(alive)], told=event == "crash")
    elif event == "power_off":
        world.power_off(dea.id)
    elif event == "power_on":
        dea.up, dea.evacuating = True, False
    elif event in ("deaf", "hear"):
        dea.heard = event == "hear"
    elif event == "evacuate":
        dea.evacuating = True
    elif event == "scale":
        world.change(droplet, instances=number % 5)
    elif event == "restart":
        world.change(droplet, run_count=world.rows[droplet]["run_count"] + 1)


@settings(max_examples=60)
@given(EVENTS)
def test_any_history_heals_and_no_index_is_asked_for_twice(events):
    # Patient with crashes here: giving up is another test's matter.
    world = World(deas=4, settings=Intervals(flapping_death=1000))
    for droplet in (1, 2, 3):
        world.app(droplet, instances=droplet)
    world.launch_all()
    world.run(7)
    for event, number, seconds in events:
        happen(world, event, number)
        untrusted = bool(world.doubts)
        made = world.run(seconds)
        assert not (untrusted and world.doubts and made and seconds < 1)
    # The accidents end.
    for dea in world.deas.values():
        dea.up = dea.heard = True
        dea.evacuating = False
    world.run(150)
    for droplet, row in world.rows.items():
        assert world.running(droplet) == list(range(row["instances"])), droplet
        versions = {
            i.version for d in world.deas.values() for i in d.instances.values() if i.droplet == droplet
        }
        assert versions <= {world.version(droplet)}
    quiet = len(world.requests)
    world.run(60)
    assert len(world.requests) == quiet


@settings(max_examples=60)
@given(EVENTS)
def test_no_start_is_repeated_within_its_timeout_while_unanswered(events):
    world = World(deas=4, settings=Intervals(flapping_death=1000))
    world.obey = False  # nobody answers: every START stays in flight
    world.app(1, instances=3)
    world.app(2, instances=2)
    world.launch_all()
    world.run(7)
    for event, number, seconds in events:
        happen(world, event, number)
        world.run(seconds)
    last: dict[tuple[int, str, int], float] = {}
    for at, request in world.requests:
        for index in request.indices or []:
            key = (request.droplet, request.version, index)
            assert at - last.get(key, float("-inf")) >= world.s.restart_timeout - 1e-6, key
            last[key] = at


@settings(max_examples=60)
@given(EVENTS, st.sampled_from(["bulk", "bus", "pool"]))
def test_nothing_is_ever_asked_on_a_state_in_doubt(events, trouble):
    world = World(deas=4)
    world.app(1, instances=3)
    world.launch_all()
    world.run(7)
    if trouble == "bulk":
        world.bulk_works = False
        world.run(21)
    before = len(world.requests)
    for event, number, seconds in events:
        happen(world, event, number)
        if trouble == "bus":
            world.table.listen_from(world.now)
        if trouble == "pool":
            for dea in list(world.deas.values())[:3]:
                dea.heard = False
                world.table.deas[dea.id].seen = min(world.table.deas[dea.id].seen, world.now - 5)
        world.desired._touched.clear()
        most = {"bulk": seconds, "bus": 0.4 * world.s.settle, "pool": 4.0}
        world.run(min(seconds, most[trouble]))
        if trouble == "pool":
            break
    assert len(world.requests) == before


INSTANCES = st.lists(
    st.tuples(
        st.sampled_from(["aa-1", "aa-0"]),
        st.integers(-1, 4),
        st.sampled_from(["RUNNING", "STARTING"]),
        st.sampled_from(["dea1", "dea2", "leaving"]),
        st.floats(0, 100),
    ),
    max_size=12,
)


@settings(max_examples=400)
@given(INSTANCES, st.integers(0, 4), st.floats(-1e6, 100), st.booleans())
def test_a_stop_never_takes_the_last_of_a_wanted_index(instances, wanted, changed_at, fresh):
    actual = AppActual()
    for n, (version, index, state, dea, seen) in enumerate(instances):
        actual.live[f"i{n}"] = Instance(f"i{n}", version, index, state, 0, dea, seen, 100.0)
    app = DesiredApp(1, "STARTED", wanted, "aa-1", staged=True, last_updated=0, changed_at=changed_at)
    context = DecisionContext(frozenset({"leaving"}), 0.0, 101.0, Intervals())
    decision = decide(app, actual, context, fresh=fresh)
    stopped = {s.instance for s in decision.stops}
    assert len(stopped) == len(decision.stops)
    for index in range(wanted):
        here = [i for i in actual.live.values() if i.version == "aa-1" and i.index == index]
        left = [i for i in here if i.id not in stopped]
        assert bool(left) == bool(here)
        assert any(i.state == "RUNNING" for i in left) == any(i.state == "RUNNING" for i in here)
        covered = any(i.dea != "leaving" for i in here)
        asked = [s for s in decision.starts if s.index == index]
        assert not (covered and asked)
    assert all(0 <= s.index < wanted for s in decision.starts)
    if not fresh:
        assert decision.starts == ()


@settings(max_examples=100)
@given(st.integers(0, 40))
def test_what_is_missing_is_asked_for_all_at_once(wanted):
    app = DesiredApp(1, "STARTED", wanted, "aa-1", staged=True, last_updated=0)
    decision = decide(app, None, DecisionContext(frozenset(), 0.0, 100.0, Intervals()))
    assert [s.index for s in decision.starts] == list(range(wanted))
    assert decision.missing == wanted
    assert [s.priority[1] for s in decision.starts] == list(range(wanted))
    table = ActualTable(Intervals())
    table.request_start(1, "aa-1", 0, 95.0)
    again = decide(app, table.apps[1], DecisionContext(frozenset(), 0.0, 100.0, Intervals()))
    assert [s.index for s in again.starts] == list(range(1, wanted))
