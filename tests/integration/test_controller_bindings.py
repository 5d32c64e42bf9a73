"""Services over two controllers, one database, one bus and a gateway: what applications get, and what crowds do."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import alembic.command
import httpx
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from components.controller.db.database import Database
from components.controller.db.models import Base
from tests.contract.gateway_stub import TOKEN, GatewayStub
from tests.integration.controller_rig import Client, ControllerProcess, Peers
from tests.support.waiting import until

WISH = {"vendor": "redis", "version": "7.0", "tier": "free"}


@dataclass
class Platform:
    one: ControllerProcess
    two: ControllerProcess
    peers: Peers
    gateway: GatewayStub

    def client(self) -> Client:
        return Client(self.one.url).login()

    def as_gateway(self, method: str, path: str, body: object = None) -> httpx.Response:
        headers = {"X-VCAP-Service-Token": TOKEN}
        return Client(self.two.url).call(method, f"/services/v1/offerings{path}", body, headers=headers)

    def handles(self) -> set[str]:
        answer = self.as_gateway("GET", f"/{self.gateway.label}/handles")
        return {handle["service_id"] for handle in answer.json()["handles"]}


@pytest.fixture
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if getattr(request, "param", "") == "sqlite":
        return f"sqlite:///{tmp_path}/ccdb.sqlite"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
def platform(
    nats_server: str, database_url: str, tmp_path: Path, free_port: Callable[[], int]
) -> Iterator[Platform]:
    gateway = GatewayStub()
    peers = Peers(nats_server)
    more = {"service_tokens": {"redis": TOKEN}}
    controllers = [
        ControllerProcess(tmp_path, free_port(), nats_server, database_url, **more) for _ in range(2)
    ]
    try:
        for controller in controllers:
            until(controller.ready, "controller is ready", 40)
        raised = Platform(controllers[0], controllers[1], peers, gateway)
        assert raised.as_gateway("POST", "", gateway.offering(timeout=20)).status_code == 200
        yield raised
    finally:
        for controller in controllers:
            controller.process.terminate()
        for controller in controllers:
            controller.stop()
        peers.close()
        gateway.close()


def together(works: list[Callable[[], httpx.Response]]) -> list[int]:
    """Sends requests at the same time; gives their statuses, sorted."""
    statuses: list[int] = []
    barrier = threading.Barrier(len(works))

    def run(work: Callable[[], httpx.Response]) -> None:
        barrier.wait()
        statuses.append(work().status_code)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return sorted(statuses)


@pytest.mark.parametrize("database_url", ["postgresql", "sqlite"], indirect=True)
def test_the_tables_are_those_of_the_models(database_url: str) -> None:
    db = Database(database_url, 1)
    try:
        db.migrate()
        with db.engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": True})
            assert compare_metadata(context, Base.metadata) == []
        with db.engine.connect() as connection:
            alembic.command.downgrade(db.alembic_config(connection), "0001")
            connection.commit()
        db.migrate()
        # As a release finds it that was rolled back to.
        with db.engine.begin() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = 'from the future'"))
        db.migrate()
        with db.engine.connect() as connection:
            assert connection.scalar(text("SELECT version_num FROM alembic_version")) == "from the future"
    finally:
        db.close()


@pytest.mark.parametrize("database_url", ["postgresql", "sqlite"], indirect=True)
def test_an_application_gets_its_services_when_it_is_restarted(platform: Platform) -> None:
    one = platform.client()
    two = one.at(platform.two.url)
    peers, gateway = platform.peers, platform.gateway
    assert one.call("POST", "/services", {**WISH, "name": "r1"}).status_code == 200
    one.create("hello")
    one.upload("hello", {"app.py": "application = 1"})
    assert two.put("hello", state="STARTED").status_code == 200
    until(lambda: peers.starts, "a start")
    assert peers.starts[0][1].services == []

    # As `vmc bind-service` does it: bind, look, stop, start.
    assert two.put("hello", services=["r1"]).status_code == 200
    assert one.app("hello")["services"] == ["r1"]
    assert (len(peers.starts), peers.stops) == (1, []), "to bind restarts nothing"
    assert one.put("hello", instances=2).status_code == 200
    until(lambda: len(peers.starts) == 2, "one instance more")
    assert len(peers.staged) == 1, "and stages nothing while it runs"
    assert one.put("hello", state="STOPPED").status_code == 200
    until(lambda: not peers.running, "stopped")
    assert two.put("hello", state="STARTED").status_code == 200
    until(lambda: len(peers.running) == 2, "started again")
    bound = peers.starts[-1][1].services[0]
    assert (bound["name"], bound["label"], bound["plan"]) == ("r1", "redis-7.0", "free")
    assert bound["credentials"]["password"] == f"p{next(iter(gateway.handles))}"
    assert peers.staged[-1].properties["services"][0]["name"] == "r1"
    assert len(peers.staged) == 2, "its services are what staging depends on"

    assert one.put("hello", services=[]).status_code == 200
    assert gateway.handles == {}
    one.put("hello", state="STOPPED")
    one.put("hello", state="STARTED")
    until(lambda: peers.starts[-1][1].services == [], "started without")
    assert two.call("DELETE", "/services/r1").status_code == 200
    assert (gateway.instances, platform.handles()) == ({}, set())
    for log in (platform.one.log, platform.two.log):
        assert TOKEN not in log.read_text()
        assert bound["credentials"]["password"] not in log.read_text()


def test_crowds_make_one_of_a_name_and_bind_once(platform: Platform) -> None:
    client = platform.client()
    clients = [client, client.at(platform.two.url)] * 3
    platform.gateway.late = {"provision": 0.5, "bind": 0.5}
    wish = {**WISH, "name": "same"}
    made = together([lambda c=c: c.call("POST", "/services", wish) for c in clients])  # type: ignore[misc]
    assert made == [200, *[400] * 5]
    assert set(platform.gateway.instances) == platform.handles(), "what came second was taken back"
    client.create("hello")
    app = client.app("hello")
    app["meta"].pop("version")
    body = {**app, "services": ["same"]}
    bound = together([lambda c=c: c.call("PUT", "/apps/hello", body) for c in clients])  # type: ignore[misc]
    assert bound == [200] * 6
    assert len(platform.gateway.handles) == 1
    assert set(platform.gateway.handles) <= platform.handles()
    deleted = together([lambda c=c: c.call("DELETE", "/services/same") for c in clients[:2]])  # type: ignore[misc]
    assert deleted in ([200, 404], [200, 200])
    assert client.app("hello")["services"] == []
    assert (platform.gateway.handles, platform.handles()) == ({}, set())


def test_to_bind_what_is_being_deleted_leaves_nothing(platform: Platform) -> None:
    client = platform.client()
    client.call("POST", "/services", {**WISH, "name": "r1"})
    client.create("hello")
    gateway = platform.gateway
    gateway.late = {"bind": 1.0}
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(client.put("hello", services=["r1"])))
    thread.start()
    until(lambda: gateway.handles, "the gateway binds")
    assert client.at(platform.two.url).call("DELETE", "/services/r1").status_code == 200
    thread.join(30)
    assert (answers[0].status_code, answers[0].json()["code"]) == (404, 500)
    assert (gateway.handles, gateway.instances, platform.handles()) == ({}, {}, set())
    assert client.app("hello")["services"] == []


def test_a_controller_killed_on_the_way_leaves_what_the_gateway_can_find(platform: Platform) -> None:
    client = platform.client()
    gateway = platform.gateway
    gateway.late = {"provision": 3.0}
    failed: list[Exception] = []

    def create() -> None:
        try:
            client.call("POST", "/services", {**WISH, "name": "r1"})
        except httpx.HTTPError as error:
            failed.append(error)

    thread = threading.Thread(target=create)
    thread.start()
    until(lambda: gateway.instances, "the gateway has made it")
    pids = platform.one.process.pid
    children = Path(f"/proc/{pids}/task/{pids}/children").read_text().split()
    for pid in (pids, *map(int, children)):
        os.kill(pid, signal.SIGKILL)
    thread.join(30)
    assert failed
    other = client.at(platform.two.url)
    assert other.call("GET", "/services").json() == []
    assert platform.handles() == set()
    assert len(gateway.instances) == 1, "an orphan: not among the handles"
    gateway.late = {}
    assert other.call("POST", "/services", {**WISH, "name": "r1"}).status_code == 200
    assert len(platform.handles()) == 1
