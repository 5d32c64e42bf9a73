"""A controller among peers of 2011, on a real bus and a real server: its subjects of protocol 2, and the calls that need peers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.controller_rig import Client, ControllerProcess, Peers
from tests.integration.wire_peer import Peer, break_all, check_discovery, get_text, kinds, peer_on
from tests.support.waiting import until, until_async

HEARS = (
    "dea.stop", "dea.update", "dea.*.start", "dea.discover", "dea.find.droplet", "droplet.updated", "healthmanager.health", "healthmanager.status",
    "staging", "router.register", "ingot.platform.register", "vcap.cc.events", "vcap.component.announce",
)  # fmt: skip
TYPED = [
    "router.start",
    "cloudcontrollers.hm.requests",
    "ingot.dea.beat",
    "droplet.exited",
    "ingot.task.ended",
    "ingot.dea.usage",
    "ingot.router.usage",
]
START = {
    "droplet": "int", "name": "str", "uris": "list", "runtime": "str", "framework": "str", "sha1": "str", "executableFile": "str",
    "executableUri": "str", "version": "str", "services": "list", "limits": "dict", "env": "list", "users": "list", "index": "int",
    "debug": "NoneType", "console": "NoneType", "flapping": "bool",
}  # fmt: skip


@dataclass
class Setting:
    controller: ControllerProcess
    peers: Peers
    nats: str
    client: Client


@pytest.fixture
def setting(nats_server: str, tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Setting]:
    database = f"sqlite:///{tmp_path}/ccdb"
    peers = Peers(nats_server)
    controller = ControllerProcess(
        tmp_path,
        free_port(),
        nats_server,
        database,
        workers=1,
        https_required_for_admins=True,
        address="127.0.0.1",
    )
    try:
        until(controller.ready, "controller is ready", 60)
        # Through a router of 2011, which writes the header with underscores.
        admin = Client(controller.url)
        admin.http.headers["X-Forwarded_Proto"] = "https"
        yield Setting(controller, peers, nats_server, admin.login())
    finally:
        controller.stop()
        peers.close()


async def test_a_controller_among_peers_of_2011(setting: Setting) -> None:
    async with peer_on(setting.nats) as peer:
        await peer.listen(*HEARS)
        await check_discovery(peer, "CloudController")
        credentials = await peer.ask("cloudcontroller.bulk.credentials")
        assert credentials == {"user": "bulk_api", "password": "bulk secret"}
        mark = len(peer.heard)
        await peer.say("router.start", {"id": "r" * 32, "version": 0.98})
        route = await peer.hears("router.register", since=mark)
        assert route == {
            **route,
            "uris": ["api.ingot.localhost"],
            "port": setting.controller.port,
            "tags": {"component": "CloudController"},
        }
        assert await peer.hears("ingot.platform.register", since=mark) == route
        await _life(setting, peer, "one")
        metrics = f"{setting.controller.url}/metrics"
        await break_all(peer, TYPED, lambda: get_text(metrics, "status", "watching"))
        for subject in (
            "ingot.component.logs",
            "cloudcontroller.bulk.credentials",
            "ingot.staging.1.log",
            "ingot.staging.x.log",
        ):
            for data in (b"\xff", b"[" * 100_000, b"{", b"7"):
                await peer.say(subject, data)
        capacity = {"memory": 1 << 40}
        for wrong in ("", "\0", "x\ny", "i" * 65):
            await peer.say("ingot.dea.beat", {"id": wrong, "address": "127.0.0.1", "capacity": capacity})
        machines = await asyncio.to_thread(
            lambda: setting.client.call("GET", "/v2/machines").json()["machines"]
        )
        assert {m["id"] for m in machines} >= {"0-a", "1-b"}
        assert all(m["id"].isprintable() and 0 < len(m["id"]) <= 64 for m in machines)
        await _life(setting, peer, "two")
        await check_discovery(peer, "CloudController")


async def _life(setting: Setting, peer: Peer, name: str) -> None:
    client, mark = setting.client, len(peer.heard)

    def push() -> dict[str, Any]:
        assert client.create(name, instances=2).status_code == 302
        assert client.upload(name, {"app.py": "x"}).status_code == 200
        answer = client.put(name, state="STARTED")
        assert (answer.status_code, answer.text) == (200, " "), answer.text
        until(lambda: client.app(name)["runningInstances"] == 2, "both run")
        return client.app(name)

    app = await asyncio.to_thread(push)
    asked = await peer.hears("staging", since=mark)
    assert kinds(asked) == {"app_id": "int", "properties": "dict", "download_uri": "str", "upload_uri": "str"}
    assert (
        kinds(asked["properties"]).items()
        >= {"services": "list", "framework": "str", "runtime": "str", "resources": "dict"}.items()
    )
    starts = [(n, b) for n, b, _ in peer.heard[mark:] if n.endswith(".start") and n.startswith("dea.")]
    assert sorted(b["index"] for _, b in starts) == [0, 1]
    subject, start = starts[0]
    assert subject in ("dea.0-a.start", "dea.1-b.start")
    assert {k: v for k, v in kinds(start).items() if k in START} == START
    assert kinds(start["limits"]) == {"mem": "int", "disk": "int", "fds": "int"}
    assert start["version"] == app["version"] == f"{start['sha1']}-0"
    assert start["executableUri"].endswith(
        f":{setting.controller.port}/staged_droplets/{start['droplet']}/{start['sha1']}"
    )
    assert await peer.hears("droplet.updated", since=mark) == {"droplet": start["droplet"]}
    health = await peer.hears("healthmanager.health", since=mark)
    assert health == {"droplets": [{"droplet": start["droplet"], "version": start["version"]}]}
    event = await peer.hears("vcap.cc.events", lambda b: b[3] == f"PUT:/apps/{name}", mark)
    assert [type(v).__name__ for v in event[:2]] == ["float", "str"]
    assert (event[1], event[2], "SUCCEEDED" in event) == ("USER", "admin@ingot.localhost", True)

    await _questions(client, peer, start)
    await _requests(setting, peer, app)


async def _questions(client: Client, peer: Peer, start: dict[str, Any]) -> None:
    mark, name = len(peer.heard), start["name"]
    shown = await asyncio.to_thread(lambda: client.call("GET", f"/apps/{name}/instances").json()["instances"])
    assert [kinds(i) for i in shown] == [
        {
            "index": "int",
            "state": "str",
            "since": "int",
            **dict.fromkeys(("debug_ip", "debug_port", "console_ip", "console_port"), "NoneType"),
        }
    ] * 2
    question = await peer.hears("dea.find.droplet", since=mark)
    assert question == {
        **question,
        "droplet": start["droplet"],
        "version": start["version"],
        "states": ["STARTING", "RUNNING"],
    }
    flapping = await peer.hears("healthmanager.status", since=mark)
    assert flapping == {"droplet": start["droplet"], "state": "FLAPPING", "version": start["version"]}
    stats = await asyncio.to_thread(lambda: client.call("GET", f"/apps/{name}/stats").json())
    assert {k: v["state"] for k, v in stats.items()} == {"0": "RUNNING", "1": "RUNNING"}
    await peer.hears("dea.find.droplet", lambda b: b.get("include_stats") is True, mark)


async def _requests(setting: Setting, peer: Peer, app: dict[str, Any]) -> None:
    client, name = setting.client, app["name"]
    # A health manager of 2011 has the second one started anew, and one ended.
    row = await asyncio.to_thread(_row, setting, name)
    request = {
        "droplet": row["id"],
        "op": "START",
        "last_updated": row["last_updated"],
        "version": app["version"],
        "indices": [1],
    }
    mark = len(peer.heard)
    await peer.say("cloudcontrollers.hm.requests", {**request, "version": "old-0"})
    await peer.say("cloudcontrollers.hm.requests", request)
    await until_async(
        lambda: [b["index"] for n, b, _ in peer.heard[mark:] if n.endswith(".start")] == [1], "it is started"
    )
    ended = {"droplet": row["id"], "op": "STOP", "last_updated": row["last_updated"], "instances": ["f" * 32]}
    await peer.say("cloudcontrollers.hm.requests", ended)
    assert await peer.hears("dea.stop", since=mark) == {"droplet": row["id"], "instances": ["f" * 32]}

    mark = len(peer.heard)
    assert (await asyncio.to_thread(client.put, name, uris=[f"{name}-2.ingot.localhost"])).status_code == 200
    update = await peer.hears("dea.update", since=mark)
    assert {k: v for k, v in kinds(update).items() if k in START} == START
    assert update["uris"] == [f"{name}-2.ingot.localhost"]
    assert (await asyncio.to_thread(client.put, name, state="STOPPED")).status_code == 200
    stop = await peer.hears("dea.stop", since=mark)
    assert stop.items() <= {"droplet": row["id"], "version": app["version"]}.items()
    assert (await asyncio.to_thread(client.call, "DELETE", f"/apps/{name}")).status_code == 200


def _row(setting: Setting, name: str) -> dict[str, Any]:
    answer = httpx.get(
        f"{setting.controller.url}/bulk/apps", auth=("bulk_api", "bulk secret"), trust_env=False
    )
    return next(r for r in answer.json()["results"].values() if r["name"] == name)


def test_the_calls_that_need_peers(setting: Setting) -> None:
    client, peers = setting.client, setting.peers
    plain = Client(setting.controller.url, client.token)
    refused = plain.call("GET", "/apps")
    assert (refused.status_code, refused.json()["code"]) == (403, 202)
    large = client.http.post(
        "/apps", content=b'{"name":"' + b"n" * (40 << 20), headers={"AUTHORIZATION": client.token}
    )
    assert (large.status_code, large.json()["code"]) == (400, 100)
    client.create("app")
    client.upload("app", {"app.py": "x"})
    peers.staging_error = "compile: no such package"
    failed = client.put("app", state="STARTED")
    assert (failed.status_code, failed.json()["code"]) == (500, 310)
    assert "no such package" in failed.json()["description"]
    peers.staging_error = None
    assert client.put("app", state="STARTED").status_code == 200
    until(lambda: client.app("app")["runningInstances"] == 1, "it runs")
    assert client.call("GET", "/apps/app/update").json().keys() == {"state", "since"}
    stale = client.call("PUT", "/apps/app/update", {"meta": {"version": 99}})
    assert (stale.status_code, stale.json()["code"]) == (400, 102)
    # The old client of the interval sends it without a body.
    rolled = client.call("PUT", "/apps/app/update")
    assert (rolled.status_code, rolled.content) == (204, b"")
    until(lambda: client.call("GET", "/apps/app/update").json()["state"] == "SUCCEEDED", "it has been rolled")
    with _files() as (port, paths):
        peers.file_server = (f"http://127.0.0.1:{port}/droplets/", ["u", "p"])
        for path in ("/%2Flogs%2Fstdout.log", "/logs/stdout.log", "/logs%2Fstdout.log", "//logs//stdout.log"):
            answer = client.call(
                "GET", f"/apps/app/instances/0/files{path}", headers={"Accept": "*/*; q=0.5, application/xml"}
            )
            assert (answer.status_code, answer.text) == (200, "a line\n"), path
            assert paths.pop().replace("//", "/").endswith("/logs/stdout.log")
        for root in ("", "/", "/%2F"):
            assert client.call("GET", f"/apps/app/instances/0/files{root}").status_code == 200
    for path in ("/logs/x", "/%2F"):
        lost = client.call("GET", f"/apps/app/instances/0/files{path}")
        assert (lost.status_code, lost.json()["code"]) == (500, 306)


class _files:  # noqa: N801 - used as a function
    """A DEA's file server."""

    def __enter__(self) -> tuple[int, list[str]]:
        paths: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                paths.append(self.path)
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"a line\n")

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return int(self._server.server_address[1]), paths

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
