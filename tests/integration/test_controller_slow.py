"""Clients that are slow, silent or stubborn hold no thread of a controller."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.integration.controller_rig import Client, ControllerProcess, close_clients, multipart
from tests.support.waiting import until

WORKERS, THREADS = 2, 4
LEASE = {"holder": "hm-1", "ttl": 10}
TOKENS = b"POST /users/nobody%40b.com/tokens HTTP/1.1\r\nHost: api.ingot.localhost\r\n"
UPLOAD = (
    b"POST /apps/slow/application HTTP/1.1\r\nHost: api.ingot.localhost\r\nAUTHORIZATION: %s\r\n"
    b"Content-Type: multipart/form-data; boundary=41184\r\nContent-Length: 900000\r\n\r\n--41184"
)
# A head that does not end, a body that does not come, one of unknown length, and one who keeps the answer waiting.
KINDS = (
    b"GET /info HTTP/1.1\r\nHost: ",
    TOKENS + b"Content-Length: 20000\r\n\r\n{",
    TOKENS + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{",
    TOKENS + b"Content-Length: 200000\r\n\r\n{",
)


@pytest.fixture
def controller(nats_server: str, free_port: Callable[[], int], tmp_path: Path) -> Iterator[ControllerProcess]:
    made = ControllerProcess(
        tmp_path, free_port(), nats_server, f"sqlite:///{tmp_path}/ccdb", workers=WORKERS, threads=THREADS
    )
    try:
        until(made.ready, "the controller is ready")
        yield made
    finally:
        close_clients()
        made.stop()


def connected(stack: ExitStack, port: int, words: bytes) -> socket.socket:
    one = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60))
    one.sendall(words)
    return one


def test_slow_clients_keep_nobody_waiting(controller: ControllerProcess) -> None:
    boss = Client(controller.url).login()
    assert boss.create("slow").status_code == 302
    with ExitStack() as stack:
        held = [
            connected(stack, controller.port, KINDS[number % len(KINDS)]) for number in range(64 * WORKERS)
        ]
        for number in range(4 * WORKERS):
            connected(stack, controller.port, KINDS[number % 2 + 1])
        for _ in range(3):
            assert boss.call("GET", "/info").status_code == 200
            assert boss.call("GET", "/apps").status_code == 200
            lease = boss.call(
                "PUT", "/v2/leases/hm", LEASE, headers={"AUTHORIZATION": ""}, auth=("bulk_api", "bulk secret")
            )
            assert lease.status_code == 200, lease.text
            assert boss.call("GET", "/readyz").status_code == 200
        assert Client(controller.url).login().call("GET", "/v2/me").status_code == 200
        # Nobody listens to one whose body is too long: the answer is there, and the connection ends.
        refused = held[3].recv(1 << 16)
        assert refused.startswith(b"HTTP/1.1 400"), refused


def test_uploads_that_do_not_come_leave_threads_to_others(controller: ControllerProcess) -> None:
    boss = Client(controller.url).login()
    assert boss.create("slow").status_code == 302
    body, headers = multipart([("_method", None, b"put"), ("application", "slow.zip", b"x" * 100_000)])

    def one_too_many() -> httpx.Response | None:
        answer = boss.http.post(
            "/apps/slow/application", content=body, headers={**headers, "AUTHORIZATION": boss.token}
        )
        return answer if answer.status_code == 503 else None

    with ExitStack() as stack:
        for _ in range(16 * WORKERS):
            connected(stack, controller.port, UPLOAD % boss.token.encode())
        busy: httpx.Response = until(one_too_many, "uploads have no place left")
        assert busy.json()["code"] == 104
        assert int(busy.headers["Retry-After"]) > 0
        for _ in range(4 * WORKERS):
            assert boss.call("GET", "/apps").status_code == 200
    until(lambda: one_too_many() is None, "places are given back")
