"""The platform's hosts at a router: a user of the bus that may only register applications takes none (docs/decisions/0016).

The bus has the contract's users, as on machines; bus, process, nginx and endpoints are real.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nats
import pytest

from components.common.bus.platform_hosts import PLATFORM_REGISTER, PLATFORM_UNREGISTER, REGISTER, UNREGISTER
from components.common.bus.subjects import (
    COMPONENTS,
    CONTROLLER,
    DEA,
    HEALTH_MANAGER,
    ORCHESTRATOR,
    PEER,
    SERVICES,
)
from tests.integration.common_rig import authorization
from tests.integration.router_rig import Backend, Rig, running
from tests.support.ports import free_port
from tests.support.waiting import until

API, OWN, STATUS = "api.ingot.localhost", "orchestrator.ingot.localhost", "status.ingot.localhost"
UNCLAIMED = (OWN, STATUS, "ingot.localhost")
SPELLINGS = (OWN, f"{OWN}.", f"{OWN}:80", OWN.upper(), STATUS, "ingot.localhost")


@pytest.fixture
def rig() -> Iterator[Rig]:
    with running(nginx={"router_reserved_hosts": [STATUS]}, users=authorization()) as started:
        yield started


def served(rig: Rig, name: str, host: str, user: str) -> Backend:
    """Have the platform serve one of its hosts, as controllers and orchestrator say it."""
    backend = rig.backend(name)
    for subject in REGISTER:
        rig.register(backend.port, host, subject=subject, user=user)
        rig.wait_status(host, 200)
    return backend


def heard(rig: Rig) -> None:
    """Wait until the router has taken all that was said: what is said now, it takes after it."""
    last = rig.backend("last")
    rig.register(last.port, "last.example.com")
    rig.wait_status("last.example.com", 200)
    rig.unregister(last.port, "last.example.com")
    rig.wait_status("last.example.com", 404)


def attack(rig: Rig, user: str, **members: Any) -> None:
    """Register every host of the platform, and every wildcard above them, on every subject; unregister what there was."""
    thief = rig.backend("thief")
    for subject in REGISTER:
        rig.register(thief.port, API, *SPELLINGS, subject=subject, user=user, **members)
        rig.register(thief.port, "*.ingot.localhost", "*.localhost", subject=subject, user=user, **members)
    for port in [b.port for b in rig.backends]:
        for subject in UNREGISTER:
            rig.register(port, API, subject=subject, user=user, **members)
    # All of it is with the server before anybody says more.
    rig.leave(user)


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"app": 7, "private_instance_id": "a" * 32, "dea": "0-a"},
        {"tags": {"component": "CloudController"}},
    ],
)
def test_a_dea_takes_no_host_of_the_platform(rig: Rig, members: dict[str, Any]) -> None:
    served(rig, "controller", API, CONTROLLER)
    attack(rig, DEA, **members)
    heard(rig)
    # The attempts were heard: what no host of the platform is, is served.
    rig.wait_status("other.ingot.localhost", 200)
    assert {rig.get(API).json()["name"] for _ in range(20)} == {"controller"}
    assert [rig.get(host).status for host in UNCLAIMED] == [404] * 3
    assert rig.varz()["refused_platform_registrations"] == 1
    assert rig.log("router.out").count("platform_registration_refused") == 1


def test_registrations_without_end_are_counted_and_told_once(rig: Rig) -> None:
    thief = rig.backend("thief")
    for number in range(200):
        rig.register(thief.port, OWN, f"mine{number}.ingot.localhost")
    heard(rig)
    assert rig.varz()["refused_platform_registrations"] == 200
    assert rig.log("router.out").count("platform_registration_refused") == 1
    assert rig.get("mine7.ingot.localhost").status == 200, "an application keeps its other hosts"


@pytest.mark.parametrize("user", sorted({*COMPONENTS, PEER} - {CONTROLLER, ORCHESTRATOR}))
def test_only_controllers_and_orchestrator_speak_for_the_platform(rig: Rig, user: str) -> None:
    served(rig, "controller", API, CONTROLLER)
    served(rig, "orchestrator", OWN, ORCHESTRATOR)
    attack(rig, user)
    heard(rig)
    assert {rig.get(API).json()["name"] for _ in range(20)} == {"controller"}
    assert {rig.get(OWN).json()["name"] for _ in range(20)} == {"orchestrator"}


@pytest.mark.parametrize(
    ("user", "subject"),
    [
        (SERVICES, "RaaS.announce"),
        (HEALTH_MANAGER, "healthmanager.nats.ping"),
        (HEALTH_MANAGER, "cloudcontrollers.hm.requests"),
        (PEER, "router.start"),
    ],
)
def test_a_user_that_asks_itself_may_not_answer_on_the_platforms_subject(
    rig: Rig, user: str, subject: str
) -> None:
    endpoint = {"host": "127.0.0.1", "port": rig.backend("thief").port, "uris": [OWN], "tags": {}}
    refused = asyncio.run(answer_itself(rig, user, subject, endpoint))
    heard(rig)
    assert rig.get(OWN).status == 404
    assert [PLATFORM_REGISTER in word for word in refused] == [True]


async def answer_itself(rig: Rig, user: str, subject: str, answer: dict[str, Any]) -> list[str]:
    """Ask on a subject that the user hears, have the answer go to the platform's subject; return what the server said of it."""
    asked: asyncio.Queue[Any] = asyncio.Queue()
    refused: list[str] = []

    async def note(error: Exception) -> None:
        refused.append(str(error))

    client = await nats.connect(
        f"nats://127.0.0.1:{rig.bus_port}", user=user, password=user, error_cb=note, allow_reconnect=False
    )
    await client.subscribe(subject, cb=asked.put)
    await client.publish(subject, b"{}", reply=PLATFORM_REGISTER)
    await asyncio.wait_for(asked.get(), 60)
    await client.publish(PLATFORM_REGISTER, json.dumps(answer).encode())
    # The server's word on the answer comes before what is said next.
    await client.publish(subject, b"{}")
    await asyncio.wait_for(asked.get(), 60)
    await client.close()
    return refused


