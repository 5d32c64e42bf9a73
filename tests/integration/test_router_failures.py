"""Each part of the router's machine lost in turn: what nginx knows goes on being served."""

from __future__ import annotations

import select
import signal
import socket
import time
from collections.abc import Iterator
from functools import partial

import pytest

from tests.integration.router_rig import Rig, load, running
from tests.support.ports import free_port
from tests.support.waiting import until


@pytest.fixture
def rig() -> Iterator[Rig]:
    with running(router={"prune_seconds": 3, "sweep_seconds": 0.2, "start_seconds": 1}) as started:
        yield started


def confirm(rig: Rig, host: str, port: int) -> None:
    rig.register(port, host, app=1, private_instance_id="i" * 32)


def test_without_its_process_nginx_serves_what_it_knows_and_says_what_it_does_not(rig: Rig) -> None:
    backend = rig.backend("known")
    confirm(rig, "known.localhost", backend.port)
    rig.wait_status("known.localhost", 200)
    rig.kill("router")
    assert rig.get("known.localhost").status == 200
    unknown = rig.get("other.localhost")
    assert unknown.status == 503
    assert unknown.headers["retry-after"]
    rig.start_router()
    rig.wait_ready()
    assert rig.get("known.localhost").status == 200
    confirm(rig, "known.localhost", backend.port)
    rig.wait_status("other.localhost", 404)


def test_who_asks_for_unknown_hosts_leaves_room_for_known_ones() -> None:
    def ask(port: int, number: int) -> socket.socket:
        client = socket.create_connection(("127.0.0.1", port), 60)
        client.sendall(f"GET / HTTP/1.0\r\nHost: u{number}.localhost\r\n\r\n".encode())
        return client

    # The bound is a worker's, and which of several takes a connection is chance.
    inputs = {"router_workers": 1, "router_worker_connections": 256, "router_hold_seconds": 60}
    with running(nginx=inputs, router={"hold_seconds": 60}) as rig:
        rig.register(rig.backend("known").port, "known.localhost")
        rig.wait_status("known.localhost", 200)
        rig.kill("nats")
        rig.kill("router")
        rig.start_router()
        until(rig.hears_questions, "the process can be asked, and has not heard the bus")
        # An eighth of nginx's connections.
        held = [ask(rig.port, number) for number in range(32)]
        try:
            until(lambda: rig.questions() == 32, "all of them are held")
            # Whoever comes then is not held, and who is goes on waiting.
            for number in range(32, 40):
                with ask(rig.port, number) as more:
                    assert more.recv(13) == b"HTTP/1.1 503 "
            assert rig.get("known.localhost").status == 200
            assert not select.select(held, [], [], 0)[0]
        finally:
            for client in held:
                client.close()
            rig.kill("router")


def test_a_new_process_takes_over_routes_and_lets_them_age(rig: Rig) -> None:
    kept, gone = rig.backend("kept"), rig.backend("gone")
    confirm(rig, "kept.localhost", kept.port)
    rig.register(gone.port, "gone.localhost")
    rig.wait_status("kept.localhost", 200)
    rig.wait_status("gone.localhost", 200)
    with load(rig, "kept.localhost") as seen:
        rig.kill("router")
        rig.start_router()
        rig.wait_ready()
        assert set(rig.dump()) == {"kept.localhost", "gone.localhost"}

        def aged() -> bool:
            confirm(rig, "kept.localhost", kept.port)
            return rig.get("gone.localhost").status == 404

        until(aged, "the route nobody confirmed is dropped")
    assert set(seen) == {200}


def test_a_restarted_nginx_learns_its_routes_while_clients_wait(rig: Rig) -> None:
    backend = rig.backend("back")
    confirm(rig, "back.localhost", backend.port)
    rig.wait_status("back.localhost", 200)
    for number in (signal.SIGTERM, signal.SIGKILL):
        rig.kill("nginx", number)
        until(lambda: not rig.varz()["nginx_synced"], "the process notices")
        confirm(rig, "back.localhost", backend.port)
        rig.start_nginx()
        answer = rig.get("back.localhost", "/upload", "POST", body=b"x" * 300_000)
        assert answer.status == 200
        assert answer.json()["received"] == 300_000


