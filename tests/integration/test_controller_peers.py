"""What health managers, routers, DEAs and operators meet of a controller."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import httpx
import psycopg
import pytest

from components.common.bus.messages import BulkCredentials, ComponentAnnouncement, HmRequest
from components.common.plain_http import NO_TLS
from tests.integration import forked
from tests.integration.controller_rig import ADMIN, Client, ControllerProcess, Peers
from tests.support.waiting import until

BULK = ("bulk_api", "bulk secret")


@dataclass
class World:
    controller: ControllerProcess
    peers: Peers
    again: Callable[[], ControllerProcess]
    database_url: str

    @property
    def client(self) -> Client:
        return Client(self.controller.url).login()


@pytest.fixture
def world(
    nats_server: str, postgres_url: str, tmp_path: Path, free_port: Callable[[], int]
) -> Iterator[World]:
    peers = Peers(nats_server)
    started: list[ControllerProcess] = []

    def begin() -> ControllerProcess:
        started.append(ControllerProcess(tmp_path, free_port(), nats_server, postgres_url))
        return started[-1]

    begin()
    try:
        until(started[0].ready, "controller is ready", 40)
        yield World(started[0], peers, begin, postgres_url)
    finally:
        for controller in started:
            controller.process.terminate()
        for controller in started:
            controller.stop()
        peers.close()


def pushed(client: Client, name: str, instances: int = 2) -> None:
    assert client.create(name, instances=instances).status_code == 302
    assert client.upload(name, {"app.py": name}).status_code == 200
    answer = client.put(name, state="STARTED")
    assert answer.status_code == 200, answer.text


def ask(world: World, method: str, path: str, **options: Any) -> httpx.Response:
    return httpx.request(
        method,
        world.controller.url + path,
        trust_env=False,
        verify=NO_TLS,
        timeout=10,
        **cast("dict[str, Any]", {"auth": BULK, **options}),
    )


def test_health_managers_requests(world: World) -> None:
    client, peers = world.client, world.peers
    pushed(client, "app")
    until(lambda: len(peers.running) == 2, "both run")
    row = next(iter(ask(world, "GET", "/bulk/apps?batch_size=1&bulk_token={}").json()["results"].values()))
    app, version = row["id"], row["version"]

    def say(**message: Any) -> None:
        peers.bus.publish("cloudcontrollers.hm.requests", HmRequest(droplet=app, **message))

    before = len(peers.starts)
    say(op="START", version="old-0", indices=[0])
    say(op="START", version=version, indices=[0, 7], flapping=True)
    until(lambda: len(peers.starts) == before + 1, "one of them is heard")
    assert (peers.starts[-1][1].index, peers.starts[-1][1].flapping) == (0, True)
    say(op="STOP", last_updated=row["last_updated"] - 1, instances=["aa"])
    say(op="STOP", last_updated=row["last_updated"], instances=["bb"])
    until(lambda: [s.instances for s in peers.stops] == [["bb"]], "the current one is heard")
    peers.bus.publish("cloudcontrollers.hm.requests", HmRequest(droplet=999, op="STOP", instances=["cc"]))
    until(lambda: peers.stops[-1].droplet == 999, "an unknown application is stopped")
    assert peers.stops[-1].instances is None


def test_bulk(world: World) -> None:
    client = world.client
    for n in range(3):
        client.create(f"app{n}")
    found = world.peers.bus.request("cloudcontroller.bulk.credentials", None, BulkCredentials)
    assert (found.user, found.password) == BULK
    assert ask(world, "GET", "/bulk/apps", auth=("bulk_api", "wrong")).status_code == 401
    names: list[str] = []
    token = "{}"
    while True:
        page = ask(world, "GET", f"/bulk/apps?batch_size=2&bulk_token={token}").json()
        if not page["results"]:
            break
        names += [row["name"] for row in page["results"].values()]
        token = str(page["bulk_token"]).replace("'", '"')
    assert names == ["app0", "app1", "app2"]
    assert ask(world, "GET", "/bulk/counts?model=user").json() == {"counts": {"user": 1}}


def test_leases(world: World) -> None:
    def take(holder: str, ttl: float = 30) -> tuple[int, str, int]:
        answer = ask(world, "PUT", "/v2/leases/health_manager", json={"holder": holder, "ttl": ttl})
        body = answer.json()
        assert 0 < body["expires_in"] <= 30
        return answer.status_code, body["holder"], body["token"]

    assert take("a", 3) == (200, "a", 1)
    assert take("a", 3) == (200, "a", 1)
    assert take("b") == (409, "a", 1)
    until(lambda: take("b") == (200, "b", 2), "it ends by itself")
    assert ask(world, "DELETE", "/v2/leases/health_manager", json={"holder": "a"}).status_code == 409
    assert ask(world, "DELETE", "/v2/leases/health_manager", json={"holder": "b"}).status_code == 200
    # The fence grows even when the same one comes back.
    assert take("b") == (200, "b", 3)
    assert ask(world, "PUT", "/v2/leases/x", json={"holder": "a", "ttl": 0}).status_code == 400
    assert (
        ask(world, "PUT", "/v2/leases/x", json={"holder": "a", "ttl": 5}, auth=("a", "b")).status_code == 401
    )


def test_two_cannot_take_one_lease(world: World) -> None:
    got: list[int] = []

    def take(n: int) -> None:
        got.append(ask(world, "PUT", "/v2/leases/one", json={"holder": f"h{n}", "ttl": 30}).status_code)

    threads = [threading.Thread(target=take, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == [200, 409, 409, 409, 409, 409]


def test_a_lost_machine_is_remembered_by_a_new_controller(world: World) -> None:
    def states(client: Client) -> dict[str, str]:
        machines = client.call("GET", "/v2/machines").json()["machines"]
        return {m["id"]: m["state"] for m in machines}

    client = world.client
    until(lambda: states(client) == {"0-a": "up", "1-b": "up"}, "both are up")
    assert client.call("GET", "/v2/machines", headers={"AUTHORIZATION": "x"}).status_code == 403

    def written() -> bool:
        with psycopg.connect(world.database_url.replace("+psycopg", "")) as connection:
            row = connection.execute("SELECT count(*) FROM machines").fetchone()
            return row is not None and row[0] == 2

    until(written, "ccdb has both", 20)
    world.peers.silent.add("1-b")
    until(lambda: states(client) == {"0-a": "up", "1-b": "lost"}, "one is lost")
    world.controller.stop()
    second = world.again()
    until(second.ready, "the next controller is ready", 40)
    other = client.at(second.url)
    until(lambda: states(other) == {"0-a": "up", "1-b": "lost"}, "it knows", 30)
    world.peers.silent.clear()
    until(lambda: states(other) == {"0-a": "up", "1-b": "up"}, "it is back")


def test_files_come_from_the_dea(world: World) -> None:
    asked: list[tuple[str, str]] = []

    class Files(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers["Authorization"]))
            good = "missing" not in self.path
            self.send_response(200 if good else 404)
            self.end_headers()
            self.wfile.write(b"a line\n")

        def log_message(self, *_args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Files)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        client, peers = world.client, world.peers
        peers.file_server = (f"http://127.0.0.1:{server.server_port}/droplets/", ["dea", "secret"])
        client.create("app", instances=1)
        assert client.call("GET", "/apps/app/instances/0/files/logs").json()["code"] == 305
        client.upload("app", {"app.py": "x"})
        client.put("app", state="STARTED")
        until(lambda: peers.running, "it runs")
        for path in ("%2Flogs%2Fstdout.log", "logs%2Fstdout.log", "logs/stdout.log"):
            answer = client.call("GET", f"/apps/app/instances/0/files/{path}")
            assert (answer.status_code, answer.text) == (200, "a line\n")
            assert asked[-1][0] == "/droplets/app-0/logs/stdout.log"
        for root in ("files/%2F", "files/", "files"):
            assert client.call("GET", f"/apps/app/instances/0/{root}").status_code == 200
        assert asked[-1] == ("/droplets/app-0/", "Basic ZGVhOnNlY3JldA==")
        id_ = f"{1:016x}{0:016x}"
        assert client.call("GET", f"/apps/app/instances/{id_}/files/a%20b").status_code == 200
        assert asked[-1][0].endswith("/a%20b")
        assert client.call("GET", f"/apps/app/instances/{'f' * 32}/files/a").json()["code"] == 306
        assert client.call("GET", "/apps/app/instances/1/files/a").json()["code"] == 304
        assert client.call("GET", "/apps/app/instances/0/files/missing").json()["code"] == 306
        assert "done" in client.call("GET", "/apps/app/instances/0/files/logs%2Fstaging.log").text
    finally:
        server.shutdown()
        server.server_close()


def test_probes_and_route(world: World) -> None:
    url, peers = world.controller.url, world.peers
    registered = until(lambda: [b for s, b in peers.routes if s == "router.register"], "a route")[0]
    assert registered["uris"] == ["api.ingot.localhost"]
    assert registered["port"] == world.controller.port
    assert registered["tags"] == {"component": "CloudController"}
    assert httpx.get(f"{url}/healthz", trust_env=False).text == "ok\n"
    assert httpx.get(f"{url}/varz", trust_env=False).status_code == 401
    watch: dict[str, Any] = {"auth": ("status", "watching"), "trust_env": False}
    assert httpx.get(f"{url}/varz", **watch).json()["type"] == "CloudController"
    assert "ingot_controller_requests_total" in httpx.get(f"{url}/metrics", **watch).text
    # Of its workers one answers. Nobody else follows within a second, but the first may be late where the machine is busy.
    discover = partial(
        peers.bus.request_many, "vcap.component.discover", None, ComponentAnnouncement, timeout=1
    )
    found = until(discover, "an announcement")
    assert [(f.type, f.credentials) for f in found] == [("CloudController", ["status", "watching"])]
    text = world.controller.log.read_text()
    for secret in ("bulk secret", "stage/secret", "stage%2Fsecret", "correct horse", "watching"):
        assert secret not in text
    client = world.client
    client.create("app", env=["KEY=hidden value"])
    assert client.token not in world.controller.log.read_text()
    assert ADMIN in world.controller.log.read_text()


def test_controllers_that_start_together_migrate_once(
    nats_server: str, postgres_url: str, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    with forked.forking(False):
        several = [
            ControllerProcess(tmp_path, free_port(), nats_server, postgres_url, workers=1) for _ in range(3)
        ]
    try:
        for controller in several:
            until(controller.ready, "controller is ready", 180)
    finally:
        # Asked once, as a service manager does: an interpreter that is ending dies of a second signal.
        for controller in several:
            controller.process.terminate()
        for controller in several:
            assert controller.process.wait(60) == 0


def test_a_dea_of_2011_is_asked(nats_server: str, tmp_path: Path, free_port: Callable[[], int]) -> None:
    peers = Peers(nats_server, deas=(), old_dea="0-old")
    database = f"sqlite:///{tmp_path}/ccdb"
    controller = ControllerProcess(tmp_path, free_port(), nats_server, database, workers=1)
    try:
        until(controller.ready, "controller is ready", 40)
        pushed(Client(controller.url).login(), "app")
        until(lambda: [d for d, _ in peers.starts] == ["0-old", "0-old"], "both were sent there")
    finally:
        controller.stop()
        peers.close()
