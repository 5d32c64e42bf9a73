"""A controller leaves the routers before it stops serving, whoever asks it to: no request that a router sends it is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from controller_rig import ControllerProcess, Peers

from components.common.bus.platform_hosts import PLATFORM_REGISTER
from components.common.plain_http import NO_TLS
from tests.support.waiting import until

Begin = Callable[[int, str], ControllerProcess]


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2, trust_env=False, verify=NO_TLS).status_code == 200
    except httpx.HTTPError:
        return False


class Front:
    """What a router does: asks, again and again, a controller that is registered, and counts what failed."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(4)]
        self.asked = 0
        self.failed: list[str] = []
        self.served_by: dict[int, int] = {}

    def ports(self) -> list[int]:
        known: dict[int, bool] = {}
        for subject, body in list(self._peers.routes):
            if subject.startswith("ingot.platform."):
                known[body["port"]] = subject == PLATFORM_REGISTER
        return [port for port, there in known.items() if there]

    def begin(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join(30)

    def _ask(self) -> None:
        with httpx.Client(timeout=20, trust_env=False, verify=NO_TLS) as client:
            while not self._end.wait(0.02):
                ports = self.ports()
                self.asked += 1
                port = ports[self.asked % len(ports)]
                try:
                    status = client.get(f"http://127.0.0.1:{port}/info").status_code
                except httpx.HTTPError as error:
                    self.failed.append(repr(error))
                    continue
                self.served_by[port] = self.served_by.get(port, 0) + 1
                if status != 200:
                    self.failed.append(str(status))


@pytest.fixture
def restart(nats_server: str, postgres_url: str, tmp_path: Path) -> Iterator[Begin]:
    started: list[ControllerProcess] = []

    def make(port: int, flag: str) -> ControllerProcess:
        controller = ControllerProcess(
            tmp_path, port, nats_server, postgres_url, drain_file=str(tmp_path / flag)
        )
        started.append(controller)
        # A drained one serves, and says that it is not ready.
        until(lambda: answers(f"{controller.url}/info"), "controller serves", 40)
        return controller

    yield make
    for controller in started:
        controller.process.terminate()
    for controller in started:
        controller.stop()


def test_nothing_is_lost_while_controllers_drain_and_restart(
    nats_server: str, tmp_path: Path, free_port: Callable[[], int], restart: Begin
) -> None:
    peers = Peers(nats_server)
    front, flag = Front(peers), tmp_path / "drain"
    try:
        first, second = restart(free_port(), "drain"), restart(free_port(), "never")
        until(lambda: len(front.ports()) == 2, "both are registered", 30)
        front.begin()
        until(lambda: len(front.served_by) == 2, "both serve")

        flag.touch()
        until(lambda: front.ports() == [second.port], "the drained one is gone from the routers")
        answer = httpx.get(f"{first.url}/readyz", trust_env=False)
        assert (answer.status_code, answer.json()["reasons"]) == (503, ["draining"])
        assert httpx.get(f"{first.url}/info", trust_env=False).status_code == 200

        # Drained, it may be replaced at any pace; its successor stays away until it is let back.
        first.stop()
        first = restart(first.port, "drain")
        assert front.ports() == [second.port]
        flag.unlink()
        until(lambda: len(front.ports()) == 2, "it is back")

        # Told to end without warning, a controller leaves by itself.
        second.stop()
        assert front.ports() == [first.port]
        served = front.asked
        until(lambda: front.asked > served + 20, "the other one serves on")
    finally:
        front.stop()
        peers.close()
    assert front.failed == []
