"""What a call costs, counted and not timed: statements and transactions at PostgreSQL, messages on the bus.

A count that goes up is a call that got slower (docs/decisions/0011-controller-speed.md): change the table only for a reason.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from nats.aio.client import Client as NatsClient
from sqlalchemy import Engine, event, update
from werkzeug.test import TestResponse

from components.common.config import BusConfig
from components.common.identity import Identity
from components.common.states import AppState, PackageState
from components.controller import server
from components.controller.api.app import create_app
from components.controller.bus_handlers import BusHandlers
from components.controller.composition import Controller
from components.controller.config import ControllerConfig
from components.controller.db.models import App
from components.controller.instances.health_cache import HealthCache
from tests.integration.controller_rig import ADMIN, PASSWORD, Peers

# What peers say to each other all the time.
BACKGROUND = ("_INBOX", "ingot.dea.beat", "router.", "vcap.component.announce")
HEALTH, FIND = "healthmanager.health", "dea.find.droplet"
CHANGED, STOP, EVENT = "droplet.updated", "dea.stop", "vcap.cc.events"


@dataclass
class Spent:
    """What was asked of the database, a transaction counting as its BEGIN, and what was said on the bus."""

    statements: list[str] = field(default_factory=list)
    subjects: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return "\n".join((*self.statements, *self.subjects))


@dataclass
class World:
    controller: Controller
    client: FlaskClient
    headers: dict[str, str]

    def call(self, method: str, path: str, body: object = None) -> TestResponse:
        answer = self.client.open(path, method=method, json=body, headers=self.headers)
        assert answer.status_code < 400, answer.text
        return answer

    def remember_answers(self, seconds: float) -> None:
        self.controller.instance_queries._recent = HealthCache(seconds)

    @contextmanager
    def counted(self) -> Iterator[Spent]:
        """Count what this thread asks of the database, and what anyone says on the bus."""
        spent, thread, publish = Spent(), threading.get_ident(), NatsClient.publish

        def asked(_c: Any, _cursor: Any, statement: str, *_more: Any) -> None:
            if threading.get_ident() == thread:
                spent.statements.append(" ".join(statement.split()))

        def begun(connection: Any) -> None:
            if threading.get_ident() == thread and not connection.connection.dbapi_connection.autocommit:
                spent.statements.append("BEGIN")

        async def said(client: NatsClient, subject: str, *more: Any, **named: Any) -> None:
            if not subject.startswith(BACKGROUND):
                spent.subjects.append(subject)
            await publish(client, subject, *more, **named)

        event.listen(Engine, "before_cursor_execute", asked)
        event.listen(Engine, "begin", begun)
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(NatsClient, "publish", said)
                yield spent
                # What was handed over to the bus has been sent once the loop gets to this.
                self.controller.bus.run(self.controller.bus.bus.publish("test.done"))
            spent.subjects.remove("test.done")
        finally:
            event.remove(Engine, "before_cursor_execute", asked)
            event.remove(Engine, "begin", begun)


@pytest.fixture
def world(postgres_url: str, nats_server: str, tmp_path: Path) -> Iterator[World]:
    config = ControllerConfig(
        bus=BusConfig(urls=[nats_server]),
        database_url=postgres_url,
        share_path=str(tmp_path / "share"),
        temp_path=str(tmp_path),
        token_keys=["0123456789abcdef0123"],
        bulk_password="bulk secret",
        staging_password="staging secret",
        admin_email=ADMIN,
        admin_password=PASSWORD,
    )
    peers = Peers(nats_server)
    server.prepare(config)
    controller = Controller.build(config, Identity.fresh("CloudController", 0))
    handlers = BusHandlers(controller)
    handlers.start()
    try:
        assert controller.bus.run(controller.bus.bus.wait_connected(20))
        client = create_app(controller).test_client()
        token = client.post(f"/users/{ADMIN}/tokens", json={"password": PASSWORD}).get_json()["token"]
        made = World(controller, client, {"Authorization": token})
        for name in ("one", "two", "three"):
            made.call("POST", "/apps", new_app(name))
        digest = "ab" * 20
        ready = {
            "state": AppState.STARTED,
            "package_state": PackageState.STAGED,
            "run_count": 1,
            "staged_package_hash": digest,
        }
        with controller.db.session() as session:
            session.execute(update(App).values(**ready))
        yield made
    finally:
        handlers.stop()
        controller.db.close()
        peers.close()


def new_app(name: str) -> dict[str, object]:
    return {
        "name": name,
        "staging": {"framework": "wsgi"},
        "uris": [f"{name}.ingot.localhost", f"www-{name}.ingot.localhost"],
        "instances": 1,
    }


def test_what_each_call_costs(world: World) -> None:
    world.remember_answers(0)
    numbers = itertools.count()
    calls: list[tuple[str, int, list[str], Callable[[], TestResponse]]] = [
        ("greeting", 0, [], lambda: world.client.get("/info")),
        ("info", 2, [], lambda: world.call("GET", "/info")),
        ("list", 2, [HEALTH], lambda: world.call("GET", "/apps")),
        ("show", 2, [HEALTH], lambda: world.call("GET", "/apps/one")),
        ("stats", 2, [FIND], lambda: world.call("GET", "/apps/one/stats")),
        ("create", 8, [EVENT], lambda: world.call("POST", "/apps", new_app("four"))),
        ("environment", 9, [EVENT], lambda: world.call("PUT", "/apps/four", {"env": [f"N={next(numbers)}"]})),
        ("stop", 14, [STOP, CHANGED, EVENT], lambda: world.call("PUT", "/apps/two", {"state": "STOPPED"})),
        ("delete", 8, [STOP, CHANGED, EVENT], lambda: world.call("DELETE", "/apps/four")),
    ]
    for name, statements, subjects, call in calls:
        with world.counted() as spent:
            call()
        assert (name, len(spent.statements), spent.subjects) == (name, statements, subjects), str(spent)


def test_what_a_health_manager_said_is_not_asked_again_at_once(world: World) -> None:
    world.remember_answers(3600)
    for path, subjects in (("/apps", [HEALTH]), ("/apps", []), ("/apps/one", [])):
        with world.counted() as spent:
            world.call("GET", path)
        assert spent.subjects == subjects
    with world.controller.db.session() as session:
        session.execute(update(App).where(App.name == "one").values(run_count=2))
    with world.counted() as spent:
        world.call("GET", "/apps")
    assert spent.subjects == [HEALTH], "it was started anew: that is another question"


def test_a_void_token_is_refused_at_once_though_it_was_read_before(world: World) -> None:
    world.call("GET", "/info")
    world.call("DELETE", f"/v2/users/{ADMIN}/tokens")
    assert world.client.get("/apps", headers=world.headers).status_code == 403
