"""No subject of protocol 2 is without a test that speaks it or hears it: which test, by its name, and that it says the subject."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from components.common.bus.subjects import BY_NAME, CONTRACT

TESTS = Path(__file__).resolve().parents[1]
DEA, CONTROLLER = "integration/test_wire_dea.py", "integration/test_wire_controller.py"
HEALTH, ROUTER = "integration/test_wire_health_manager.py", "integration/test_wire_router.py"
STAGER, SERVICES = "integration/test_wire_stager.py", "integration/test_wire_services.py"

SHOWN: dict[str, list[str]] = {
    "vcap.component.announce": [DEA, HEALTH],
    "vcap.component.discover": [DEA, HEALTH, ROUTER, STAGER, CONTROLLER],
    "router.start": [ROUTER, DEA, CONTROLLER],
    "router.greet": [ROUTER],
    "router.register": [ROUTER, DEA, CONTROLLER],
    "router.unregister": [ROUTER, DEA],
    "dea.start": [DEA],
    "dea.discover": [DEA],
    "dea.*.start": [DEA, CONTROLLER],
    "dea.stop": [DEA, CONTROLLER],
    "dea.update": [DEA, CONTROLLER],
    "dea.find.droplet": [DEA, CONTROLLER],
    "dea.status": [DEA],
    "droplet.status": [DEA],
    "dea.heartbeat": [DEA, HEALTH],
    "dea.advertise": [DEA],
    "dea.locate": [DEA],
    "droplet.exited": [DEA, HEALTH, CONTROLLER],
    "droplet.updated": [CONTROLLER, HEALTH],
    "healthmanager.start": [DEA, HEALTH],
    "healthmanager.status": [CONTROLLER, HEALTH],
    "healthmanager.health": [CONTROLLER, HEALTH],
    "healthmanager.nats.ping": [HEALTH],
    "cloudcontrollers.hm.requests": [CONTROLLER, HEALTH],
    "cloudcontroller.bulk.credentials": [CONTROLLER, HEALTH],
    "vcap.cc.events": [CONTROLLER],
    "staging": [STAGER, CONTROLLER],
}
# Of ours, those that say what one of protocol 2 said before.
SUCCESSORS: dict[str, list[str]] = {
    "ingot.platform.register": [ROUTER, CONTROLLER],
    "ingot.platform.unregister": [ROUTER],
}
# No router of ours keeps applications apart by plan: the row reserves the name for one of 2012 that does.
RESERVED = {"router.active_apps"}


def test_no_subject_of_2011_is_missed() -> None:
    of_2011 = {s.name for s in CONTRACT if not s.ours and not s.name.startswith("RaaS.")}
    assert of_2011 - SHOWN.keys() == RESERVED
    assert SHOWN.keys() <= of_2011


def test_what_succeeds_a_subject_of_2011_carries_the_same() -> None:
    for subject in SUCCESSORS:
        old = BY_NAME[f"router.{subject.rpartition('.')[2]}"]
        assert BY_NAME[subject].carries is old.carries
        assert BY_NAME[subject].publishers < old.publishers


@pytest.mark.parametrize("subject", [*SHOWN, *SUCCESSORS])
def test_a_subject_is_said_where_it_is_said_to_be(subject: str) -> None:
    parts = subject.split(".*.")
    for name in {**SHOWN, **SUCCESSORS}[subject]:
        texts = _texts(name)
        if subject == "vcap.component.discover":
            assert "check_discovery" in (TESTS / name).read_text()
            assert subject in _texts("integration/wire_peer.py")
        elif len(parts) == 1:
            assert subject in texts, name
        else:
            assert any(all(part in text for part in parts) for text in texts), name


@pytest.mark.parametrize("subject", [s.name for s in CONTRACT if s.name.startswith("RaaS.")])
def test_a_subject_of_a_data_service_is_spoken_to_its_node(subject: str) -> None:
    assert any(subject.removesuffix("*") in text for text in _texts(SERVICES)), subject


def _texts(name: str) -> set[str]:
    tree = ast.parse((TESTS / name).read_text())
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
