"""`PUT /v2/apps/NAME/update`: what DEAs are told of a change, and what is left of one that comes to nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.controller_rig import Client, ControllerProcess, Peers
from tests.support.waiting import until

OLD, NEW = "kept.ingot.localhost", "new.ingot.localhost"


@dataclass
class World:
    """A controller, its peers, and an application that runs."""

    client: Client
    peers: Peers
    answers: dict[str, httpx.Response] = field(default_factory=dict)

    def update(self, **body: Any) -> httpx.Response:
        return self.client.call("PUT", "/v2/apps/kept/update", body)

    def ended(self) -> dict[str, Any]:
        update: dict[str, Any] = until(
            lambda: (
                (u := self.client.call("GET", "/v2/apps/kept/update").json())["state"] != "UPDATING" and u
            ),
            "the update has ended",
        )
        return update

    def described(self) -> dict[str, Any]:
        """All that a change changes, and the version."""
        app = self.client.app("kept")
        app["meta"] = {key: value for key, value in app["meta"].items() if key != "version"}
        return {key: value for key, value in app.items() if key != "runningInstances"}

    @contextmanager
    def staging(self) -> Iterator[None]:
        """Hold what is staged until the end of the block."""
        self.peers.call(self.peers.hold.clear)
        try:
            yield
        finally:
            self.peers.call(self.peers.hold.set)

    def send(self, name: str, **body: Any) -> threading.Thread:
        """Change the application by another request, whose answer is kept under a name."""
        client = self.client.at(self.client.url)

        def work() -> None:
            self.answers[name] = client.call("PUT", "/v2/apps/kept/update", body)

        thread = threading.Thread(target=work)
        thread.start()
        return thread

    def droplet(self) -> str:
        return str(self.client.app("kept")["version"]).rpartition("-")[0]

    def version(self) -> int:
        return int(self.client.app("kept")["meta"]["version"])


@pytest.fixture
def world(
    nats_server: str, postgres_url: str, tmp_path: Path, free_port: Callable[[], int]
) -> Iterator[World]:
    peers = Peers(nats_server)
    controller = ControllerProcess(tmp_path, free_port(), nats_server, postgres_url)
    try:
        until(controller.ready, "controller is ready")
        client = Client(controller.url).login()
        assert client.create("kept", env=["A=1"]).status_code == 302
        assert client.upload("kept", {"app.py": "one"}).status_code == 200
        assert client.put("kept", state="STARTED").status_code == 200
        yield World(client, peers)
    finally:
        controller.stop()
        peers.close()


CHANGE = {
    "staging": {"framework": "standalone", "command": "exit 1"},
    "uris": [NEW],
    "env": ["A=2"],
    "resources": {"memory": 96},
    "instances": 2,
}


def test_routes_of_a_change_are_told_to_what_runs(world: World) -> None:
    assert world.update(uris=[NEW]).status_code == 202
    until(lambda: [m.uris for m in world.peers.updates] == [[NEW]], "the DEAs are told the new route")
    assert world.ended()["state"] == "SUCCEEDED"
    assert world.described()["uris"] == [NEW]


def test_a_change_that_does_not_run_is_taken_back_whole(world: World) -> None:
    before = world.described()
    world.peers.breaking = True
    assert world.update(**CHANGE).status_code == 202
    until(lambda: world.peers.broken, "the first of the new version is started")
    world.peers.breaking = False
    update = world.ended()
    assert update["state"] == "CANARY_FAILED", update
    assert world.described() == before
    until(lambda: world.peers.updates[-1].uris == [OLD], "the DEAs are told the old route")
    assert [m.uris for m in world.peers.updates] == [[NEW], [OLD]]
    # Its host is free again, that of before is not.
    assert world.client.create("other", uris=[OLD]).json()["code"] == 701
    assert world.client.create("other", uris=[NEW]).status_code == 302


def test_of_two_changes_that_cannot_be_staged_nothing_is_left(world: World) -> None:
    before, version = world.described(), world.version()
    with world.staging():
        assert world.client.upload("kept", {"app.py": "two"}).status_code == 200
        sent = [world.send("first", env=["A=2"], uris=[NEW])]
        until(lambda: len(world.peers.staged) == 2, "the first is staged")
        sent.append(world.send("second", resources={"memory": 96}))
        until(lambda: world.version() == version + 2, "the second is written")
        world.peers.staging_error = "no such package"
    for thread in sent:
        thread.join(60)
    assert [answer.json()["code"] for answer in world.answers.values()] == [310, 310]
    assert world.described() == before


def test_a_change_that_is_refused_leaves_another_push_that_is_being_staged(world: World) -> None:
    with world.staging():
        assert world.client.upload("kept", {"app.py": "two"}).status_code == 200
        sent = world.send("push")
        until(lambda: len(world.peers.staged) == 2, "the push is staged")
        for body, code in (({"instances": -1}, 300), ({"resources": {"memory": 1 << 20}}, 600)):
            assert world.update(**body).json()["code"] == code
    sent.join(60)
    assert world.answers["push"].status_code == 202, world.answers["push"].text
    assert world.ended()["state"] == "SUCCEEDED"
    assert [package["app.py"] for package in world.peers.packages] == [b"one", b"two"]
    message = world.peers.starts[-1][1]
    assert (message.version, message.uris) == (world.client.app("kept")["version"], [OLD])


def test_a_push_whose_files_were_put_back_says_so(world: World) -> None:
    first = world.droplet()
    for text in ("two", "three"):
        with world.staging():
            assert world.client.upload("kept", {"app.py": text}).status_code == 200
            sent = world.send(text)
            until(lambda: len(world.peers.staged) == 1 + len(world.answers) + 1, "it is staged")
            if text == "three":
                back = world.client.call("POST", "/v2/apps/kept/rollback", {"revision": 1})
                assert back.status_code == 202, back.text
        sent.join(60)
        world.ended()
    assert world.answers["two"].status_code == 202
    answer = world.answers["three"].json()
    assert answer["code"] == 310
    assert "changed back in the meantime; repeat the push" in answer["description"]
    assert world.droplet() == first
