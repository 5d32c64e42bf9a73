"""The four calls of a push over two controllers, one database and one bus."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from components.common.bus.messages import StagingReply
from tests.integration.controller_rig import Client, ControllerProcess, Peers
from tests.support.waiting import until


@dataclass
class Platform:
    one: ControllerProcess
    two: ControllerProcess
    peers: Peers
    share: Path

    def client(self) -> Client:
        return Client(self.one.url).login()


@pytest.fixture
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if getattr(request, "param", "") == "sqlite":
        return f"sqlite:///{tmp_path}/ccdb.sqlite"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
def platform(
    nats_server: str, database_url: str, tmp_path: Path, free_port: Callable[[], int]
) -> Iterator[Platform]:
    peers = Peers(nats_server)
    controllers = [ControllerProcess(tmp_path, free_port(), nats_server, database_url) for _ in range(2)]
    try:
        for controller in controllers:
            until(controller.ready, "controller is ready", 40)
        yield Platform(controllers[0], controllers[1], peers, tmp_path / "share")
    finally:
        for controller in controllers:
            controller.process.terminate()
        for controller in controllers:
            controller.stop()
        peers.close()


def files_in(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.is_file())


@pytest.mark.parametrize("database_url", ["postgresql", "sqlite"], indirect=True)
def test_each_call_of_a_push_may_land_elsewhere(platform: Platform) -> None:
    one = platform.client()
    two = one.at(platform.two.url)
    assert one.call("GET", "/info").json()["user"] == "admin@ingot.localhost"

    created = one.create("hello", instances=3)
    assert created.status_code == 302
    assert created.headers["Location"] == f"{platform.one.url}/apps/hello"
    assert (
        two.upload("hello", {"app.py": "application = 1", ".top": "lost", "sub/.kept": "x"}).status_code
        == 200
    )
    app = one.app("hello")
    assert (app["state"], app["runningInstances"], app["meta"]["version"]) == ("STOPPED", 0, 1)
    started = two.call("PUT", "/apps/hello", {**app, "state": "STARTED", "debug": None, "console": None})
    assert started.status_code == 200, started.text

    peers = platform.peers
    until(lambda: len(peers.starts) == 3, "three start messages")
    assert sorted(m.index for _, m in peers.starts) == [0, 1, 2]
    assert {d for d, _ in peers.starts} == {"0-a", "1-b"}, "spread over both DEAs"
    message = peers.starts[0][1]
    assert message.name == "hello"
    assert message.uris == ["hello.ingot.localhost"]
    assert message.runtime == "python3"
    assert message.limits.mem == 64
    assert message.version == f"{message.sha1}-0"
    assert Path(message.executableFile).is_file()
    assert one.http.get(message.executableUri).status_code == 200
    assert one.http.get(message.executableUri[:-4] + "0000").status_code == 404
    assert set(peers.packages[0]) == {"app.py", "sub/", "sub/.kept"}
    assert peers.updated
    assert until(lambda: one.app("hello")["runningInstances"] == 3, "all run")
    assert [a["runningInstances"] for a in two.call("GET", "/apps").json()] == [3]
    instances = two.call("GET", "/apps/hello/instances").json()["instances"]
    assert [(i["index"], i["state"]) for i in instances] == [(n, "RUNNING") for n in range(3)]
    assert one.call("GET", "/apps/hello/stats").json()["2"]["stats"]["usage"]["mem"] == 20480.0
    assert "done" in two.call("GET", "/v2/apps/hello/staging_log").text
    assert one.call("GET", "/info").json()["usage"] == {"memory": 192, "apps": 1, "services": 0}

    _changes_of_a_running_app(platform, one, two)
    assert one.app("hello")["version"] == f"{message.sha1}-1"

    assert two.call("DELETE", "/apps/hello").status_code == 200
    until(lambda: not peers.running, "deleted")
    assert files_in(platform.share / "droplets") == []
    assert files_in(platform.share / "packages") == []
    assert one.call("GET", "/apps/hello").json()["code"] == 301
    deleted = ["USER", "admin@ingot.localhost", "DELETE:/apps/hello", "SUCCEEDED"]
    until(lambda: deleted in [e[1:] for e in peers.events], "an event")


def _changes_of_a_running_app(platform: Platform, one: Client, two: Client) -> None:
    """Smaller, larger, other routes, stop and start: no new staging."""
    peers = platform.peers
    assert one.put("hello", instances=1).status_code == 200
    until(lambda: len(peers.running) == 1, "two were stopped")
    assert peers.stops[-1].indices == [1, 2]
    assert two.put("hello", instances=2).status_code == 200
    until(lambda: len(peers.running) == 2, "one more")
    assert one.put("hello", uris=["a.ingot.localhost", "B.ingot.localhost:8080"]).status_code == 200
    until(lambda: peers.updates, "dea.update")
    assert peers.updates[-1].uris == ["a.ingot.localhost", "b.ingot.localhost"]
    assert one.put("hello", state="STOPPED").status_code == 200
    until(lambda: not peers.running, "all stopped")
    assert one.put("hello", state="STARTED").status_code == 200
    until(lambda: len(peers.running) == 2, "started again")
    assert len(peers.staged) == 1


def test_a_failed_staging_leaves_nothing(platform: Platform) -> None:
    client = platform.client()
    client.create("broken")
    client.upload("broken", {"app.py": "x"})
    platform.peers.staging_error = "compile: pip failed"
    answer = client.put("broken", state="STARTED")
    assert (answer.status_code, answer.json()["code"]) == (500, 310)
    assert "pip failed" in answer.json()["description"]
    assert "no such package" in answer.json()["description"]
    assert client.app("broken")["state"] == "STOPPED"
    assert platform.peers.starts == []
    assert files_in(platform.share / "droplets") == []
    assert "no such package" in client.call("GET", "/v2/apps/broken/staging_log").text
    # Mended without a new upload: the next start tries again.
    platform.peers.staging_error = None
    assert client.put("broken", state="STARTED").status_code == 200
    until(lambda: platform.peers.starts, "it starts now")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_stager_without_room_is_asked_again(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    """By `retry`, whatever the text; stagers of releases without it are known by the text's beginning."""
    full = [
        StagingReply("t", error="no room", retry=True),
        StagingReply("t", error="queue failed: too many applications are waiting to be staged."),
    ]
    peers, stage = platform.peers, platform.peers._stage

    async def answer(message: Any) -> None:
        await (message.respond(full.pop(0)) if full else stage(message))

    monkeypatch.setattr(peers, "_stage", answer)
    client = platform.client()
    client.create("patient")
    client.upload("patient", {"app.py": "x"})
    assert client.put("patient", state="STARTED").status_code == 200
    assert full == []
    assert len(peers.staged) == 1


