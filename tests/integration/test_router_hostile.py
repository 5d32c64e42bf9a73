"""Requests no honest client sends: none reaches an application as two, as whole where it is not, or as other than it is meant."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.bench.bench_hostile_requests import Target, ready
from tests.bench.hostile_requests import Case, cases
from tests.support.waiting import until


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    with ready() as made:
        yield made


@pytest.mark.parametrize("case", cases(), ids=lambda c: c.name)
def test_each_is_answered_and_reaches_an_application_as_the_corpus_says(target: Target, case: Case) -> None:
    outcome = target.send(case)
    assert outcome.fits(case), (case.answer, case.reaches, outcome)
    assert target.rig.get("target.localhost").status == 200


def test_a_request_for_another_host_than_it_says_goes_where_its_first_line_says(target: Target) -> None:
    rig = target.rig
    other = rig.backend("absolute")
    rig.register(other.port, "absolute.localhost")
    rig.wait_status("absolute.localhost", 200)
    absolute = (
        b"GET http://absolute.localhost/ HTTP/1.1\r\nHost: target.localhost\r\nConnection: close\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", rig.port), 20) as client:
        client.sendall(absolute)
        answer = b""
        while part := client.recv(65536):
            answer += part
    assert b'"name": "absolute"' in answer


def test_slow_clients_do_not_keep_others_waiting(target: Target) -> None:
    rig, witness = target.rig, target.witness
    before = len(witness.heads)
    half = b"POST / HTTP/1.1\r\nHost: target.localhost\r\nContent-Length: 10\r\n\r\nx"
    slow = [socket.create_connection(("127.0.0.1", rig.port), 20) for _ in range(200)]
    try:
        for client in slow[:100]:
            client.sendall(b"GET / HTTP/1.1\r\nHost: tar")
        for client in slow[100:]:
            client.sendall(half)
        assert {rig.get("target.localhost").status for _ in range(20)} == {200}
        # None of the slow ones holds a place in the application.
        assert len(witness.heads) == before + 20

        def let_go(client: socket.socket) -> bool:
            client.settimeout(0.1)
            try:
                return client.recv(10) in (b"", b"HTTP/1.1 4")
            except ConnectionResetError:
                return True
            except TimeoutError:
                return False

        until(lambda: let_go(slow[0]), "slow heads are let go")
        until(lambda: let_go(slow[-1]), "slow bodies are let go")
    finally:
        for client in slow:
            client.close()
