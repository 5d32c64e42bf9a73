"""Requests no honest client sends: each is refused, or brought to one meaning, and none reaches an application as two."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from tests.integration.router_rig import Backend, Rig, running, until

HOST = b"Host: target.localhost\r\n"


def post(*headers: bytes, body: bytes = b"") -> bytes:
    return b"POST /attack HTTP/1.1\r\n" + HOST + b"".join(h + b"\r\n" for h in headers) + b"\r\n" + body


SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: target.localhost\r\n\r\n"

# What is sent, and the status that answers it; 0 is a connection closed without an answer.
REFUSED: dict[str, tuple[bytes, int]] = {
    "length and chunks": (
        post(b"Content-Length: 4", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n" + SMUGGLED),
        400,
    ),
    "chunks and length": (
        post(b"Transfer-Encoding: chunked", b"Content-Length: 4", body=b"0\r\n\r\n" + SMUGGLED),
        400,
    ),
    "two lengths": (post(b"Content-Length: 0", b"Content-Length: 52", body=SMUGGLED), 400),
    "two equal lengths": (post(b"Content-Length: 1", b"Content-Length: 1", body=b"x"), 400),
    "a list of lengths": (post(b"Content-Length: 1, 1", body=b"x"), 400),
    "a negative length": (post(b"Content-Length: -1", body=SMUGGLED), 400),
    "a signed length": (post(b"Content-Length: +5", body=b"hello"), 400),
    "a length in hexadecimal": (post(b"Content-Length: 0x5", body=b"hello"), 400),
    "a length beyond all numbers": (post(b"Content-Length: 99999999999999999999"), 400),
    "an unknown coding": (post(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n" + SMUGGLED), 501),
    "two codings": (post(b"Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n" + SMUGGLED), 501),
    "codings in two lines": (
        post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", body=b"0\r\n\r\n" + SMUGGLED),
        400,
    ),
    "a coding after a vertical tab": (
        post(b"Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n" + SMUGGLED),
        501,
    ),
    "a coding in HTTP/1.0": (
        b"POST / HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "a folded header": (b"GET / HTTP/1.1\r\n" + HOST + b"X-A: 1\r\n folded\r\n\r\n", 400),
    "a blank before the colon": (post(b"Content-Length : 5", body=b"hello"), 400),
    "a header without a name": (post(b": x"), 400),
    "a zero byte in a header": (post(b"X-A: a\x00b"), 400),
    "a zero byte in the path": (b"GET /a\x00b HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a control byte in the path": (b"GET /a\x01b HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "two hosts": (b"GET / HTTP/1.1\r\n" + HOST + b"Host: other.localhost\r\n\r\n", 400),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "a host with a path": (b"GET / HTTP/1.1\r\nHost: target.localhost/x\r\n\r\n", 400),
    "a host with a blank": (b"GET / HTTP/1.1\r\nHost: target localhost\r\n\r\n", 400),
    "a path out of the root": (b"GET /../../etc/passwd HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a method in lower case": (b"get / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "TRACE": (b"TRACE / HTTP/1.1\r\n" + HOST + b"\r\n", 405),
    "CONNECT": (b"CONNECT target.localhost:443 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a version of the future": (b"GET / HTTP/3.0\r\n" + HOST + b"\r\n", 505),
    "a version that is none": (b"GET / HTTPS/1.1\r\n" + HOST + b"\r\n", 400),
    # Told in the manner of HTTP/0.9: a page without a status.
    "HTTP/0.9": (b"GET /\r\n\r\n", 0),
    "the preface of HTTP/2 without TLS": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "bytes that are no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20 + b"\r\n\r\n", 400),
    "a line longer than allowed": (b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414),
    "a field larger than allowed": (post(b"X-A: " + b"a" * 40_000), 400),
    "too many fields": (post(*(b"X-%d: %s" % (i, b"a" * 1000) for i in range(100))), 400),
    "a body larger than allowed": (post(b"Content-Length: 2000000"), 413),
    "a chunk that is none": (post(b"Transfer-Encoding: chunked", body=b"zz\r\n" + SMUGGLED), 400),
    "a chunk of a negative size": (post(b"Transfer-Encoding: chunked", body=b"-1\r\n" + SMUGGLED), 400),
    "a header that never ends": (b"GET / HTTP/1.1\r\n" + HOST + b"X-A: ", 0),
    "nothing at all": (b"", 0),
}

# Bodies stream: an application has seen the head of these before they prove bad. It sees one request, never whole.
BROKEN: dict[str, bytes] = {
    "a body that never comes": post(b"Content-Length: 10", body=b"x"),
    "a chunk larger than allowed": post(b"Transfer-Encoding: chunked", body=b"fffffff\r\n"),
    "a chunk that never comes": post(b"Transfer-Encoding: chunked", body=b"5\r\nab"),
}


@pytest.fixture(scope="module")
def target() -> Iterator[tuple[Rig, Backend]]:
    inputs = {"router_header_seconds": 1, "router_body_seconds": 1, "router_body_max": "1m"}
    with running(nginx=inputs) as rig:
        backend = rig.backend("target")
        rig.register(backend.port, "target.localhost")
        rig.wait_status("target.localhost", 200)
        yield rig, backend


def send(rig: Rig, data: bytes, seconds: float = 20) -> bytes:
    """Send bytes; give all that is answered until the other side closes."""
    with socket.create_connection(("127.0.0.1", rig.port), 20) as client:
        answer, deadline = b"", time.monotonic() + seconds
        try:
            client.sendall(data)
            while time.monotonic() < deadline:
                part = client.recv(65536)
                if not part:
                    break
                answer += part
        except (ConnectionResetError, BrokenPipeError, TimeoutError):
            pass
        return answer


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused_and_no_application_sees_it(target: tuple[Rig, Backend], case: str) -> None:
    rig, backend = target
    data, status = REFUSED[case]
    before = backend.requests
    answer = send(rig, data)
    got = int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/") else 0
    print(f"{case}: {got}")
    assert answer.count(b"HTTP/1.1 ") <= 1
    assert backend.requests == before
    assert got == status
    assert rig.get("target.localhost").status == 200


@pytest.mark.parametrize("case", BROKEN)
def test_it_is_broken_off_and_nothing_follows_it(target: tuple[Rig, Backend], case: str) -> None:
    rig, backend = target
    before = backend.requests
    answer = send(rig, BROKEN[case])
    assert b" 200 " not in answer
    assert backend.requests <= before + 1
    assert rig.get("target.localhost").status == 200


def test_a_request_for_another_host_than_it_says_goes_where_its_first_line_says(
    target: tuple[Rig, Backend],
) -> None:
    rig, _ = target
    other = rig.backend("absolute")
    rig.register(other.port, "absolute.localhost")
    rig.wait_status("absolute.localhost", 200)
    answer = send(rig, b"GET http://absolute.localhost/ HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
    assert b'"name": "absolute"' in answer


def test_slow_clients_do_not_keep_others_waiting(target: tuple[Rig, Backend]) -> None:
    rig, backend = target
    before = backend.requests
    slow = [socket.create_connection(("127.0.0.1", rig.port), 20) for _ in range(200)]
    try:
        for client in slow:
            client.sendall(b"GET / HTTP/1.1\r\nHost: tar")
        assert {rig.get("target.localhost").status for _ in range(20)} == {200}
        assert backend.requests == before + 20

        def let_go() -> bool:
            client = slow[-1]
            client.settimeout(0.1)
            try:
                return client.recv(10) in (b"", b"HTTP/1.1 4")
            except ConnectionResetError:
                return True
            except TimeoutError:
                return False

        until(let_go, "slow ones are let go")
    finally:
        for client in slow:
            client.close()
