"""Which endpoint a request goes to: sticky sessions, fair shares, weight, zone, the fewest open requests; and what is counted of it."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from functools import partial
from urllib.request import Request, urlopen

import pytest

from components.common.bus.client import Incoming
from components.common.bus.operation_messages import RouterUsage
from components.common.bus.thread import BusThread
from components.common.config import BusConfig
from tests.integration.router_rig import Backend, Rig, running
from tests.support.ports import free_port
from tests.support.waiting import until

# The example of protocol 3.3: uri router_test.vcap.me, host 127.0.0.1, port 12345.
VECTOR = "zXiJv9VIyWW7kqrcqYUkzj+UEkC4UUHGaYX9fCpDMm2szLfOpt+aeRZMK7kfkpET+PDhvfKRP/M="


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with running(
        nginx={"router_zone": "a", "router_eject_seconds": 1}, router={"usage_seconds": 1}
    ) as started:
        yield started


def serve(rig: Rig, host: str, count: int, **tags: object) -> list[Backend]:
    backends = [rig.backend(f"{host.partition('.')[0]}{i}") for i in range(count)]
    for backend in backends:
        rig.register(backend.port, host, tags=tags)
    rig.wait_status(host, 200)
    until(lambda: len(rig.dump().get(host, [])) == count, "nginx has all endpoints")
    return backends


def have_been_asked(backends: list[Backend], count: int) -> bool:
    return sum(b.requests for b in backends) == count


def cookie_of(headers: dict[str, str]) -> str:
    cookies = [c for c in headers["set-cookie"].split("\n") if c.startswith("__VCAP_ID__=")]
    assert len(cookies) == 1
    return cookies[0]


def test_every_endpoint_gets_its_share(rig: Rig) -> None:
    serve(rig, "shares.localhost", 10)
    seen = Counter(rig.get("shares.localhost").json()["name"] for _ in range(150))
    # Protocol 9: every one takes part, each within 55 % of its fair share.
    assert len(seen) == 10
    assert all(abs(n - 15) <= 15 * 0.55 for n in seen.values())


def test_a_java_session_stays_where_it_began(rig: Rig) -> None:
    serve(rig, "java.localhost", 4)
    began = rig.get("java.localhost", "/session")
    cookie = cookie_of(began.headers)
    # The attributes of the session's own cookie are kept.
    assert cookie.endswith("; Path=/; HttpOnly")
    assert cookie_of(rig.get("java.localhost", "/session=app_jsessionid").headers).endswith("; HttpOnly")
    value = cookie.partition(";")[0]
    name = began.json()["name"]
    asked = [rig.get("java.localhost", Cookie=f"JSESSIONID=abc; {value}").json()["name"] for _ in range(8)]
    assert set(asked) == {name}
    assert "set-cookie" not in rig.get("java.localhost").headers
    stale = [
        rig.get("java.localhost", Cookie=f"__VCAP_ID__={bad}").json()["name"] for bad in ("x", VECTOR, "") * 4
    ]
    assert len(set(stale)) > 1


def test_a_session_whose_endpoint_is_gone_goes_on_elsewhere(rig: Rig) -> None:
    backends = serve(rig, "moved.localhost", 2)
    began = rig.get("moved.localhost", "/session")
    value = cookie_of(began.headers).partition(";")[0]
    gone = next(b for b in backends if b.name == began.json()["name"])
    rig.unregister(gone.port, "moved.localhost")
    until(lambda: len(rig.dump()["moved.localhost"]) == 1, "nginx knows that it is gone")
    answer = rig.get("moved.localhost", Cookie=value)
    assert (answer.status, answer.json()["name"] != gone.name) == (200, True)


def test_sessions_are_those_of_the_reference() -> None:
    with running() as rig:
        endpoint = Backend("vector", 12345)
        try:
            for port in (12345, rig.backend("other").port):
                rig.register(port, "router_test.vcap.me")
            rig.wait_status("router_test.vcap.me", 200)
            until(lambda: len(rig.dump()["router_test.vcap.me"]) == 2, "nginx has both")
            asked = [
                rig.get("router_test.vcap.me", Cookie=f"__VCAP_ID__={VECTOR}").json()["name"]
                for _ in range(4)
            ]
            assert asked == ["vector"] * 4
            answers = [rig.get("router_test.vcap.me", "/session") for _ in range(2)]
            mine = next(a for a in answers if a.json()["name"] == "vector")
            assert cookie_of(mine.headers).partition(";")[0] == f"__VCAP_ID__={VECTOR}"
        finally:
            endpoint.stop()


def test_a_heavier_endpoint_gets_more(rig: Rig) -> None:
    light, heavy = rig.backend("light"), rig.backend("heavy")
    rig.register(light.port, "weight.localhost")
    rig.register(heavy.port, "weight.localhost", tags={"weight": 3})
    rig.wait_status("weight.localhost", 200)
    until(lambda: len(rig.dump()["weight.localhost"]) == 2, "nginx has both")
    names = [rig.get("weight.localhost").json()["name"] for _ in range(40)]
    assert Counter(names) == {"light": 10, "heavy": 30}


def test_the_same_zone_comes_first_and_the_other_when_it_is_lost(rig: Rig) -> None:
    near, far = rig.backend("near"), rig.backend("far")
    rig.register(far.port, "zone.localhost", tags={"zone": "b"})
    rig.register(near.port, "zone.localhost", tags={"zone": "a"})
    rig.wait_status("zone.localhost", 200)
    until(lambda: len(rig.dump()["zone.localhost"]) == 2, "nginx has both")
    assert {rig.get("zone.localhost").json()["name"] for _ in range(6)} == {"near"}
    rig.register(free_port(), "zone.localhost", tags={"zone": "a"})
    rig.unregister(near.port, "zone.localhost")
    until(
        lambda: near.port not in [e["port"] for e in rig.dump()["zone.localhost"]], "only a dead one is near"
    )
    answers = [rig.get("zone.localhost") for _ in range(6)]
    assert {(a.status, a.json()["name"]) for a in answers} == {(200, "far")}


def test_a_session_in_the_other_zone_stays_where_it_began_whatever_else_is_passed_over() -> None:
    with running(nginx={"router_zone": "a", "router_eject_seconds": 600}) as rig:
        near, far = rig.backend("near"), rig.backend("far")
        rig.register(far.port, "away.localhost", tags={"zone": "b"})
        rig.wait_status("away.localhost", 200)
        value = cookie_of(rig.get("away.localhost", "/session").headers).partition(";")[0]
        rig.register(near.port, "away.localhost", tags={"zone": "a"})
        rig.register(free_port(), "lost.localhost")
        until(lambda: len(rig.dump()["away.localhost"]) == 2, "nginx has both")
        rig.wait_status("lost.localhost", 503)
        assert rig.get("away.localhost").json()["name"] == "near"
        assert {rig.get("away.localhost", Cookie=value).json()["name"] for _ in range(4)} == {"far"}


def test_numbers_of_applications_and_endpoints_reach_varz_metrics_and_the_bus(rig: Rig) -> None:
    heard: list[RouterUsage] = []
    listener = BusThread(BusConfig([f"nats://127.0.0.1:{rig.bus_port}"], "controller"), "listener")

    async def hear(message: Incoming[RouterUsage]) -> None:
        heard.append(message.body)

    listener.subscribe("ingot.router.usage", RouterUsage, hear)
    listener.start()
    try:
        until(lambda: listener.bus.connected, "the listener is on the bus")
        backend, dead = rig.backend("numbers"), free_port()
        tags = {"framework": "sinatra"}
        rig.register(backend.port, "numbers.localhost", app=77, private_instance_id="n" * 32, tags=tags)
        rig.wait_status("numbers.localhost", 200)
        rig.register(dead, "numbers.localhost", app=77, private_instance_id="d" * 32)
        until(lambda: len(rig.dump()["numbers.localhost"]) == 2, "nginx has both")
        for _ in range(10):
            assert rig.get("numbers.localhost", "/status=404").status == 404
        until(
            lambda: rig.varz()["apps"].get("77", {}).get("responses_4xx") == 10, "the application is counted"
        )
        varz = rig.varz()
        app = varz["apps"]["77"]
        assert varz["tags"]["framework"]["sinatra"]["responses_4xx"] == 10
        assert app["retries"] >= 1
        assert app["ejections"] >= 1
        assert app["bytes_out"] > 1000
        assert sum(app["latency_buckets"].values()) == app["requests"]
        mine = varz["endpoints"][f"127.0.0.1:{backend.port}"]
        assert (mine["instance"], mine["responses_4xx"], mine["open"]) == ("n" * 32, 10, 0)
        assert varz["endpoints"][f"127.0.0.1:{dead}"]["requests"] == 0
        request = Request(
            f"http://127.0.0.1:{rig.status_port}/metrics", headers={"Authorization": "Basic c3RhdHVzOnA="}
        )
        with urlopen(request, timeout=5) as response:
            text = response.read().decode()
        assert 'ingot_router_app_requests_total{app="77",class="4xx"} 10.0' in text
        assert 'ingot_router_app_seconds_bucket{app="77",le="+Inf"}' in text
        assert f'endpoint="127.0.0.1:{backend.port}",instance="{"n" * 32}"' in text

        def told() -> bool:
            return bool(sum(u.requests.get("77", 0) for u in heard) == app["requests"])

        until(told, "the bus was told every request once")
    finally:
        listener.close()


def test_least_connections_pass_by_a_busy_endpoint() -> None:
    with running(nginx={"router_balance": "least_connections", "router_eject_seconds": 600}) as rig:
        serve(rig, "least.localhost", 3)
        with socket.create_connection(("127.0.0.1", rig.port)):
            until(lambda: rig.varz()["client_connections"] == 1, "nginx says how many clients there are")
        slow: list[str] = []
        threads = [
            threading.Thread(target=lambda: slow.append(rig.get("least.localhost", "/slow=3").json()["name"]))
            for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        until(lambda: rig.varz()["app_connections"] == 2, "two are busy")
        quick = {rig.get("least.localhost").json()["name"] for _ in range(12)}
        for thread in threads:
            thread.join()
        assert len(set(slow)) == 2
        assert quick == {"least0", "least1", "least2"} - set(slow)
        # One that is passed over has no request open, and is not the quietest for that: the busy one is next to it.
        quiet, busy = rig.backend("quiet"), rig.backend("busy")
        rig.register(busy.port, "busy.localhost")
        for port in (quiet.port, free_port(), busy.port):
            rig.register(port, "passed.localhost")
        until(lambda: len(rig.dump().get("passed.localhost", [])) == 3, "nginx has all three")
        until(lambda: rig.get("passed.localhost") and rig.varz()["ejections"], "the dead one is passed over")
        thread = threading.Thread(target=rig.get, args=("busy.localhost", "/slow=3"))
        thread.start()
        until(lambda: rig.varz()["app_connections"] == 1, "one is busy")
        names = {rig.get("passed.localhost").json()["name"] for _ in range(12)}
        thread.join()
        assert names == {"quiet"}


def test_least_connections_count_by_weight() -> None:
    with running(nginx={"router_balance": "least_connections"}) as rig:
        light, heavy = rig.backend("light"), rig.backend("heavy")
        rig.register(light.port, "even.localhost")
        rig.register(heavy.port, "even.localhost", tags={"weight": 3})
        until(lambda: len(rig.dump().get("even.localhost", [])) == 2, "nginx has both")
        with contextlib.ExitStack() as clients:
            for number in range(4):
                client = socket.create_connection(("127.0.0.1", rig.port), 20)
                clients.enter_context(client)
                client.sendall(b"GET /slow=120 HTTP/1.1\r\nHost: even.localhost\r\n\r\n")
                until(partial(have_been_asked, [light, heavy], number + 1), "one more is open")
            assert (light.requests, heavy.requests) == (1, 3)


def test_an_application_may_have_only_so_many_requests_open() -> None:
    inputs = {
        "router_app_requests": 1,
        "router_client_requests": 2,
        "router_trusted_proxies": ["127.0.0.1"],
    }
    with running(nginx=inputs) as rig:
        for name in ("full", "free"):
            rig.register(rig.backend(name).port, f"{name}.localhost", app=len(name) + ord(name[1]))
            rig.wait_status(f"{name}.localhost", 200)
        thread = threading.Thread(target=rig.get, args=("full.localhost", "/slow=9"))
        thread.start()
        until(lambda: rig.varz()["app_connections"] == 1, "one is busy")
        refused = rig.get("full.localhost")
        assert (refused.status, refused.headers["retry-after"]) == (429, "2")
        assert "TOO MANY" in refused.text
        assert rig.get("free.localhost").status == 200
        # What is no application's, as the platform's own, has no limit in common.
        rig.register(rig.backend("own").port, "own.localhost")
        rig.wait_status("own.localhost", 200)
        own = threading.Thread(target=rig.get, args=("own.localhost", "/slow=2"))
        own.start()
        until(lambda: rig.varz()["app_connections"] == 2, "two are busy")
        assert rig.get("own.localhost", X_Forwarded_For="203.0.113.9").status == 200
        own.join()
        second = threading.Thread(target=rig.get, args=("free.localhost", "/slow=6"))
        second.start()
        until(lambda: rig.varz()["app_connections"] == 2, "two are busy")
        # Any third of this client's, whatever it is for.
        assert rig.get("other.localhost").status == 429
        for waiting in (thread, second):
            waiting.join()
        assert rig.get("full.localhost").status == 200
        until(lambda: rig.varz()["limited_requests"] >= 2, "it is counted")
