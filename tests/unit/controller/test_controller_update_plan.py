"""Rolling updates as decisions: a small platform that breaks things, and what must hold whatever it does."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from components.common.states import InstanceState
from components.controller.rolling_updates.plan import (
    AGAIN_SECONDS,
    SETTLE_SECONDS,
    Goal,
    Outcome,
    Seen,
    Step,
    next_step,
    width,
)

PATIENCE = 30.0


def seen(
    index: int, version: str = "new", state: str = InstanceState.RUNNING, name: str = "", running: float = 9
) -> Seen:
    return Seen(index, version, name or f"{version}{index}", state, running_for=running)


def goal(instances: int = 2, now: float = 100, **more: object) -> Goal:
    return replace(Goal("new", instances, now, PATIENCE), **more)  # type: ignore[arg-type]


def test_one_is_started_first_and_nothing_stopped() -> None:
    step = next_step(goal(), [seen(0, "old"), seen(1, "old")])
    assert step == Step(start=(0,), asked={0: 100})


def test_an_index_that_nobody_serves_goes_first() -> None:
    assert next_step(goal(3), [seen(0, "old"), seen(2, "old")]).start == (1,)


def test_the_old_one_goes_once_the_new_one_has_run_for_a_moment() -> None:
    here = [seen(0, "old"), seen(1, "old")]
    just = next_step(goal(asked={0: 99}), [*here, seen(0, running=0)])
    assert just.stop == ()
    later = next_step(goal(asked={0: 99}), [*here, seen(0, running=SETTLE_SECONDS)])
    assert later.stop == ("old0",)
    assert later.start == (1,)
    assert later.replaced == 1


def test_it_is_over_when_all_run_and_no_other_is_left() -> None:
    assert next_step(goal(), [seen(0), seen(1)]).outcome == Outcome.REACHED
    surplus = next_step(goal(1), [seen(0), seen(1)])
    assert (surplus.outcome, surplus.stop) == (Outcome.WORKING, ("new1",))
    assert next_step(goal(0), []).outcome == Outcome.REACHED


def test_a_crash_fails_it_and_says_why() -> None:
    crash = replace(seen(0, state=InstanceState.CRASHED), detail="memory over 64 MB")
    step = next_step(goal(asked={0: 99}), [seen(0, "old"), seen(1, "old"), crash])
    assert (step.outcome, step.reason) == (Outcome.FAILED, "instance 0 crashed: memory over 64 MB")
    # One of the version before is not the new one's fault.
    assert (
        next_step(goal(), [seen(0, "old", InstanceState.CRASHED), seen(1, "old")]).outcome == Outcome.WORKING
    )


def test_one_that_is_not_up_in_time_fails_it() -> None:
    late = goal(asked={0: 100 - PATIENCE - 1})
    assert (
        next_step(late, [seen(0, state=InstanceState.STARTING)]).reason
        == "instance 0 is not up after 30 seconds"
    )
    assert next_step(late, []).reason == "instance 0 was not started after 30 seconds"
    assert next_step(replace(late, no_room=frozenset({0})), []).reason == "no machine has room for instance 0"


def test_a_start_that_got_lost_is_sent_again_but_not_at_once() -> None:
    assert next_step(goal(asked={0: 99}), []).start == ()
    assert next_step(goal(asked={0: 100 - AGAIN_SECONDS}), []).start == (0,)
    assert next_step(goal(asked={0: 90}, sent={0: 99}), []).start == ()


def test_on_the_way_back_what_serves_stays_until_the_old_version_runs() -> None:
    # "old" is what failed here, "new" the version that is gone back to.
    back = goal(back=True)
    step = next_step(back, [seen(0, "old"), seen(1, "new"), seen(1, "old", InstanceState.STARTING)])
    assert (step.start, step.stop) == ((0,), ("old1",))
    done = next_step(back, [seen(0, "old"), seen(0), seen(1)])
    assert (done.outcome, done.stop) == (Outcome.WORKING, ("old0",))
    assert next_step(back, [seen(0), seen(1)]).outcome == Outcome.REACHED


def test_what_does_not_come_up_on_the_way_back_is_given_up() -> None:
    asked = {0: 99.0}
    crash = Seen(0, "new", "x", InstanceState.CRASHED, since=99)
    assert next_step(goal(1, back=True, asked=asked), [crash]).outcome == Outcome.REACHED
    # An old crash, from before the update, is not one of today's.
    assert next_step(goal(1, back=True, asked=asked), [replace(crash, since=50)]).outcome == Outcome.WORKING


@dataclass
class World:
    """DEAs that start instances after a while, crash them, lose messages, and see things late."""

    now: float = 0.0
    instances: dict[str, Seen] = field(default_factory=dict)
    ready_at: dict[str, float] = field(default_factory=dict)
    born: int = 0

    def start(self, index: int, version: str, fate: str = "fine") -> None:
        if fate == "lost":
            return
        self.born += 1
        name = f"i{self.born}"
        state = InstanceState.CRASHED if fate == "crash" else InstanceState.STARTING
        if fate != "vanish":
            self.instances[name] = Seen(index, version, name, state, since=self.now)
        self.ready_at[name] = self.now + (200 if fate == "slow" else 1.5)

    def take(self, step: Step, target: str, instances: int) -> None:
        for name in step.stop:
            gone = self.instances.pop(name)
            # What serves goes only when the version that is to be serves its index, or was given up there.
            if (
                gone.state == InstanceState.RUNNING
                and gone.index < instances
                and not step_gave_up(step, gone.index)
            ):
                assert self.serves(gone.index, target), f"{gone} was stopped for nothing"

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        for name, one in list(self.instances.items()):
            if one.state == InstanceState.STARTING and self.ready_at[name] <= self.now:
                self.instances[name] = replace(one, state=InstanceState.RUNNING, since=self.now)
            elif one.state == InstanceState.RUNNING:
                self.instances[name] = replace(one, running_for=one.running_for + seconds)

    def serves(self, index: int, version: str) -> bool:
        return any(
            i.index == index and i.version == version and i.state == InstanceState.RUNNING
            for i in self.instances.values()
        )

    def live(self) -> list[Seen]:
        return [
            i for i in self.instances.values() if i.state in (InstanceState.STARTING, InstanceState.RUNNING)
        ]


fates = st.sampled_from(["fine"] * 12 + ["lost", "slow", "crash", "vanish"])


@settings(max_examples=300)
@given(st.data(), st.integers(1, 24), st.booleans())
def test_whatever_happens_it_ends_and_no_index_is_left_without_need(
    data: st.DataObject, instances: int, healthy: bool
) -> None:
    world = World()
    for index in range(instances):
        world.start(index, "v1")
    world.pass_time(2)
    target, back = "v2", False
    asked: dict[int, float] = {}
    sent: dict[int, float] = {}
    for _ in range(4000):
        facts = Goal(target, instances, world.now, PATIENCE, dict(asked), dict(sent), back=back)
        step = next_step(facts, list(world.instances.values()))
        if step.outcome == Outcome.REACHED:
            break
        if step.outcome == Outcome.FAILED:
            assert step.reason
            assert not back
            assert not healthy
            target, back, asked, sent = "v1", True, {}, {}
            continue
        world.take(step, target, instances)
        asked = dict(step.asked)
        assert len([i for i in asked if not world.serves(i, target)]) <= width(facts, proven=True)
        for index in step.start:
            sent[index] = world.now
            world.start(index, target, "fine" if healthy or back else data.draw(fates))
        world.pass_time(0.7)
    else:
        raise AssertionError("it never ends")
    assert sorted(i.index for i in world.live()) == list(range(instances))
    assert {i.version for i in world.live()} == {target}


def step_gave_up(step: Step, index: int) -> bool:
    return index in step.asked and index not in step.start


@given(
    st.integers(0, 6),
    st.lists(
        st.tuples(
            st.integers(0, 7),
            st.sampled_from("abc"),
            st.sampled_from(["STARTING", "RUNNING", "CRASHED"]),
            st.floats(0, 3),
        ),
        max_size=14,
    ),
    st.booleans(),
)
def test_any_picture_has_an_answer(
    instances: int, picture: list[tuple[int, str, str, float]], back: bool
) -> None:
    here = [
        Seen(index, version, f"i{n}", state, running_for=running)
        for n, (index, version, state, running) in enumerate(picture)
    ]
    step = next_step(Goal("a", instances, 50, PATIENCE, back=back), here)
    live = {s.instance for s in here if s.state != InstanceState.CRASHED}
    assert set(step.stop) <= live
    assert set(step.start) <= set(range(instances))
    # Nothing is started where it runs already.
    assert not {s.index for s in here if s.version == "a" and s.state == InstanceState.RUNNING} & set(
        step.start
    )
    for index in range(instances):
        mine = {s.instance for s in here if s.index == index and s.state == InstanceState.RUNNING}
        if mine and not back and step.outcome == Outcome.WORKING:
            assert mine - set(step.stop), f"index {index} is left without anything that serves"


def test_what_was_given_up_stays_given_up() -> None:
    late = goal(2, back=True, asked={0: 100 - PATIENCE - 1})
    first = next_step(late, [seen(0, "old"), seen(1, "old")])
    assert (first.outcome, first.stop, first.start) == (Outcome.WORKING, ("old0",), (1,))
    then = replace(late, now=101, asked=first.asked)
    again = next_step(then, [seen(1, "old")])
    assert (again.outcome, again.start) == (Outcome.WORKING, ())
    done = next_step(then, [seen(1)])
    assert (done.outcome, done.reason) == (Outcome.REACHED, "instance 0 was not started after 30 seconds")
