"""What a request and its answer say on their way: what ends at the router, what is replaced, and what the log makes of odd bytes."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import pytest

from tests.integration.router_rig import Rig, running
from tests.integration.test_router_edge import tcp_app
from tests.support.waiting import until


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with running(nginx={"router_app_seconds": 5}) as started:
        started.register(started.backend("told").port, "told.localhost")
        started.wait_status("told.localhost", 200)
        yield started


def talk(rig: Rig, *lines: str | bytes) -> bytes:
    """Send a head, and give all that is answered until the router closes."""
    head = b"".join((line if isinstance(line, bytes) else line.encode()) + b"\r\n" for line in lines)
    with socket.create_connection(("127.0.0.1", rig.port), 10) as client:
        client.sendall(head + b"\r\n")
        answer = b""
        while part := client.recv(65536):
            answer += part
    return answer


def told(rig: Rig, *lines: str) -> dict[str, str]:
    """Give the headers that reached the application."""
    answer = talk(rig, *lines)
    headers: dict[str, str] = json.loads(answer.partition(b"\r\n\r\n")[2])["headers"]
    return headers


def test_what_is_said_of_the_connection_ends_at_the_router(rig: Rig) -> None:
    headers = told(
        rig,
        "GET / HTTP/1.1",
        "Host: told.localhost",
        "Connection: close, X-Mine, host, x-forwarded-for",
        "X-Mine: 1",
        "X-Other: 1",
        "TE: trailers",
        "Trailer: X-T",
        "Keep-Alive: 5",
        "Proxy-Authorization: Basic x",
        "Upgrade: h2c",
    )
    assert headers.keys() >= {"host", "x-other", "x-forwarded-for"}
    assert not headers.keys() & {"x-mine", "te", "trailer", "keep-alive", "proxy-authorization", "upgrade"}


def test_a_websocket_may_name_more_than_itself(rig: Rig) -> None:
    heads: list[bytes] = []

    def upgrade(peer: socket.socket, head: bytes) -> None:
        heads.append(head.lower())
        peer.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")

    lines = (
        "GET / HTTP/1.1",
        "Host: named.localhost",
        "Connection: Upgrade, X-Mine",
        "Upgrade: websocket",
        "X-Mine: 1",
    )
    with tcp_app(rig, "named.localhost", upgrade):
        answer = talk(rig, *lines).lower()
    assert b"upgrade: websocket" in answer
    assert b"upgrade: websocket" in heads[0]
    assert b"x-mine" not in heads[0]


def test_what_cannot_become_a_websocket_is_told_so(rig: Rig) -> None:
    answer = talk(
        rig,
        "GET / HTTP/1.0",
        "Host: told.localhost",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Accept: application/json",
    )
    head, _, body = answer.partition(b"\r\n\r\n")
    told = json.loads(body)
    assert (head.split()[1], told["code"]) == (b"400", 400)
    assert f"X-Vcap-Request-Id: {told['request_id']}".encode() in head


def test_what_an_application_says_of_its_connection_ends_at_the_router(rig: Rig) -> None:
    def answer(peer: socket.socket, _: bytes) -> None:
        peer.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: Upgrade, close\r\nUpgrade: h2,h2c\r\nKeep-Alive: 5\r\n"
            b"Trailer: X-T\r\nTE: x\r\nProxy-Connection: close\r\nX-Mine: 1\r\n\r\nok"
        )

    with tcp_app(rig, "hop.localhost", answer):
        headers = rig.get("hop.localhost").headers
    assert headers["x-mine"] == "1"
    assert not headers.keys() & {"upgrade", "keep-alive", "trailer", "te", "proxy-connection"}


def test_a_whole_address_is_the_host_that_the_application_is_told(rig: Rig) -> None:
    headers = told(
        rig, "GET http://told.localhost:81/x HTTP/1.1", "Host: evil.localhost", "Connection: close"
    )
    assert (headers["host"], headers["x-forwarded-host"]) == ("told.localhost:81", "told.localhost:81")
    # HTTP/1.0 may leave Host out.
    assert told(rig, "GET http://told.localhost/x HTTP/1.0")["host"] == "told.localhost"


def test_no_client_says_how_it_came(rig: Rig) -> None:
    headers = told(
        rig,
        "GET / HTTP/1.1",
        "Host: told.localhost",
        "Connection: close",
        "X-Forwarded-Port: 443",
        "X-Forwarded-Ssl: on",
        "X-Forwarded-Scheme: https",
        "X-Forwarded-Protocol: ssl",
        "X-Forwarded-Prefix: /evil",
        "X-Forwarded-Server: evil",
        "X-Url-Scheme: https",
        "Front-End-Https: on",
        "Client-IP: 6.6.6.6",
        "X-Client-IP: 6.6.6.6",
        "X-Cluster-Client-IP: 6.6.6.6",
        "X-Real-IP: 6.6.6.6",
        "X-Request-Start: t=1",
        "X-Forwarded-Host: evil",
        "Forwarded: for=6.6.6.6",
        "X_Forwarded_For: 6.6.6.6",
    )
    assert "6.6.6.6" not in headers.values()
    assert headers["x-request-start"] != "t=1"
    assert headers["x-forwarded-host"] == "told.localhost"
    assert {name for name in headers if name.startswith("x-")} == {
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-real-ip",
        "x-request-start",
        "x-vcap-request-id",
    }
    assert not headers.keys() & {"forwarded", "front-end-https", "client-ip"}


def test_a_balancer_in_front_is_believed() -> None:
    with running(nginx={"router_trusted_proxies": ["127.0.0.1"]}) as rig:
        rig.register(rig.backend("front").port, "front.localhost")
        rig.wait_status("front.localhost", 200)
        said = {"X_Forwarded_For": "203.0.113.9", "X_Forwarded_Proto": "https"}
        headers = rig.get("front.localhost", **said).json()["headers"]
        assert headers["x-forwarded-for"] == "203.0.113.9, 127.0.0.1"
        assert (headers["x-real-ip"], headers["x-forwarded-proto"]) == ("203.0.113.9", "https")
        # What it asks for itself.
        headers = rig.get("front.localhost", X_Forwarded_Proto="gopher").json()["headers"]
        assert (headers["x-forwarded-for"], headers["x-forwarded-proto"]) == ("127.0.0.1", "http")


def test_an_answer_that_is_no_http_is_not_passed_on(rig: Rig) -> None:
    with tcp_app(rig, "garbage.localhost", lambda peer, _: peer.sendall(b"\nHTTP/1.1 200 OK\r\n\r\nhello")):
        assert talk(rig, "GET / HTTP/1.1", "Host: garbage.localhost") == b""


@pytest.mark.parametrize("first", [b"100 Continue", b"101 Switching Protocols", b"103 Early Hints"])
@pytest.mark.parametrize("wish", ["X: y", "Upgrade: other"])
def test_an_answer_before_the_answer_brings_nothing_along(rig: Rig, first: bytes, wish: str) -> None:
    hidden = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhidden"
    head = b"HTTP/1.1 " + first + b"\r\nContent-Length: %d\r\n\r\n" % len(hidden)
    host = f"first-{first[:3].decode()}-{wish[0].lower()}.localhost"
    with tcp_app(rig, host, lambda peer, _: peer.sendall(head + hidden)):
        assert talk(rig, "GET / HTTP/1.1", f"Host: {host}", wish) == b""


def test_the_log_is_json_whatever_clients_and_applications_say(rig: Rig) -> None:
    with tcp_app(rig, "odd.localhost", lambda peer, _: peer.sendall(b"no http")):
        talk(rig, "GET /no-http HTTP/1.1", "Host: odd.localhost")
    for path, host, agent in (
        (b"/\xff\xfe?secret", b"told.localhost", b'\xc3("\\'),
        (b"/%ff%22%5c%0a?secret", b"told.localhost", b"a\tb"),
        (b"/end", b"\xff.localhost", b""),
    ):
        talk(
            rig,
            b"GET " + path + b" HTTP/1.1",
            b"Host: " + host,
            b"User-Agent: " + agent,
            b"Connection: close",
        )
    talk(rig, b"GET /0.9")
    until(lambda: b'"/end"' in (rig.folder / "access.log").read_bytes(), "all is in the log")
    lines = [json.loads(line) for line in (rig.folder / "access.log").read_bytes().splitlines()]
    seen = {line["path"]: line["status"] for line in lines}
    assert seen["/no-http"] == 502
    assert seen["/%ff%22%5c%0a"] == seen["?"] == 200
    assert not [line for line in lines if "secret" in str(line)]