@pytest.mark.parametrize("database_url", ["postgresql", "sqlite"], indirect=True)
def test_parallel_starts_stage_once(platform: Platform) -> None:
    client = platform.client()
    client.create("twice")
    client.upload("twice", {"app.py": "x"})
    peers = platform.peers
    peers.call(peers.hold.clear)
    answers: list[int] = []

    def start(url: str) -> None:
        answers.append(client.at(url).call("PUT", "/apps/twice", {"state": "STARTED"}).status_code)

    urls = [platform.one.url, platform.two.url, platform.one.url]
    threads = [threading.Thread(target=start, args=(url,)) for url in urls]
    for thread in threads:
        thread.start()
    until(lambda: peers.staged, "a staging")
    assert client.app("twice")["state"] == "STOPPED"
    assert (
        until(lambda: client.call("GET", "/v2/apps/twice/staging_log").text, "a live log")
        == "-----> building"
    )
    peers.call(peers.hold.set)
    for thread in threads:
        thread.join(30)
    assert answers == [200, 200, 200]
    until(lambda: peers.starts, "a start")
    assert len(peers.staged) == 1
    assert len(peers.starts) == 1


def test_new_bits_of_a_running_app_replace_its_instances(platform: Platform) -> None:
    client = platform.client()
    client.create("app")
    client.upload("app", {"app.py": "one"})
    client.put("app", state="STARTED")
    first = client.app("app")["version"]
    client.upload("app", {"app.py": "one"})
    client.put("app", state="STARTED")
    assert client.app("app")["version"] == first, "the same bits change nothing"
    client.upload("app", {"app.py": "two"})
    assert client.put("app", state="STARTED").status_code == 200
    second = client.app("app")["version"]
    assert second != first
    assert second.endswith("-0")
    peers = platform.peers
    until(lambda: [m.version for _, m in peers.running.values()] == [second], "only the new one runs")
    # Both can be gone back to.
    assert len(files_in(platform.share / "droplets")) == 2
    assert len(files_in(platform.share / "packages")) == 2
    client.call("DELETE", "/apps/app")
    assert files_in(platform.share / "droplets") + files_in(platform.share / "packages") == []


def test_a_controller_that_is_stopped_gives_the_push_back(platform: Platform) -> None:
    client = platform.client()
    client.create("cut")
    client.upload("cut", {"app.py": "x"})
    peers = platform.peers
    peers.call(peers.hold.clear)
    answers: list[tuple[int, str]] = []

    def start() -> None:
        answer = client.call("PUT", "/apps/cut", {"state": "STARTED"})
        answers.append((answer.status_code, answer.json()["description"]))

    thread = threading.Thread(target=start)
    thread.start()
    until(lambda: peers.staged, "a staging")
    assert platform.one.stop() == 0
    thread.join(30)
    assert answers[0][0] == 500
    assert "repeat" in answers[0][1]
    assert ("router.unregister", platform.one.port) in [(s, b["port"]) for s, b in peers.routes]
    peers.call(peers.hold.set)
    other = client.at(platform.two.url)
    assert other.app("cut")["state"] == "STOPPED"
    assert other.put("cut", state="STARTED").status_code == 200
    until(lambda: peers.starts, "the other controller starts it")


def test_no_dea_no_start(platform: Platform) -> None:
    client = platform.client()
    client.create("lonely")
    client.upload("lonely", {"app.py": "x"})
    platform.peers.silent |= {"0-a", "1-b"}
    shown = until(
        lambda: [m for m in client.call("GET", "/v2/machines").json()["machines"] if m["state"] == "lost"][
            1:
        ],
        "both are lost",
    )
    assert shown[0]["kind"] == "dea"
    answer = client.put("lonely", state="STARTED")
    assert (answer.status_code, answer.json()["code"]) == (404, 302)
    assert client.app("lonely")["state"] == "STOPPED"
    platform.peers.silent.clear()
    assert client.put("lonely", state="STARTED").status_code == 200
    until(lambda: platform.peers.starts, "it starts")
