"""A controller, the Redis gateway and its node, all real: an application's credentials open a real server, and end."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from components.common.bus.messages import DeaStart
from components.controller.apps.messages import start_message
from components.controller.config import ControllerConfig
from components.controller.db.database import Database
from components.controller.db.models import App
from components.controller.storage.store import Store
from components.dea.supervision.environment import services_by_label
from tests.integration.common_rig import NatsServer
from tests.integration.controller_rig import Client, ControllerProcess, close_clients
from tests.integration.services_rig import LABEL, TOKEN, ServicesRig, client, opens
from tests.support.waiting import until

WISH = {"type": "key-value", "vendor": "redis", "version": "7.0", "tier": "free", "name": "visits"}


@dataclass
class Setting:
    controller: ControllerProcess
    services: ServicesRig
    person: Client
    database_url: str

    def handles(self) -> list[dict[str, Any]]:
        answer = self.person.call(
            "GET",
            f"/services/v1/offerings/{LABEL}/handles",
            headers={"X-VCAP-Service-Token": TOKEN},
        )
        return list(answer.json()["handles"])

    def offered(self) -> bool:
        return "key-value" in self.person.call("GET", "/info/services").json()

    def vcap_services(self, folder: Path) -> dict[str, Any]:
        """What the application would find in its environment."""
        db = Database(self.database_url, 1)
        config = ControllerConfig(
            bus=None,  # type: ignore[arg-type]
            database_url=self.database_url,
            share_path=str(folder),
            token_keys=[],
            bulk_password="",
            staging_password="",
        )
        try:
            with db.session() as session:
                app = session.query(App).one()
                message: DeaStart = start_message(app, config, Store(folder))
        finally:
            db.close()
        return dict(json.loads(json.dumps(services_by_label(message.services))))


@pytest.fixture
def setting(postgres_url: str, tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Setting]:
    with ExitStack() as stack:
        nats = NatsServer(tmp_path, users=True)
        stack.callback(nats.stop)
        nats.start()
        bus = {"urls": [nats.url], "user": "controller", "password": "controller"}
        more = {"service_tokens": {"redis": TOKEN}, "bus": bus}
        controller = ControllerProcess(tmp_path, free_port(), nats.url, postgres_url, **more)
        stack.callback(controller.stop)
        stack.callback(close_clients)
        services = ServicesRig(tmp_path, [controller.url], nats.url)
        stack.callback(services.close)
        # In whichever order they begin, they find each other.
        services.gateway.start()
        services.node.start()
        until(controller.ready, "the controller is ready", 40)
        until(services.node.ready, "the node is ready")
        until(services.gateway.ready, "the gateway is ready")
        yield Setting(controller, services, Client(controller.url).login(), postgres_url)


def test_an_application_gets_a_server_and_loses_it(setting: Setting, tmp_path: Path) -> None:
    person = setting.person
    assert setting.offered()
    assert person.call("POST", "/services", WISH).status_code == 200
    person.create("hello")
    assert person.put("hello", services=["visits"]).status_code == 200
    bound = setting.vcap_services(tmp_path)[LABEL][0]
    assert set(bound) == {"name", "label", "plan", "tags", "credentials"}
    assert (bound["name"], bound["label"], bound["plan"]) == ("visits", LABEL, "free")
    assert {"redis", LABEL, "key-value", "nosql"} == set(bound["tags"])
    credentials = bound["credentials"]
    assert {"hostname", "host", "port", "password", "name"} <= set(credentials)
    with client(credentials) as visitor:
        assert visitor.incr("visits") == 1
    assert person.put("hello", services=[]).status_code == 200
    assert not opens(credentials)
    assert len(setting.handles()) == 1
    person.put("hello", services=["visits"])
    with client(setting.vcap_services(tmp_path)[LABEL][0]["credentials"]) as visitor:
        assert visitor.incr("visits") == 2, "what is in it stays"
    assert person.call("DELETE", "/services/visits").status_code == 200
    assert setting.vcap_services(tmp_path) == {}
    assert person.app("hello")["services"] == []
    until(lambda: not setting.services.records(), "the server is gone")
    assert setting.handles() == []
    assert credentials["password"] not in setting.controller.log.read_text()


def test_what_is_away_is_named_and_leaves_nothing(setting: Setting) -> None:
    person, services = setting.person, setting.services
    person.call("POST", "/services", WISH)
    person.create("hello")
    services.node.end()
    answer = person.put("hello", services=["visits"])
    assert (answer.status_code, answer.json()["code"]) == (502, 503)
    assert "redis_node_1" in answer.json()["description"]
    assert person.app("hello")["services"] == []
    assert len(setting.handles()) == 1
    services.node.start()
    until(services.node.ready, "the node is back")
    services.gateway.end()
    until(lambda: not setting.offered(), "a gateway says goodbye")
    assert person.call("POST", "/services", {**WISH, "name": "r2"}).json()["code"] == 500
    answer = person.put("hello", services=["visits"])
    assert (answer.status_code, answer.json()["code"]) == (502, 503)
    assert "cannot be reached" in answer.json()["description"]
    services.gateway.start()
    until(setting.offered, "it is offered again")
    until(services.gateway.ready, "the gateway is back")
    assert person.put("hello", services=["visits"]).status_code == 200
    assert person.call("DELETE", "/apps/hello").status_code == 200
    assert person.call("DELETE", "/services/visits").status_code == 200
    until(lambda: not services.records(), "the server is gone")
    assert setting.handles() == []
