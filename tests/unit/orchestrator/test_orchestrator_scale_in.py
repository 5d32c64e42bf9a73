"""scale_in: a machine leaves when all that ran there runs and is routed elsewhere, or it stays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from components.common.bus.messages import DeaBeat
from components.common.errors import BusUnavailableError
from orchestrator.db.models import FAILED, READY
from orchestrator.errors import RefusedError
from orchestrator.jobs import machines
from orchestrator.jobs.scale_in import ScaleIn, waiting
from orchestrator.jobs.scale_out import ScaleOut
from tests.unit.orchestrator.hands_rig import Hands, beat, route


@pytest.fixture
def hands(tmp_path: Path) -> Iterator[Hands]:
    """A pool of two fixed machines and dea3; application 7 runs on dea3 and dea1."""
    hands = Hands(tmp_path)
    hands.plays.on_run = lambda _: hands.bus_view.on_beat(beat("10.0.0.3"))
    assert hands.job(ScaleOut(), {"pool": "dea"}).why == ""
    hands.plays.ran.clear()
    hands.plays.on_run = lambda _: None
    for n in (1, 3):
        hands.bus_view.on_beat(beat(f"10.0.0.{n}", {"7": 1}))
        hands.bus_view.on_register(route(f"10.0.0.{n}", 61001, 7))
    yield hands
    hands.db.close()


def moves(hands: Hands) -> None:
    """What the platform does of a DEA that evacuates."""

    def move(answer: DeaBeat) -> None:
        if answer.evacuating:
            hands.bus_view.on_beat(beat("10.0.0.2", {"7": 1}))
            hands.bus_view.on_register(route("10.0.0.2", 61009, 7))
            hands.bus_view.on_unregister(route(answer.address, 61001, 7))
            hands.bus_view.on_beat(beat(answer.address, evacuating=True))

    hands.bus.on_evacuate = move


def test_a_machine_leaves_when_it_is_empty(hands: Hands) -> None:
    moves(hands)
    assert ScaleIn().plan(hands.services, {"pool": "dea", "count": 1}).locks == {"pool:dea", "machine:dea3"}
    ended = hands.job(ScaleIn(), {"pool": "dea", "count": 1})
    assert ended.why == ""
    assert hands.bus.asked == [("10.0.0.3", True)]
    (play,) = hands.plays.ran
    assert (play.key, play.playbook, list(play.limit)) == ("7-stop", "scale_in.yml", ["dea3"])
    assert machines.rows(hands.services) == []
    assert sorted(hands.inventory.hosts()) == ["dea1", "dea2"]
    assert hands.ssh.pinned == {}
    assert hands.providers["rack"].machines() == []
    assert hands.bus_view.at("10.0.0.3") is None


def test_every_step_may_be_done_twice(hands: Hands) -> None:
    moves(hands)
    kind = ScaleIn()
    job = hands.context(kind.plan(hands.services, {"pool": "dea", "machine": "dea3"}).facts)
    for step in kind.steps(hands.services, job.facts):
        step.run(job)
        step.run(job)
    assert machines.rows(hands.services) == []


def test_one_that_does_not_become_empty_serves_again(hands: Hands) -> None:
    ended = hands.job(ScaleIn(), {"pool": "dea"})
    assert ended.step == "moved"
    assert ended.why == "not empty after 0 s: dea3: 1 instances left; dea3: 1 routes left"
    assert hands.bus.asked == [("10.0.0.3", True), ("10.0.0.3", False)]
    assert [row.state for row in machines.rows(hands.services)] == [READY]
    assert hands.plays.ran == []
    assert "dea3: takes instances again; nothing was stopped. Pool dea has 3." in ended.remedy


def test_a_machine_with_a_task_is_refused_at_once_with_its_name(hands: Hands) -> None:
    hands.bus_view.on_beat(beat("10.0.0.3", {"7": 1}, tasks=["nightly-1"]))
    for request in ({"pool": "dea", "machine": "dea3"}, {"pool": "dea", "count": 1}):
        with pytest.raises(RefusedError, match="dea3: task nightly-1 runs there") as raised:
            ScaleIn().plan(hands.services, request)
        assert raised.value.status == 409
    assert hands.bus.asked == []


def test_a_task_that_begins_meanwhile_keeps_its_machine(hands: Hands) -> None:
    hands.bus.tasks = ("nightly-1",)
    ended = hands.job(ScaleIn(), {"pool": "dea"})
    assert (ended.step, ended.why) == (
        "evacuate",
        "dea3: task nightly-1 runs there; wait for its end, or end it (ingot stop-task APP TASK)",
    )
    assert hands.bus.asked == [("10.0.0.3", True), ("10.0.0.3", False)]
    assert hands.plays.ran == []
    assert "takes instances again" in ended.remedy


def test_a_stop_that_fails_says_how_to_go_on(hands: Hands) -> None:
    moves(hands)
    hands.plays.bad["dea3"] = "unit not found"
    ended = hands.job(ScaleIn(), {"pool": "dea"})
    assert ended.step == "stop"
    assert "ingot pool scale-in dea --machine dea3" in ended.remedy
    (row,) = machines.rows(hands.services)
    assert row.state == FAILED
    assert "unit not found" in row.message
    hands.plays.bad.clear()
    assert hands.job(ScaleIn(), {"pool": "dea", "machine": "dea3"}).why == ""
    assert machines.rows(hands.services) == []


def test_a_bus_that_is_away_changes_nothing(hands: Hands, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_arguments: object) -> DeaBeat:
        raise BusUnavailableError("not connected")

    monkeypatch.setattr(hands.bus, "request", away)
    monkeypatch.setattr(machines, "_ASK_SECONDS", 0.0)
    ended = hands.job(ScaleIn(), {"pool": "dea"})
    assert ended.step == "evacuate"
    assert "does not answer: not connected" in ended.why
    # Nobody could tell it to serve again, if the first word came through after all; its beats will show that.
    assert [(r.state, "it may still evacuate" in r.message) for r in machines.rows(hands.services)] == [
        (READY, True)
    ]
    assert "dea3: it may still evacuate" in ended.remedy


def test_what_must_not_leave_is_refused(hands: Hands) -> None:
    for request, said, status in (
        ({"pool": "dea", "count": 2}, "fixed and never deleted: 2 fewer are too few", 400),
        ({"pool": "dea", "machine": "dea1"}, "dea1 is a fixed machine", 409),
        ({"pool": "dea", "machine": "dea9"}, "has no machine dea9", 404),
        ({"pool": "nobody", "count": 1}, "there is no pool nobody", 404),
    ):
        with pytest.raises(RefusedError, match=said) as raised:
            ScaleIn().plan(hands.services, request)
        assert raised.value.status == status
    for n in (1, 2):
        hands.bus_view.on_beat(beat(f"10.0.0.{n}", {"8": 1}, reserved=2040))
    with pytest.raises(RefusedError, match="have no room"):
        ScaleIn().plan(hands.services, {"pool": "dea", "count": 1})


def test_it_waits_until_each_application_is_routed_elsewhere(hands: Hands) -> None:
    leaving = {"dea3": "10.0.0.3"}
    hands.bus_view.on_unregister(route("10.0.0.3", 61001, 7))
    hands.bus_view.on_beat(beat("10.0.0.3", evacuating=True))
    hands.bus_view.on_beat(beat("10.0.0.2", {"7": 1}))
    said = waiting(hands.bus_view, leaving, {"7": 2})
    assert said == ["application 7: 1 of 2 instances routed elsewhere"]
    hands.bus_view.on_register(route("10.0.0.2", 61009, 7))
    assert waiting(hands.bus_view, leaving, {"7": 2}) == []
    # Scaled down meanwhile: what does not run need not be routed.
    hands.bus_view.on_unregister(route("10.0.0.2", 61009, 7))
    hands.bus_view.on_beat(beat("10.0.0.2"))
    assert waiting(hands.bus_view, leaving, {"7": 2}) == []
