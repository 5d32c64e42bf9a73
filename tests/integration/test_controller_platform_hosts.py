"""The platform's hosts at controllers: no user claims one; an application that has one from before loses it, and owner and DEAs are told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import insert, select

from components.common.errors import BusUnavailableError
from components.controller.db.models import App, Route
from tests.contract.vmc_client import body_of, controller_in, served
from tests.integration.controller_rig import ADMIN, PASSWORD, Client, ControllerProcess, Peers
from tests.support.waiting import until

OWN, STATUS = "orchestrator.ingot.localhost", "status.ingot.localhost"
DESK = "desk.ingot.localhost"
HOSTS = ["api.ingot.localhost", OWN, "ingot.localhost", STATUS]

Begin = Callable[..., ControllerProcess]


@pytest.fixture
def begin(
    nats_server: str, postgres_url: str, tmp_path: Path, free_port: Callable[[], int]
) -> Iterator[Begin]:
    """Yield a function that starts controllers of one platform and returns once each is ready."""
    controllers: list[ControllerProcess] = []

    def start(count: int = 1, **more: Any) -> ControllerProcess:
        fresh = [
            ControllerProcess(tmp_path, free_port(), nats_server, postgres_url, workers=1, **more)
            for _ in range(count)
        ]
        controllers.extend(fresh)
        for controller in fresh:
            until(controller.ready, "controller is ready", 180)
        return fresh[0]

    try:
        yield start
    finally:
        for controller in controllers:
            controller.process.terminate()
        for controller in controllers:
            controller.stop()


@pytest.fixture
def peers(nats_server: str) -> Iterator[Peers]:
    peers = Peers(nats_server)
    yield peers
    peers.close()


def tenant(controller: ControllerProcess, email: str = "mallory@example.com") -> Client:
    client = Client(controller.url)
    assert client.call("POST", "/users", {"email": email, "password": "pw"}).status_code == 204
    return client.login(email, "pw")


@contextmanager
def ccdb(url: str) -> Iterator[sqlalchemy.Connection]:
    engine = sqlalchemy.create_engine(url)
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


@pytest.mark.parametrize("admin", [False, True])
def test_nobody_claims_a_host_of_the_platform(begin: Begin, peers: Peers, *, admin: bool) -> None:
    controller = begin(reserved_hosts=[STATUS])
    client = Client(controller.url).login() if admin else tenant(controller)
    assert client.create("mine").status_code == 302
    for host in HOSTS:
        for uri in (host, host.upper(), f"http://{host}:80/"):
            for answer in (client.create("other", uris=[uri]), client.put("mine", uris=[uri])):
                assert (answer.status_code, answer.json()["code"]) == (400, 701)
                assert answer.json()["description"] == f"The URI '{host}' has already been taken or reserved"
    assert [app["name"] for app in client.call("GET", "/apps").json()] == ["mine"]
    assert client.app("mine")["uris"] == ["mine.ingot.localhost"]
    assert not [u for u in peers.updates if set(u.uris) & set(HOSTS)]


def test_a_host_from_before_it_was_reserved_is_taken_back_once_and_told(begin: Begin, peers: Peers) -> None:
    controller = begin()
    client = tenant(controller)
    client.create("mine", uris=["mine.ingot.localhost", STATUS, DESK], instances=2)
    client.upload("mine", {"app.py": "x"})
    assert client.put("mine", state="STARTED").status_code == 200
    until(lambda: len(peers.running) == 2, "it runs")
    app_id, before = peers.starts[0][1].droplet, client.app("mine")
    assert before["uris"] == [DESK, "mine.ingot.localhost", STATUS]
    begin(2, reserved_hosts=[STATUS, DESK])
    until(lambda: client.app("mine")["uris"] == ["mine.ingot.localhost"], "they are taken back")
    update = until(lambda: [u for u in peers.updates if u.droplet == app_id], "DEAs are told")[0]
    assert update.uris == ["mine.ingot.localhost"]
    assert {i for i, _ in peers.running} == {app_id}, "its instances run on"
    after = client.app("mine")
    assert (after["state"], after["version"]) == ("STARTED", before["version"])
    assert after["meta"]["version"] == before["meta"]["version"] + 1, "who changes it has to look first"
    events = [e for e in client.call("GET", "/v2/events?app=mine").json()["events"] if e["who"] == "platform"]
    assert {(e["method"], e["path"], e["acting_for"], e["outcome"]) for e in events} == {
        (
            "DELETE",
            f"/apps/mine/uris/{host}",
            "mallory@example.com",
            f"taken off: {host} is a host of the platform",
        )
        for host in (DESK, STATUS)
    }
    told = [e for e in peers.events if e[2] == "platform"]
    assert [(e[1], e[3], e[4]) for e in told] == [
        ("SYSTEM", f"DELETE:/apps/mine/uris/{host}", "SUCCEEDED") for host in (DESK, STATUS)
    ]
    # Two controllers have looked.
    assert len(events) == 2
    assert len([u for u in peers.updates if u.droplet == app_id]) == 1
    answer = client.put("mine", uris=["mine.ingot.localhost", OWN])
    assert answer.json()["code"] == 701


def test_a_host_given_by_a_controller_of_the_release_before_is_taken_back(
    begin: Begin, peers: Peers, postgres_url: str
) -> None:
    controller = begin(sweep_seconds=0.5)
    client = tenant(controller)
    client.create("late")
    with ccdb(postgres_url) as ccdb_:
        # A controller of the release before knows no better.
        app_id = ccdb_.scalar(select(App.id).where(App.name == "late"))
        ccdb_.execute(insert(Route).values(url=OWN, app_id=app_id))
    until(lambda: client.app("late")["uris"] == ["late.ingot.localhost"], "it is taken back")
    until(lambda: [u for u in peers.updates if u.droplet == app_id], "DEAs are told")


def test_it_stays_while_deas_cannot_be_told(tmp_path: Path) -> None:
    with controller_in(tmp_path) as controller, served(controller) as anonymous:
        client = anonymous.login(ADMIN, PASSWORD)
        assert client.call("POST", "/apps", body_of("mine")).status == 302
        with controller.db.session() as session:
            session.add(Route(url=OWN, app_id=session.scalars(select(App.id)).one()))
        with pytest.raises(BusUnavailableError):
            controller.platform_hosts.take_back()
        assert OWN in client.call("GET", "/apps/mine").json()["uris"]
        events = client.call("GET", "/v2/events?app=mine").json()["events"]
        assert [e["who"] for e in events] == [ADMIN]
