"""What DEAs and routes are known from what was heard."""

from __future__ import annotations

import threading

from orchestrator.bus_view import BusView
from tests.unit.orchestrator.hands_rig import beat, route


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_dea_is_believed_for_three_intervals() -> None:
    clock = Clock()
    bus_view = BusView(None, clock)
    bus_view.on_beat(beat("10.0.0.1", {"7": 2, "8": 0}))
    dea = bus_view.at("10.0.0.1")
    assert dea is not None
    assert (dea.id, dea.instances, dict(dea.droplets), dea.fresh) == ("id-10.0.0.1", 2, {"7": 2}, True)
    clock.now += 3.1
    dea = bus_view.at("10.0.0.1")
    assert dea is not None
    assert not dea.fresh
    assert bus_view.at("10.0.0.2") is None
    clock.now += 3600
    bus_view.on_beat(beat("10.0.0.2"))
    assert [d.address for d in bus_view.deas()] == ["10.0.0.2"]


def test_endpoints_come_go_and_grow_old() -> None:
    clock = Clock()
    bus_view = BusView(None, clock)
    bus_view.on_register(route("10.0.0.1", 61001, 7, ["a.test", "b.test"]))
    bus_view.on_register(route("10.0.0.2", 61001, 7))
    bus_view.on_unregister(route("10.0.0.1", 61001, 7, ["a.test"]))
    assert [e.uris for e in bus_view.endpoints("10.0.0.1")] == [frozenset({"b.test"})]
    bus_view.on_unregister(route("10.0.0.1", 61001, 7, ["b.test"], "another"))
    assert len(bus_view.endpoints()) == 2, "another instance's goodbye takes nobody's route"
    bus_view.on_unregister(route("10.0.0.1", 61001, 7, ["b.test"]))
    assert [(e.address, e.app) for e in bus_view.endpoints()] == [("10.0.0.2", 7)]
    clock.now += 121
    assert bus_view.endpoints() == []


def test_a_port_that_changed_hands_has_the_new_routes_alone() -> None:
    bus_view = BusView(None)
    bus_view.on_register(route("10.0.0.1", 61001, 7, ["a.test"], "old"))
    bus_view.on_register(route("10.0.0.1", 61001, 8, ["b.test"], "new"))
    assert [(e.app, e.instance, e.uris) for e in bus_view.endpoints()] == [(8, "new", frozenset({"b.test"}))]


def test_a_machine_that_is_gone_is_forgotten() -> None:
    bus_view = BusView(None)
    bus_view.on_beat(beat("10.0.0.1"))
    bus_view.on_register(route("10.0.0.1", 61001, 7))
    bus_view.forget("10.0.0.1")
    assert (bus_view.deas(), bus_view.endpoints()) == ([], [])


def test_waiting_ends_with_the_message_that_makes_it_true() -> None:
    bus_view = BusView(None)
    asked = threading.Event()

    def heard(now: BusView) -> bool:
        asked.set()
        return now.at("10.0.0.1") is not None

    def later() -> None:
        asked.wait(10)
        bus_view.on_beat(beat("10.0.0.1"))

    thread = threading.Thread(target=later)
    thread.start()
    assert bus_view.wait_for(heard, 10)
    thread.join()
    assert not bus_view.wait_for(lambda now: now.at("10.0.0.2") is not None, 0.01)
