"""Redis for an application: real controllers, gateway, node and servers; what a user does and what an application is given."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.integration.controller_rig import Client, ControllerProcess, Peers
from tests.integration.services_rig import LABEL, TOKEN, ServicesRig, client, cut, opens
from tests.support.waiting import until

pytestmark = pytest.mark.timeout(180)
# As a client of 2011 asks: its version is an alias of what is really there.
WISH = {"vendor": "redis", "version": "2.2", "tier": "free"}


@dataclass
class Platform:
    controllers: list[ControllerProcess]
    peers: Peers
    services: ServicesRig

    def user(self) -> Client:
        return Client(self.controllers[0].url).login()

    def started(self, user: Client, app: str) -> dict[str, Any]:
        """Start an application, and give the credentials of its Redis, as its DEA is told them."""
        before = len(self.peers.starts)
        assert user.put(app, state="STARTED").status_code == 200
        until(lambda: len(self.peers.starts) > before, "a start")
        (service,) = self.peers.starts[-1][1].services
        assert (service["vendor"], service["label"]) == ("redis", LABEL)
        credentials: dict[str, Any] = service["credentials"]
        return credentials


@pytest.fixture
def platform(
    nats_server: str, postgres_url: str, tmp_path: Path, free_port: Callable[[], int]
) -> Iterator[Platform]:
    peers = Peers(nats_server)
    tokens = {"service_tokens": {"redis": TOKEN}}
    controllers = [
        ControllerProcess(tmp_path, free_port(), nats_server, postgres_url, **tokens) for _ in range(2)
    ]
    # It looks for orphans as soon as it can, and is not asked to.
    rig = ServicesRig(tmp_path, [c.url for c in controllers], nats_server, check_orphan_interval=600.0)
    try:
        # Before any controller is there: both wait and go on asking.
        rig.node.start()
        rig.gateway.start()
        for controller in controllers:
            until(controller.ready, "controller is ready", 60)
        until(rig.node.ready, "the node is ready")
        until(rig.gateway.ready, "the gateway is registered")
        yield Platform(controllers, peers, rig)
    finally:
        rig.close()
        for controller in controllers:
            controller.process.terminate()
        for controller in controllers:
            controller.stop()
        peers.close()


def deploy(user: Client, name: str, *services: str) -> None:
    assert user.create(name).status_code == 302
    assert user.upload(name, {"app.py": "application = 1"}).status_code == 200
    bound = user.put(name, services=list(services))
    assert bound.status_code == 200, bound.text


def test_bound_applications_are_let_in_and_unbound_ones_are_not(platform: Platform) -> None:
    user = platform.user()
    assert user.call("POST", "/services", {**WISH, "name": "r1"}).status_code == 200
    deploy(user, "one", "r1")
    deploy(user, "two", "r1")
    one, two = platform.started(user, "one"), platform.started(user, "two")
    assert one["password"] != two["password"]
    first = client(one)
    assert first.incr("visits") == 1
    assert client(two, named=True).incr("visits") == 2

    # With one controller away, the other does it.
    platform.controllers[1].stop()
    assert user.put("one", services=[]).status_code == 200
    assert cut(first)
    assert not opens(one)
    assert not opens(one, named=True)
    assert client(two).get("visits") == "2"

    removed = user.call("DELETE", "/services/r1")
    assert removed.status_code == 200, removed.text
    until(lambda: platform.services.records() == {}, "the server is gone")
    assert user.call("GET", "/services").json() == []


def test_a_node_that_is_away_is_a_clear_error_and_leaves_nothing_half_made(platform: Platform) -> None:
    user = platform.user()
    assert user.call("POST", "/services", {**WISH, "name": "r1"}).status_code == 200
    deploy(user, "one", "r1")
    credentials = platform.started(user, "one")
    platform.services.node.end()

    refused = user.call("POST", "/services", {**WISH, "name": "r2"})
    assert refused.status_code == 502
    assert "no node of RaaS is there" in refused.json()["description"]
    assert [s["name"] for s in user.call("GET", "/services").json()] == ["r1"]
    assert user.create("two").status_code == 302
    refused = user.put("two", services=["r1"])
    assert refused.status_code == 502
    assert "redis_node_1 is away" in refused.json()["description"]
    assert user.app("two")["services"] == []

    # Unbound while the node is away: as soon as it is back, the credentials open nothing.
    assert user.put("one", services=[]).status_code == 200
    assert opens(credentials)
    platform.services.node.start()
    until(lambda: not opens(credentials), "the old credentials open nothing")
    until(lambda: platform.services.node.varz()["bindings"] == 0, "no binding is left")


def test_what_was_unbound_while_the_gateway_was_away_is_found(platform: Platform) -> None:
    user = platform.user()
    assert user.call("POST", "/services", {**WISH, "name": "r1"}).status_code == 200
    deploy(user, "one", "r1")
    credentials = platform.started(user, "one")
    platform.services.gateway.end()
    assert user.put("one", services=[]).status_code == 200
    platform.services.gateway.start()
    until(platform.services.gateway.ready, "the gateway is back")
    until(lambda: not opens(credentials), "the old credentials open nothing")
    assert platform.services.gateway.varz()["orphan_instances"] == {}