def test_reloads_lose_no_request_and_no_route(rig: Rig) -> None:
    backend = rig.backend("reloaded")
    confirm(rig, "reloaded.localhost", backend.port)
    rig.wait_status("reloaded.localhost", 200)
    with load(rig, "reloaded.localhost") as seen:

        def beyond(goal: int) -> bool:
            return seen.total() > goal

        for _ in range(20):
            confirm(rig, "reloaded.localhost", backend.port)
            rig.reload_nginx()
            goal = seen.total() + 20
            until(partial(beyond, goal), "requests go on")
    assert set(seen) == {200}
    assert "reloaded.localhost" in rig.dump()
    assert "router_task_failed" not in rig.log("router.out")


def test_nothing_is_pruned_while_the_bus_is_away(rig: Rig) -> None:
    backend = rig.backend("steady")
    confirm(rig, "steady.localhost", backend.port)
    rig.wait_status("steady.localhost", 200)
    rig.kill("nats")
    started = time.monotonic()
    until(lambda: time.monotonic() - started > 4, "more than the age has passed")
    assert rig.get("steady.localhost").status == 200
    assert rig.readiness()[0] == 200
    rig.start_nats()
    until(lambda: rig.bus.bus.connected, "the bus is back")
    assert rig.get("steady.localhost").status == 200
    rig.wait_status("steady.localhost", 404)


def test_a_process_that_starts_while_the_bus_is_away_is_ready_with_what_nginx_holds(rig: Rig) -> None:
    backend = rig.backend("orphan")
    confirm(rig, "orphan.localhost", backend.port)
    rig.wait_status("orphan.localhost", 200)
    rig.kill("nats")
    rig.kill("router")
    rig.start_router()
    rig.wait_ready()
    assert rig.get("orphan.localhost").status == 200
    # What nobody could have told it is not denied.
    assert rig.get("other.localhost").status == 503


def test_a_drained_router_is_not_ready_and_serves_on(rig: Rig) -> None:
    backend = rig.backend("drained")
    confirm(rig, "drained.localhost", backend.port)
    rig.wait_status("drained.localhost", 200)
    (rig.folder / "drain").touch()
    status, told = rig.readiness()
    assert (status, told["reasons"]) == (503, ["draining"])
    assert rig.get("drained.localhost").status == 200
    (rig.folder / "drain").unlink()
    assert rig.readiness()[0] == 200


def test_a_whole_table_of_a_hundred_thousand_endpoints_passes() -> None:
    with running(router={"settle_seconds": 0.1}) as rig:
        backend = rig.backend("large")
        for number in range(10):
            for start in range(0, 10_000, 500):
                uris = [f"h{i}.large.localhost" for i in range(start, start + 500)]
                rig.bus.publish(
                    "router.register",
                    {"host": f"127.1.{number}.1", "port": 61001, "uris": uris, "app": 1, "tags": {"a": "b"}},
                )
        rig.register(backend.port, "last.localhost")
        rig.wait_status("last.localhost", 200)
        until(lambda: rig.varz()["urls"] == 10_001, "the table is complete")
        rig.kill("nginx")
        rig.start_nginx()
        assert rig.get("last.localhost").status == 200
        routes = rig.dump()
        assert len(routes) == 10_001
        assert sum(len(endpoints) for endpoints in routes.values()) == 100_001


def test_a_full_route_memory_is_told_and_costs_no_route_that_is_there() -> None:
    with running(nginx={"router_route_memory": "128k"}) as rig:
        backend = rig.backend("first")
        rig.register(backend.port, "first.localhost")
        rig.wait_status("first.localhost", 200)
        for start in range(0, 3000, 500):
            rig.register(free_port(), *(f"h{i}.full.localhost" for i in range(start, start + 500)))

        def told() -> bool:
            status, body = rig.readiness()
            return status == 503 and "507" in body["reasons"][0]

        until(told, "readiness names it")
        assert rig.get("first.localhost").status == 200
