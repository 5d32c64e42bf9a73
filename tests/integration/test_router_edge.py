"""What clients speak at the edge: TLS with several names, HTTP/2, the PROXY protocol, events, long uploads, 100-continue."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.router_rig import Rig, running
from tests.support.ports import free_port
from tests.support.waiting import until


def certificate(folder: Path, file: str, name: str) -> None:
    """Make a certificate of its own for a name, and put both halves in place at once, as `mv` does."""
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *(
                "-days",
                "2",
                "-subj",
                f"/CN={name}",
                "-keyout",
                f"{folder}/new.key",
                "-out",
                f"{folder}/new.crt",
            ),
        ],
        check=True,
        capture_output=True,
    )
    (folder / "new.key").replace(folder / f"{file}.key")
    (folder / "new.crt").replace(folder / f"{file}.crt")


@contextmanager
def tcp_app(rig: Rig, host: str, talk: Callable[[socket.socket, bytes], None]) -> Iterator[None]:
    """An application of a few bytes: `talk` is given each connection and the request's head."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            with peer:
                head = b""
                while b"\r\n\r\n" not in head:
                    head += peer.recv(65536)
                talk(peer, head)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    rig.register(listener.getsockname()[1], host)
    until(lambda: host in rig.dump(), "nginx has the route")
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


@pytest.fixture(scope="module")
def plain() -> Iterator[Rig]:
    with running() as rig:
        yield rig


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Rig, int, Path]]:
    folder, port = tmp_path_factory.mktemp("certificates"), free_port()
    for file, name in (
        ("default", "fallback"),
        ("one.localhost", "one.localhost"),
        ("_.two.localhost", "*.two.localhost"),
    ):
        certificate(folder, file, name)
    inputs = {"router_tls_port": f"127.0.0.1:{port}", "router_certificates_path": str(folder)}
    with running(nginx=inputs) as rig:
        yield rig, port, folder


def subject(port: int, name: str) -> str:
    """The common name of the certificate a client that asks for a name is shown."""
    with socket.create_connection(("127.0.0.1", port), 10) as raw:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        with context.wrap_socket(raw, server_hostname=name) as secured:
            der = secured.getpeercert(binary_form=True)
    assert der is not None
    shown = subprocess.run(
        ["openssl", "x509", "-inform", "DER", "-noout", "-subject", "-nameopt", "multiline"],
        input=der,
        check=True,
        capture_output=True,
    )
    return shown.stdout.decode().rpartition("= ")[2].strip()


def test_each_name_has_its_certificate(secure: tuple[Rig, int, Path]) -> None:
    _, port, _ = secure
    assert subject(port, "one.localhost") == "one.localhost"
    assert subject(port, "x.two.localhost") == "*.two.localhost"
    assert subject(port, "x.y.two.localhost") == "fallback"
    assert subject(port, "one.localhost.x") == "fallback"


def test_a_certificate_is_replaced_without_a_restart(secure: tuple[Rig, int, Path]) -> None:
    rig, port, folder = secure
    assert subject(port, "new.localhost") == "fallback"
    certificate(folder, "new.localhost", "first")
    until(lambda: subject(port, "new.localhost") == "first", "the new name is served")
    (folder / "new.localhost.crt").write_text("half writ")
    certificate(folder, "new.localhost", "second")
    until(lambda: subject(port, "new.localhost") == "second", "its replacement is served")
    # The moment between two `mv`: a key that is another certificate's.
    (folder / "new.localhost.key").write_text((folder / "default.key").read_text())

    def noticed() -> bool:
        assert subject(port, "new.localhost") == "second"
        return "the key is another certificate's" in rig.log("error.log")

    until(noticed, "the odd pair is noticed")
    (folder / "new.localhost.key").unlink()
    certificate(folder, "new.localhost", "third")
    until(lambda: subject(port, "new.localhost") == "third", "the next pair is served")


