"""Connections that break: kept ones that have gone stale, and endpoints that break off before they answer."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration.router_rig import Rig, load, running
from tests.support.waiting import until

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Forgetful:
    """An endpoint that answers some requests of each connection and breaks off at the next, as one that lost patience would.

    Args:
        answers: how many.
    """

    def __init__(self, answers: int = 1) -> None:
        self._answers = answers
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
            for _ in range(self._answers):
                if not self._request(peer):
                    return
                self.answered += 1
                peer.sendall(ANSWER)
            last = self._request(peer)
            if last:
                self.broken_off.append(last)

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
    # Nor one that a request which could be repeated has left behind.
    assert rig.get("once.ingot.localhost").status == 200
    assert rig.get("once.ingot.localhost", method="POST", body=b"").status == 200
    assert len(endpoint.broken_off) == before


def test_a_body_that_streams_takes_no_connection_that_has_idled(rig: Rig, endpoint: Forgetful) -> None:
    rig.register(endpoint.port, "stream.ingot.localhost")
    # Leaves a connection behind that breaks off when it is used again.
    rig.wait_status("stream.ingot.localhost", 200)

    def body() -> Iterator[bytes]:
        yield b"x"
        until(lambda: endpoint.answered + len(endpoint.broken_off) > 1, "the head has arrived")
        yield b"y"

    assert rig.get("stream.ingot.localhost", method="PUT", body=body()).status == 200
    assert not endpoint.broken_off


def test_a_short_body_is_sent_again_where_its_method_allows_it(rig: Rig) -> None:
    broken, whole = Forgetful(answers=0), rig.backend("whole")
    for port in (broken.port, whole.port):
        rig.register(port, "put.ingot.localhost", app=11)
    until(lambda: len(rig.dump().get("put.ingot.localhost", [])) == 2, "both endpoints are known")
    for _ in range(6):
        assert rig.get("put.ingot.localhost", method="PUT", body=b"x" * 1000).status == 200
    assert broken.broken_off, "the endpoint that breaks off was never asked"
    broken.close()


def test_an_endpoint_that_keeps_silent_is_tried_by_one_request_at_a_time() -> None:
    with (
        running(nginx={"router_eject_seconds": 1, "router_connect_seconds": 2}) as rig,
        socket.create_server(("127.0.0.1", 0), backlog=0) as silent,
        ExitStack() as stack,
    ):
        # Its backlog is full: whoever connects now hears nothing.
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(silent.getsockname())
        port = silent.getsockname()[1]
        for endpoint in (port, rig.backend("alive").port):
            rig.register(endpoint, "silent.ingot.localhost", private_instance_id="s")
        until(lambda: len(rig.dump().get("silent.ingot.localhost", [])) == 2, "both are known")
        until(
            lambda: rig.get("silent.ingot.localhost").status == 200 and rig.varz()["ejections"] == 1,
            "it is passed over",
        )
        retries = rig.varz()["retries"]
        with ExitStack() as clients:
            seen = [clients.enter_context(load(rig, "silent.ingot.localhost")) for _ in range(8)]
            until(lambda: rig.varz()["retries"] >= retries + 2, "it is probed")
        # All sixteen clients would have waited for it at once.
        assert rig.varz()["retries"] < retries + 8
        assert {status for counted in seen for status in counted} == {200}


def connections(port: int) -> list[str]:
    """Established connections to a port, as the kernel lists them."""
    wanted = f"0100007F:{port:04X}"
    with Path("/proc/net/tcp").open(encoding="ascii") as table:
        return [line for line in table if line.split()[2] == wanted and line.split()[3] == "01"]
