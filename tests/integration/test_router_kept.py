"""Connections kept to an endpoint: who uses them again, and what happens when one has gone stale."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.router_rig import Rig, running, until

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Forgetful:
    """An endpoint that answers one request of each connection and breaks off at the second, as one that lost patience would."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.answered = 0
        self.broken_off: list[bytes] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(peer,), daemon=True).start()

    def _talk(self, peer: socket.socket) -> None:
        with peer:
            if self._request(peer):
                self.answered += 1
                peer.sendall(ANSWER)
                second = self._request(peer)
                if second:
                    self.broken_off.append(second)

    def _request(self, peer: socket.socket) -> bytes:
        read = b""
        while b"\r\n\r\n" not in read:
            part = peer.recv(65536)
            if not part:
                return b""
            read += part
        return read


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with running() as started:
        yield started


@pytest.fixture
def endpoint() -> Iterator[Forgetful]:
    forgetful = Forgetful()
    yield forgetful
    forgetful.close()


def test_a_stale_connection_to_the_only_endpoint_costs_no_request_that_can_be_sent_again(
    rig: Rig, endpoint: Forgetful
) -> None:
    rig.register(endpoint.port, "stale.ingot.localhost")
    rig.wait_status("stale.ingot.localhost", 200)
    for number in range(6):
        assert rig.get("stale.ingot.localhost").status == 200, number
    assert endpoint.broken_off, "no connection was ever used again"


def test_what_cannot_be_sent_again_takes_no_connection_that_has_idled(rig: Rig, endpoint: Forgetful) -> None:
    rig.register(endpoint.port, "once.ingot.localhost")
    until(
        lambda: rig.get("once.ingot.localhost", method="POST", body=b"").status == 200, "the route is known"
    )
    until(lambda: not connections(endpoint.port), "no connection is kept for it", 20)
    before = len(endpoint.broken_off)
    for _ in range(3):
        answered = endpoint.answered
        assert rig.get("once.ingot.localhost", method="POST", body=b"").status == 200
        assert endpoint.answered == answered + 1
        # Its connection is closed after a second and a half without work.
        until(lambda: not connections(endpoint.port), "no connection is kept for it", 20)
    assert len(endpoint.broken_off) == before


def connections(port: int) -> list[str]:
    """Established connections to a port, as the kernel lists them."""
    wanted = f"0100007F:{port:04X}"
    with Path("/proc/net/tcp").open(encoding="ascii") as table:
        return [line for line in table if line.split()[2] == wanted and line.split()[3] == "01"]
