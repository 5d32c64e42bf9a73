"""The API's host at a router: bodies are awaited there, for a time, and what is the platform's own does not pass."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.integration.router_rig import Backend, Rig, running
from tests.support.waiting import until

API = "api.ingot.localhost"
HEAD = f"POST /users HTTP/1.1\r\nHost: {API}\r\nConnection: close\r\n"


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with running(nginx={"router_api_body_seconds": 1}) as started:
        yield started


@pytest.fixture(scope="module")
def api(rig: Rig) -> Backend:
    backend = rig.backend("controller")
    rig.register(backend.port, API, subject="ingot.platform.register")
    rig.wait_status(API, 200)
    return backend


def sent(rig: Rig, words: bytes) -> socket.socket:
    one = socket.create_connection(("127.0.0.1", rig.port), timeout=60)
    one.sendall(words)
    return one


def all_of(one: socket.socket) -> bytes:
    said = b""
    while block := one.recv(1 << 16):
        said += block
    return said


def test_a_controller_hears_of_a_body_once_it_is_there(rig: Rig, api: Backend) -> None:
    before = api.requests
    body = b"x" * 700_000
    with sent(rig, f"{HEAD}Content-Length: {len(body)}\r\n\r\n".encode() + body[:-1]) as slow:
        # A later request passes it by.
        assert rig.get(API).status == 200
        assert api.requests == before + 1
        slow.sendall(body[-1:])
        said = all_of(slow)
    assert said.startswith(b"HTTP/1.1 200"), said[:200]
    assert b'"received": 700000' in said


def test_a_body_that_does_not_come_in_time_ends_its_connection(rig: Rig, api: Backend) -> None:
    before = api.requests
    with sent(rig, f"{HEAD}Content-Length: 20000\r\n\r\n{{".encode()) as silent:
        assert all_of(silent) == b""
    with sent(rig, f"{HEAD}Content-Length: 20000\r\n\r\n{{".encode()) as dripping:
        dripping.settimeout(0.2)

        def ended() -> bool:
            try:
                dripping.sendall(b"x")
                return dripping.recv(1) == b""
            except TimeoutError:
                return False
            except OSError:
                return True

        until(ended, "the one that drips is cut")
    assert api.requests == before
    assert rig.get(API).status == 200


def test_uploads_stream(rig: Rig, api: Backend) -> None:
    before = api.requests
    with sent(rig, f"{HEAD}Content-Length: 2000000\r\n\r\n".encode() + b"x" * 50_000) as upload:
        until(lambda: api.requests > before, "the controller hears of it")
        upload.sendall(b"x" * 1_950_000)
        assert b'"received": 2000000' in all_of(upload)


@pytest.mark.parametrize(
    "path",
    [
        "/staged_droplets/1/" + "a" * 40,
        "//staged_droplets/1/" + "a" * 40,
        "/%73taged_droplets/1/" + "a" * 40,
        "/x/../staged_droplets/1/" + "a" * 40,
        "/staging/app/1",
        "/bulk/apps",
        "/v2/leases/hm",
    ],
)
def test_what_is_the_platforms_own_does_not_pass(rig: Rig, api: Backend, path: str) -> None:
    before = api.requests
    with sent(rig, f"GET {path} HTTP/1.1\r\nHost: {API}\r\nConnection: close\r\n\r\n".encode()) as one:
        assert all_of(one).startswith(b"HTTP/1.1 404")
    assert api.requests == before
