"""The common part of the daemons that answer with Flask: routes on the bus, probes, gunicorn's settings, requests."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, Generator
from typing import Any, cast

import pytest
from flask import Response
from structlog.testing import capture_logs

from components.common.bus.platform_hosts import REGISTER, UNREGISTER
from components.common.bus.thread import BusThread
from components.common.config import BusConfig, DaemonConfig, StatusConfig
from components.common.identity import Identity
from components.common.web.app import RequestRecord, begin_request, error_response, log_request, new_app
from components.common.web.gunicorn_daemon import GunicornDaemon, with_status_password
from components.common.web.presence import Presence
from components.common.web.probes import METRICS_FOLDER, probes

IDENTITY = Identity("Example", 3, "3-abc")


class Config(DaemonConfig, frozen=True, kw_only=True):
    host: str = "127.0.0.1"
    port: int = 9000
    threads: int = 4
    drain_seconds: float = 1.0
    address: str = "10.0.0.1"
    api: str = "example.test"
    bus: BusConfig = BusConfig(["nats://127.0.0.1:4222"])
    status: StatusConfig = StatusConfig(user="status", password="secret")


class Done:
    """The result of a publication, which is awaited on the bus's loop and ignored elsewhere."""

    def __await__(self) -> Generator[None, None, bool]:
        yield from ()
        return True


class Bus:
    """A bus that notes what is published; it is the thread as well as what runs in it."""

    def __init__(self) -> None:
        self.bus = self
        self.connected = True
        self.said: list[str] = []
        self.hooks: list[Callable[[], Awaitable[None]]] = []
        self.queues: dict[str, str] = {}

    def on_connect(self, hook: Callable[[], Awaitable[None]]) -> None:
        self.hooks.append(hook)

    def subscribe(self, subject: str, _kind: object, _handler: object, queue: str = "") -> None:
        self.queues[subject] = queue

    def publish(self, subject: str, _message: object = None) -> Awaitable[bool]:
        self.said.append(subject)
        return Done()

    def connect(self) -> None:
        async def hooks() -> None:
            for hook in self.hooks:
                await hook()

        asyncio.run(hooks())


class World:
    def __init__(self) -> None:
        self.bus = Bus()
        self.leaving = False
        self.presence = Presence(
            "example",
            Config(),
            IDENTITY,
            cast("BusThread", self.bus),
            leaving=lambda: self.leaving,
            queue="one-of-us",
        )

    def look(self) -> list[str]:
        """Keep the route once; return what was published."""
        self.bus.said.clear()
        self.presence._keep()
        return list(self.bus.said)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr("components.common.web.presence.time.monotonic", lambda: 100.0)
    made = World()
    made.presence._registered = 100.0
    return made


class TestPresence:
    def test_a_connection_announces_registers_and_greets(self, world: World) -> None:
        world.bus.connect()
        assert world.bus.said == ["vcap.component.announce", *REGISTER, "router.greet"]
        assert world.bus.queues["vcap.component.discover"] == "one-of-us"
        assert {"router.start", "ingot.component.logs"} < set(world.bus.queues)

    def test_one_that_leaves_announces_itself_without_a_route(self, world: World) -> None:
        world.leaving = True
        world.bus.connect()
        assert world.bus.said == ["vcap.component.announce", "router.greet"]

    def test_a_route_is_kept_fresh(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        assert world.look() == []
        monkeypatch.setattr("components.common.web.presence.time.monotonic", lambda: 120.0)
        assert world.look() == list(REGISTER)
        assert world.look() == []

    def test_a_drain_withdraws_the_route_once_and_its_end_brings_it_back_at_once(self, world: World) -> None:
        world.leaving = True
        assert world.look() == list(UNREGISTER)
        assert world.look() == []
        world.leaving = False
        assert world.look() == list(REGISTER)

    def test_without_a_connection_a_drain_waits_for_one(self, world: World) -> None:
        world.bus.connected, world.leaving = False, True
        assert world.look() == []
        world.bus.connected = True
        assert world.look() == list(UNREGISTER)


def client(problems: list[str]) -> Any:
    app = new_app("example")
    app.register_blueprint(
        probes(lambda: problems, lambda: {"b": 1, "a": 2}, lambda: StatusConfig(user="me", password="secret"))
    )
    return app.test_client()


def shown(password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"me:{password}".encode()).decode()}


def test_probes_that_are_open() -> None:
    assert client([]).get("/healthz").text == "ok\n"
    ready = client([]).get("/readyz")
    assert (ready.status_code, ready.json["ready"], ready.json["reasons"]) == (200, True, [])
    unfit = client(["no bus"]).get("/readyz")
    assert (unfit.status_code, unfit.json["ready"], unfit.json["reasons"]) == (503, False, ["no bus"])


@pytest.mark.parametrize("path", ["/varz", "/metrics"])
def test_probes_that_want_the_password(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(METRICS_FOLDER, raising=False)
    for headers in ({}, shown("guess")):
        refused = client([]).get(path, headers=headers)
        assert (refused.status_code, refused.text) == (401, "denied\n")
        assert refused.headers["WWW-Authenticate"] == 'Basic realm="ingot"'
    assert client([]).get(path, headers=shown("secret")).status_code == 200


def test_the_figures_keep_their_order() -> None:
    assert client([]).get("/varz", headers=shown("secret")).text.strip() == '{"b":1,"a":2}'


def test_requests_are_counted_timed_and_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(METRICS_FOLDER, raising=False)
    app = new_app("example")
    record = RequestRecord("example_of_a_test")
    app.register_blueprint(probes(list, dict, lambda: StatusConfig(user="me", password="secret")))
    app.before_request(begin_request)

    @app.after_request
    def noted(response: Response) -> Response:
        log_request(response, record.observe(response), path="/shown", user="u", remote="10.0.0.2")
        return response

    app.add_url_rule("/fails/<name>", "fails", lambda name: error_response(409, 300, f"no {name}"))
    with capture_logs() as lines:
        answer = app.test_client().get("/fails/one/")
    assert (answer.status_code, answer.json) == (409, {"code": 300, "description": "no one"})
    assert [(line["event"], line["status"], line["path"], line["user"]) for line in lines] == [
        ("request", 409, "/shown", "u")
    ]
    text = app.test_client().get("/metrics", headers=shown("secret")).text
    assert (
        'ingot_example_of_a_test_requests_total{method="GET",route="/fails/<name>",status="409"} 1.0' in text
    )
    assert 'ingot_example_of_a_test_request_seconds_count{method="GET",route="/fails/<name>"} 1.0' in text


def test_every_worker_has_the_same_password_of_the_probes() -> None:
    chosen = Config()
    assert with_status_password(chosen) is chosen
    made = with_status_password(Config(status=StatusConfig()))
    assert len(made.status.password) == 32
    assert made.status.user == "status"


def test_the_daemons_own_settings_of_gunicorn_are_added_to_the_common_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.argv", ["ingot-example"])

    def no_worker() -> Any:
        raise AssertionError

    cfg = GunicornDaemon("example", Config(), no_worker, {"workers": 3, "backlog": 64}).cfg
    assert (cfg.workers, cfg.backlog, cfg.threads, cfg.proc_name) == (3, 64, 4, "ingot-example")
    assert (cfg.address, cfg.keepalive) == ([("127.0.0.1", 9000)], 20)