def test_http_2_reaches_applications_with_the_truth_about_the_client(secure: tuple[Rig, int, Path]) -> None:
    rig, port, _ = secure
    rig.register(rig.backend("h2").port, "h2.localhost")
    rig.wait_status("h2.localhost", 200)
    done = subprocess.run(
        [
            *(
                "curl",
                "-sS",
                "-k",
                "--http2",
                "--resolve",
                f"h2.localhost:{port}:127.0.0.1",
                "-w",
                "\n%{http_version}",
            ),
            *("-H", "X-Forwarded-Proto: gopher", "--data-binary", "hello", f"https://h2.localhost:{port}/"),
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    body, version = done.stdout.rsplit("\n", 1)
    told = json.loads(body)
    assert (version, told["received"]) == ("2", 5)
    assert told["headers"]["x-forwarded-proto"] == "https"
    assert told["headers"]["host"] == f"h2.localhost:{port}"


def test_the_proxy_protocol_says_who_the_client_is() -> None:
    inputs = {"router_proxy_protocol": True, "router_trusted_proxies": ["127.0.0.1"]}
    with running(nginx=inputs) as rig:
        rig.register(rig.backend("behind").port, "behind.localhost")
        until(lambda: "behind.localhost" in rig.dump(), "nginx has the route")
        with socket.create_connection(("127.0.0.1", rig.port), 10) as client:
            client.sendall(
                b"PROXY TCP4 203.0.113.9 127.0.0.1 40000 80\r\n"
                b"GET / HTTP/1.1\r\nHost: behind.localhost\r\nX-Forwarded-For: 6.6.6.6\r\nConnection: close\r\n\r\n"
            )
            answer = b""
            while part := client.recv(65536):
                answer += part
        told = json.loads(answer.partition(b"\r\n\r\n")[2])
        assert told["headers"]["x-forwarded-for"] == "203.0.113.9"
        with socket.create_connection(("127.0.0.1", rig.port), 10) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: behind.localhost\r\n\r\n")
            assert client.recv(100) == b""
        with socket.create_connection(("127.0.0.1", rig.port), 10) as client:
            # Version 2: a signature, "proxied" over TCP and IPv4, twelve bytes of addresses and ports.
            client.sendall(
                b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes([203, 0, 113, 7, 127, 0, 0, 1, 0, 9, 0, 80])
            )
            client.sendall(b"GET / HTTP/1.1\r\nHost: behind.localhost\r\nConnection: close\r\n\r\n")
            answer = b""
            while part := client.recv(65536):
                answer += part
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["headers"]["x-real-ip"] == "203.0.113.7"


def test_events_arrive_as_they_are_sent(plain: Rig) -> None:
    heard = threading.Event()

    def talk(peer: socket.socket, _: bytes) -> None:
        peer.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        peer.sendall(b"9\r\ndata: 1\n\n\r\n")
        # The second is sent only when the first was received: nothing in between holds it back.
        assert heard.wait(20)
        peer.sendall(b"9\r\ndata: 2\n\n\r\n0\r\n\r\n")

    with tcp_app(plain, "events.localhost", talk):
        connection = http.client.HTTPConnection("127.0.0.1", plain.port, timeout=20)
        connection.request("GET", "/", headers={"Host": "events.localhost"})
        response = connection.getresponse()
        assert response.read(9) == b"data: 1\n\n"
        heard.set()
        assert response.read() == b"data: 2\n\n"
        connection.close()


def test_an_upload_streams_while_it_is_sent_and_never_lies_on_disk(plain: Rig) -> None:
    size, seen = 8_000_000, threading.Event()

    def talk(peer: socket.socket, head: bytes) -> None:
        got = len(head.partition(b"\r\n\r\n")[2])
        while got < size:
            got += len(peer.recv(65536))
            if got > size // 4:
                seen.set()
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")

    with (
        tcp_app(plain, "stream.localhost", talk),
        socket.create_connection(("127.0.0.1", plain.port), 20) as client,
    ):
        client.sendall(f"PUT / HTTP/1.1\r\nHost: stream.localhost\r\nContent-Length: {size}\r\n\r\n".encode())
        client.sendall(b"x" * (size // 2))
        # Half of it is still here, and the application has begun to read.
        assert seen.wait(20)
        assert not [p for p in (plain.folder / "temp").rglob("*") if p.is_file()]
        client.sendall(b"x" * (size - size // 2))
        assert client.recv(1000).startswith(b"HTTP/1.1 200")


def test_a_short_body_is_awaited_and_can_be_sent_again(plain: Rig) -> None:
    heads: list[bytes] = []

    def talk(peer: socket.socket, head: bytes) -> None:
        heads.append(head)
        # The first is broken off before its answer; the second is answered.
        if len(heads) > 1:
            peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")

    with tcp_app(plain, "short.localhost", talk):
        plain.register(plain.backend("also").port, "short.localhost")
        until(lambda: len(plain.dump()["short.localhost"]) == 2, "nginx has both")
        statuses = [plain.get("short.localhost", "/", "PUT", b"hello").status for _ in range(4)]
    assert statuses == [200] * 4
    assert any(b"PUT / " in head for head in heads)


@pytest.mark.parametrize("size", [5, 50_000])
def test_what_cannot_be_reached_is_said_whatever_the_body(plain: Rig, size: int) -> None:
    host = f"dead{size}.localhost"
    plain.register(free_port(), host)
    until(lambda: host in plain.dump(), "nginx has the route")
    answer = plain.get(host, "/", "POST", b"x" * size, Accept="application/json")
    assert (answer.status, answer.headers["retry-after"], answer.json()["code"]) == (503, "2", 503)


def test_a_client_that_waits_for_100_is_told_to_continue(plain: Rig) -> None:
    plain.register(plain.backend("continue").port, "continue.localhost")
    plain.wait_status("continue.localhost", 200)
    with socket.create_connection(("127.0.0.1", plain.port), 20) as client:
        client.sendall(
            b"POST / HTTP/1.1\r\nHost: continue.localhost\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
        )
        assert client.recv(1000).startswith(b"HTTP/1.1 100")
        client.sendall(b"hello")
        answer = b""
        while b"}}" not in answer:
            part = client.recv(65536)
            assert part, answer
            answer += part
        assert b'"received": 5' in answer


def test_long_polling_is_waited_for(plain: Rig) -> None:
    plain.register(plain.backend("poll").port, "poll.localhost")
    plain.wait_status("poll.localhost", 200)
    assert plain.get("poll.localhost", "/slow=3").status == 200
