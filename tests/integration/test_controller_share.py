"""A share that hangs: the controller says so within seconds, does everything else, and is well again by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.integration.controller_rig import Client, ControllerProcess
from tests.integration.hanging_share import HangingShare, hanging_share, needs_fuse
from tests.support.waiting import until

FILES: dict[str, str | bytes] = {"wsgi.py": "application = None\n"}


@dataclass
class Rig:
    controller: ControllerProcess
    share: HangingShare
    start: Callable[[], ControllerProcess]

    def reasons(self) -> list[str]:
        answer = httpx.get(f"{self.controller.url}/readyz", timeout=30, trust_env=False)
        return list(answer.json()["reasons"])


@pytest.fixture
def rig(nats_server: str, tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Rig]:
    (tmp_path / "mounted").mkdir()
    with hanging_share(tmp_path / "mounted") as share:
        bounds = {"workers": 1, "threads": 4, "share_path": str(share.path)}
        database = f"sqlite:///{tmp_path}/ccdb.sqlite"

        def start() -> ControllerProcess:
            return ControllerProcess(tmp_path, free_port(), nats_server, database, **bounds)

        rig = Rig(start(), share, start)
        try:
            until(rig.controller.ready, "controller is ready")
            yield rig
        finally:
            share.go_on()
            rig.controller.stop()


@needs_fuse
def test_a_share_that_hangs_stops_nothing_else(rig: Rig) -> None:
    client = Client(rig.controller.url).login()
    assert client.create("hello").status_code == 302
    assert client.upload("hello", FILES).status_code == 200
    rig.share.hang()
    # More than there are threads, some of them before anybody knows.
    with ThreadPoolExecutor(12) as clients:
        answers = list(clients.map(lambda _: client.call("GET", "/apps/hello/application"), range(12)))
    assert {answer.status_code for answer in answers} == {503}
    assert answers[0].json()["code"] == 106
    assert client.upload("hello", FILES).json()["code"] == 106
    # Its other clients, and who asks whether it is well, are answered.
    Client(rig.controller.url).login()
    assert client.app("hello")["name"] == "hello"
    assert rig.reasons() == ["the share does not answer"]
    assert "ingot_share_unwell 1.0" in metrics(rig.controller)
    rig.share.go_on()
    until(lambda: not rig.reasons(), "well again")
    assert client.call("GET", "/apps/hello/application").content.startswith(b"PK")
    assert client.upload("hello", FILES).status_code == 200


@needs_fuse
def test_a_controller_stops_and_starts_while_its_share_hangs(rig: Rig) -> None:
    client = Client(rig.controller.url).login()
    assert client.create("hello").status_code == 302
    rig.share.hang()
    assert client.upload("hello", FILES).status_code == 503
    rig.controller.stop()
    rig.controller = rig.start()
    until(lambda: answers(rig.controller), "it answers")
    assert Client(rig.controller.url).login().app("hello")["name"] == "hello"
    assert rig.reasons() == ["the share does not answer"]
    rig.share.go_on()
    until(rig.controller.ready, "well again")
    assert "ingot_share_unwell 0.0" in metrics(rig.controller)


def answers(controller: ControllerProcess) -> bool:
    try:
        return httpx.get(f"{controller.url}/healthz", timeout=30, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def metrics(controller: ControllerProcess) -> str:
    answer = httpx.get(f"{controller.url}/metrics", auth=("status", "watching"), timeout=30, trust_env=False)
    return answer.text
