"""The router's path of a request: bus, process, nginx and endpoints, all real."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from functools import partial

import pytest

from components.common.bus.messages import RouterHello
from components.common.bus.platform_hosts import PLATFORM_REGISTER
from tests.integration.router_rig import Backend, Rig, running
from tests.support.ports import free_port
from tests.support.waiting import until


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with running(nginx={"router_eject_seconds": 1, "router_app_seconds": 2}) as started:
        yield started


def test_a_registered_host_is_served_until_unregistered(rig: Rig) -> None:
    backend = rig.backend("one")
    assert rig.get("one.ingot.localhost").status == 404
    rig.register(backend.port, "one.ingot.localhost", app=7, private_instance_id="a" * 32)
    answer = rig.wait_status("one.ingot.localhost", 200)
    assert answer.json()["name"] == "one"
    rig.unregister(backend.port, "one.ingot.localhost", app=7)
    rig.wait_status("one.ingot.localhost", 404)


def test_host_is_compared_without_port_and_case(rig: Rig) -> None:
    backend = rig.backend("case")
    rig.register(backend.port, "Case.Ingot.localhost:80")
    rig.wait_status("case.ingot.localhost", 200)
    assert rig.get("CASE.ingot.LOCALHOST:8080").json()["headers"]["host"] == "CASE.ingot.LOCALHOST:8080"
    assert rig.get("case.ingot.localhost.").status == 200


def test_wildcards_come_after_exact_hosts_and_nearer_ones_first(rig: Rig) -> None:
    names = {"*.wild.localhost": "far", "*.b.wild.localhost": "near", "x.b.wild.localhost": "exact"}
    for uri, name in names.items():
        rig.register(rig.backend(name).port, uri)
    until(lambda: set(names) <= set(rig.dump()), "nginx has all three")
    rig.wait_status("x.b.wild.localhost", 200)
    rig.wait_status("y.b.wild.localhost", 200)
    assert rig.get("x.b.wild.localhost").json()["name"] == "exact"
    assert rig.get("y.b.wild.localhost").json()["name"] == "near"
    assert rig.get("p.q.wild.localhost").json()["name"] == "far"
    assert rig.get("wild.localhost").status == 404


def test_endpoints_take_turns(rig: Rig) -> None:
    backends = [rig.backend(f"turn{i}") for i in range(4)]
    for backend in backends:
        rig.register(backend.port, "turns.localhost")
    rig.wait_status("turns.localhost", 200)
    until(lambda: rig.varz()["nginx_synced"], "nginx is up to date")
    shares = Counter(rig.get("turns.localhost").json()["name"] for _ in range(40))
    assert shares == {f"turn{i}": 10 for i in range(4)}


def test_an_endpoint_that_refuses_is_not_noticed_by_clients(rig: Rig) -> None:
    rig.register(free_port(), "half.localhost")
    rig.register(rig.backend("alive").port, "half.localhost")
    rig.wait_status("half.localhost", 200)
    answers = [rig.get("half.localhost", method=m) for m in ("GET", "POST") for _ in range(10)]
    assert {a.status for a in answers} == {200}
    until(lambda: rig.varz()["ejections"] >= 1, "the ejection is counted")


def test_an_endpoint_that_is_back_has_its_turns_again(rig: Rig) -> None:
    port, there = free_port(), rig.backend("there")
    for endpoint in (port, there.port):
        rig.register(endpoint, "back.localhost")
    until(lambda: len(rig.dump().get("back.localhost", [])) == 2, "nginx has both")
    ejections = rig.varz()["ejections"]
    until(
        lambda: rig.get("back.localhost").status == 200 and rig.varz()["ejections"] > ejections,
        "it is passed over",
    )
    back = Backend("back", port)
    try:
        until(lambda: rig.get("back.localhost").json()["name"] == "back", "it is probed")
        names = Counter(rig.get("back.localhost").json()["name"] for _ in range(10))
        assert names == {"back": 5, "there": 5}
        rig.unregister(port, "back.localhost")
        until(lambda: len(rig.dump()["back.localhost"]) == 1, "nginx knows that it is gone")
    finally:
        back.stop()


def test_a_host_whose_endpoints_all_refuse_is_503_and_comes_back(rig: Rig) -> None:
    port = free_port()
    rig.register(port, "dead.localhost")
    answer = rig.wait_status("dead.localhost", 503)
    assert answer.headers["retry-after"]
    assert "NO INSTANCE" in answer.text
    rig.register(rig.backend("reborn").port, "dead.localhost")
    rig.wait_status("dead.localhost", 200)
    assert {rig.get("dead.localhost").status for _ in range(6)} == {200}


def test_broken_and_late_answers_are_told_as_such(rig: Rig) -> None:
    backend = rig.backend("bad")
    rig.register(backend.port, "bad.localhost")
    rig.wait_status("bad.localhost", 200)
    assert rig.get("bad.localhost", "/break", "POST").status == 502
    assert rig.get("bad.localhost", "/slow=4").status == 504
    # The application's own words pass through untouched.
    assert rig.get("bad.localhost", "/status=503").json()["name"] == "bad"
    assert rig.get("bad.localhost", "/status=404").json()["name"] == "bad"
    assert rig.get("bad.localhost", "/accel").json()["name"] == "bad"


def test_only_idempotent_requests_are_repeated_after_a_broken_answer(rig: Rig) -> None:
    first, second = rig.backend("b1"), rig.backend("b2")
    for backend in (first, second):
        rig.register(backend.port, "twice.localhost")
    rig.wait_status("twice.localhost", 200)
    until(lambda: rig.varz()["nginx_synced"], "nginx is up to date")
    before = first.requests + second.requests
    assert rig.get("twice.localhost", "/break", "POST").status == 502
    assert first.requests + second.requests == before + 1
    assert rig.get("twice.localhost", "/break", "GET").status == 502
    # Both were tried; nginx gives a kept connection that breaks one more try.
    assert before + 3 <= first.requests + second.requests <= before + 5


def test_a_late_answer_is_not_asked_for_elsewhere(rig: Rig) -> None:
    backends = [rig.backend("late1"), rig.backend("late2")]
    for backend in backends:
        rig.register(backend.port, "late.localhost")
    until(lambda: len(rig.dump().get("late.localhost", [])) == len(backends), "nginx has both routes")
    assert rig.get("late.localhost", "/slow=4").status == 504
    assert sum(backend.requests for backend in backends) == 1


def test_tries_are_bounded_on_kept_connections_too(rig: Rig) -> None:
    backends = [rig.backend(f"poisoned{i}") for i in range(8)]
    for backend in backends:
        rig.register(backend.port, "poison.localhost")
    until(lambda: len(rig.dump().get("poison.localhost", [])) == len(backends), "nginx has all routes")
    # One connection to each is kept from here on.
    shares = Counter(rig.get("poison.localhost").json()["name"] for _ in backends)
    assert set(shares.values()) == {1}
    assert rig.get("poison.localhost", "/break").status == 502
    assert sum(backend.requests for backend in backends) == len(backends) + 5


def test_unknown_hosts_are_told_so_in_the_form_asked_for(rig: Rig) -> None:
    plain = rig.get("nobody.localhost", method="POST", body=b"x" * 100_000)
    assert plain.status == 404
    assert plain.text == "VCAP ROUTER: 404 - DESTINATION NOT FOUND\r\n"
    machine = rig.get("nobody.localhost", Accept="application/json")
    assert machine.json()["code"] == 404
    assert machine.json()["request_id"] == machine.headers["x-vcap-request-id"]
    assert "<h1>" in rig.get("nobody.localhost", Accept="text/html,*/*").text
    for accept, form in (
        ("text/html,application/xhtml+xml,application/json;q=0.5,*/*;q=0.1", "text/html"),
        ("application/json, text/plain, */*", "application/json"),
        ("text/plain;q=0.2, Application/JSON;q=0.9", "application/json"),
        ("application/json;q=0, */*", "text/plain"),
        ("image/png;q=.", "text/plain"),
    ):
        answer = rig.get("nobody.localhost", Accept=accept)
        assert answer.headers["content-type"].partition(";")[0] == form
    until(lambda: rig.varz()["bad_requests"] >= 3, "bad requests are counted")


def test_what_names_no_host_or_none_that_could_be_is_told_so(rig: Rig) -> None:
    before = rig.varz()["bad_requests"]
    with socket.create_connection(("127.0.0.1", rig.port), 10) as client:
        client.sendall(b"GET / HTTP/1.0\r\nAccept: application/json\r\n\r\n")
        answer = b"".join(iter(partial(client.recv, 65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    told = json.loads(body)
    assert told["code"] == 400
    assert f"X-Vcap-Request-Id: {told['request_id']}".encode() in head
    assert rig.get("x" * 9000).status == 404
    until(lambda: rig.varz()["bad_requests"] >= before + 2, "both are counted")


def test_a_trace_names_the_router_and_the_endpoint_that_answered(rig: Rig) -> None:
    nobody = rig.get("nobody.localhost", X_Vcap_Trace="22").headers
    assert nobody["x-vcap-router"] == "127.0.0.1"
    assert "x-vcap-backend" not in nobody
    alive = rig.backend("traced")
    rig.register(alive.port, "traced.localhost")
    rig.wait_status("traced.localhost", 200)
    rig.register(free_port(), "traced.localhost")
    until(lambda: len(rig.dump()["traced.localhost"]) == 2, "nginx has both")
    ejections = rig.varz()["ejections"]
    named = {rig.get("traced.localhost", X_Vcap_Trace="22").headers["x-vcap-backend"] for _ in range(4)}
    assert named == {f"127.0.0.1:{alive.port}"}
    until(lambda: rig.varz()["ejections"] > ejections, "the dead one was tried")


def test_headers_are_set_and_forgeries_replaced(rig: Rig) -> None:
    backend = rig.backend("headers")
    rig.register(backend.port, "headers.localhost")
    rig.wait_status("headers.localhost", 200)
    answer = rig.get(
        "headers.localhost",
        X_Forwarded_For="6.6.6.6",
        X_Vcap_Request_Id="mine",
        X_Forwarded_Proto="https",
        Proxy="http://evil",
        Keep_Alive="300",
        X_Vcap_Trace="22",
    )
    sent = answer.json()["headers"]
    assert sent["x-forwarded-for"] == "127.0.0.1"
    assert sent["x-forwarded-proto"] == "http"
    assert sent["x-forwarded-host"] == "headers.localhost"
    assert sent["x-request-start"].startswith("t=")
    # Router, time, worker, connection, and which request of it.
    assert re.fullmatch(r"0-\d{10}\.\d{3}-\d+-\d+-1", sent["x-vcap-request-id"])
    assert not {"proxy", "keep-alive", "connection"} & set(sent)
    assert answer.headers["x-vcap-backend"] == f"127.0.0.1:{backend.port}"
    assert "x-vcap-backend" not in rig.get("headers.localhost", X_Vcap_Trace="23").headers


def test_uploads_stream_whatever_their_size(rig: Rig) -> None:
    rig.register(rig.backend("upload").port, "api.ingot.localhost", subject=PLATFORM_REGISTER)
    rig.wait_status("api.ingot.localhost", 200)
    chunk = b"x" * 1_000_000
    answer = rig.get("api.ingot.localhost", "/up", "PUT", body=(chunk for _ in range(64)))
    assert answer.json()["received"] == 64_000_000


def test_the_access_log_names_application_and_instance(rig: Rig) -> None:
    backend = rig.backend("logged")
    rig.register(backend.port, "logged.localhost", app=42, private_instance_id="i" * 32)
    rig.wait_status("logged.localhost", 200)
    assert rig.get("logged.localhost", "/here?secret=1").status == 200

    def line() -> dict[str, object] | None:
        lines = [json.loads(text) for text in rig.log("access.log").splitlines()]
        return next((r for r in lines if r["host"] == "logged.localhost" and r["path"] == "/here"), None)

    record = until(line, "the request is in the log")
    assert record["app"] == "42"
    assert record["instance"] == "i" * 32
    assert record["upstream"] == f"127.0.0.1:{backend.port}"
    assert "secret" not in rig.log("access.log")


def test_two_applications_on_one_host_are_told_apart_in_the_log(rig: Rig) -> None:
    for app in (1, 2):
        rig.register(rig.backend(f"app{app}").port, "both.localhost", app=app, private_instance_id="x" * app)
    rig.wait_status("both.localhost", 200)
    until(lambda: rig.varz()["nginx_synced"], "nginx is up to date")
    for _ in range(4):
        rig.get("both.localhost", "/both")

    def pairs() -> bool:
        lines = [json.loads(text) for text in rig.log("access.log").splitlines()]
        seen = {(r["app"], r["instance"]) for r in lines if r["path"] == "/both"}
        return seen == {("1", "x"), ("2", "xx")}

    until(pairs, "both are named")


def test_malformed_messages_harm_nothing(rig: Rig) -> None:
    for body in (b"{", b"[]", b'{"host":"127.0.0.1"}', b'{"host":"127.0.0.1","port":"x","uris":[]}'):
        assert rig.bus.publish("router.register", body)
    for host, port, uri in (
        ("127.0.0.1", 0, "a.b"),
        ("not an address", 80, "a.b"),
        ("127.0.0.1", 80, "a b/c\n"),
    ):
        assert rig.bus.publish("router.register", {"host": host, "port": port, "uris": [uri]})
    rig.register(rig.backend("after").port, "after.localhost")
    rig.wait_status("after.localhost", 200)
    assert rig.get("a.b").status == 404


def test_registrations_of_looser_peers_are_taken(rig: Rig) -> None:
    port = rig.backend("loose").port
    for host, members in (
        ("texts.localhost", {"port": str(port), "app": "12"}),
        ("nulls.localhost", {"app": None, "tags": None, "dea": None, "private_instance_id": None}),
        ("odd.localhost", {"tags": {"weight": "nan", "zone": 7, "a": [{}]}, "dea": 7}),
        ("light.localhost", {"tags": {"weight": -1}}),
    ):
        rig.bus.publish(
            "router.register", {"host": "127.0.0.1", "port": port, "uris": [None, host], **members}
        )
        rig.wait_status(host, 200)


def test_greet_is_answered_with_the_intervals(rig: Rig) -> None:
    hello = rig.bus.request("router.greet", {}, RouterHello)
    assert (hello.minimumRegisterIntervalInSeconds, hello.pruneThresholdInSeconds) == (20, 120)
    assert hello.hosts == ["127.0.0.1"]


def test_a_thousand_hosts(rig: Rig) -> None:
    backend = rig.backend("many")
    for start in range(0, 1000, 50):
        rig.register(backend.port, *(f"h{i}.many.localhost" for i in range(start, start + 50)))
    rig.wait_status("h999.many.localhost", 200)
    assert {rig.get(f"h{i}.many.localhost").status for i in range(0, 1000, 7)} == {200}
    assert rig.varz()["urls"] >= 1000


def test_a_port_used_again_serves_only_its_new_instance(rig: Rig) -> None:
    backend = rig.backend("new")
    rig.register(backend.port, "old.localhost", app=1, private_instance_id="old")
    rig.wait_status("old.localhost", 200)
    rig.register(backend.port, "new.localhost", app=2, private_instance_id="new")
    rig.wait_status("new.localhost", 200)
    rig.wait_status("old.localhost", 404)


def test_websocket_upgrade_passes(rig: Rig) -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        peer, _ = listener.accept()
        with peer:
            request = b""
            while b"\r\n\r\n" not in request:
                request += peer.recv(4096)
            assert b"upgrade: websocket" in request.lower()
            peer.sendall(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
            )
            peer.sendall(peer.recv(100).upper())

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    rig.register(listener.getsockname()[1], "ws.localhost")
    until(lambda: "ws.localhost" in rig.dump(), "nginx has the route")
    with listener, socket.create_connection(("127.0.0.1", rig.port), 10) as client:
        client.sendall(
            b"GET / HTTP/1.1\r\nHost: ws.localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
        )
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(4096)
        assert head.startswith(b"HTTP/1.1 101")
        client.sendall(b"hello")
        assert client.recv(100) == b"HELLO"
        thread.join(10)


def test_a_host_that_a_worker_has_no_room_for_costs_one_question() -> None:
    with running(nginx={"router_endpoints": 2}) as rig:
        rig.register(rig.backend("first").port, "first.localhost")
        rig.wait_status("first.localhost", 200)
        rig.register(free_port(), "second.localhost")
        until(lambda: "second.localhost" in rig.dump(), "nginx has the route")
        assert rig.get("second.localhost").status == 503
        assert rig.log("error.log").count("raise router_endpoints") <= 3
        assert rig.get("first.localhost").status == 200