def test_while_the_platform_is_away_no_wildcard_stands_in_for_it(rig: Rig) -> None:
    controller = served(rig, "controller", API, CONTROLLER)
    rig.register(rig.backend("thief").port, "*.ingot.localhost", "*.localhost")
    rig.wait_status("other.ingot.localhost", 200)
    for subject in UNREGISTER:
        rig.register(controller.port, API, subject=subject, user=CONTROLLER)
    rig.wait_status(API, 404)
    assert rig.get(f"{API.upper()}.").status == 404
    # Of its own, without the process, nginx knows it, too.
    rig.kill("router")
    assert rig.get("more.ingot.localhost").status == 200
    assert [rig.get(host).status for host in UNCLAIMED] == [503] * 3


def test_a_platform_that_cannot_be_reached_is_not_replaced_by_a_wildcard(rig: Rig) -> None:
    rig.register(rig.backend("thief").port, "*.ingot.localhost")
    rig.wait_status("other.ingot.localhost", 200)
    # Nothing listens there.
    rig.register(free_port(), API, subject=PLATFORM_REGISTER, user=CONTROLLER)
    rig.wait_status(API, 503)


def test_a_new_process_serves_the_platform_while_the_bus_is_away(rig: Rig) -> None:
    served(rig, "controller", API, CONTROLLER)
    rig.kill("nats")
    rig.kill("router", signal.SIGTERM)
    rig.start_router()
    rig.wait_ready()
    assert rig.get(API).json()["name"] == "controller"


def test_what_a_router_of_the_release_before_left_is_not_taken_over(rig: Rig) -> None:
    rig.kill("router", signal.SIGTERM)
    thief = rig.backend("thief")
    routes = {host: [{"address": "127.0.0.1", "port": thief.port, "tags": {}}] for host in (API, OWN, "a.x")}
    push(rig.folder, {"epoch": "a" * 32, "seq": 1, "full": True, "set": routes})
    assert rig.get(OWN).json()["name"] == "thief"
    rig.start_router()
    rig.wait_ready()
    assert rig.get("a.x").json()["name"] == "thief"
    assert [rig.get(host).status for host in (API, OWN)] == [404, 404]
    served(rig, "controller", API, CONTROLLER)


def test_a_bus_of_the_release_before_takes_no_host_away() -> None:
    """A roll back begins with the bus: its permissions know nothing of the platform's subjects, and routers are still new."""
    ages = {"prune_seconds": 2, "sweep_seconds": 0.2, "start_seconds": 1}
    with running(router=ages, users=authorization()) as rig:
        controller = served(rig, "controller", API, CONTROLLER)
        rig.register(rig.backend("app").port, "app.example.com", app=7)
        rig.wait_status("app.example.com", 200)
        rig.kill("nats")
        rig.users = authorization(without="ingot.platform.")
        rig.start_nats()
        until(
            lambda: "bus_permission_denied" in rig.log("router.out"), "the router may not hear the platform"
        )
        until(lambda: rig.bus_of(CONTROLLER).bus.connected, "the controller is back on the bus")
        for subject in REGISTER:
            rig.register(controller.port, API, subject=subject, user=CONTROLLER)
        # A route that is not confirmed is gone after its age.
        rig.wait_status("app.example.com", 404)
        assert rig.get(API).json()["name"] == "controller"


def test_others_hosts_are_not_registered_as_the_platforms(rig: Rig) -> None:
    backend = rig.backend("console")
    rig.register(backend.port, "app.ingot.localhost", STATUS, subject=PLATFORM_REGISTER, user=CONTROLLER)
    rig.register(backend.port, STATUS, subject=PLATFORM_REGISTER, user=ORCHESTRATOR)
    rig.wait_status(STATUS, 200)
    assert rig.get("app.ingot.localhost").status == 404
    assert "app.ingot.localhost: not a host of the platform" in rig.log("router.out")
    rig.register(backend.port, STATUS, subject=PLATFORM_UNREGISTER, user=CONTROLLER)
    rig.wait_status(STATUS, 404)


def push(folder: Path, delta: dict[str, Any]) -> None:
    """Hand nginx a delta as a router process does."""
    connection = http.client.HTTPConnection("nginx", timeout=20)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(folder / "data.sock"))
    try:
        connection.request("POST", "/routes", json.dumps(delta))
        assert connection.getresponse().status == 200
    finally:
        connection.close()
