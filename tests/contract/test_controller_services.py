"""Services on the wire, as `vmc`, gateways and later clients send and get them (protocol 1.5, 1.13, 1.14, 6.2)."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from sqlalchemy import select, update

from components.controller.composition import Controller
from components.controller.db.models import BindingToken, Service
from tests.contract.gateway_stub import GatewayStub
from tests.contract.services_world import (
    as_gateway,
    controller,
    create,
    gateway,
    handles,
    other,
    push,
    put,
    register,
    user,
    vmc,
)
from tests.contract.vmc_client import ADMIN, Vmc

__all__ = ["controller", "gateway", "other", "user", "vmc"]


def test_an_offering_is_registered_by_its_gateway_alone(vmc: Vmc, user: Vmc) -> None:
    offering = GatewayStub.offering
    stub = GatewayStub()
    stub.close()
    assert vmc.call("POST", "/services/v1/offerings", offering(stub)).code == (403, 200)
    assert as_gateway(vmc, "POST", "", offering(stub), token="wrong").code == (403, 200)
    assert as_gateway(vmc, "POST", "", offering(stub, label="mongodb-1.8")).code == (403, 200)
    assert as_gateway(vmc, "GET", "/redis-7.0").code == (404, 500)
    wrongs: list[dict[str, Any]] = [
        {"label": "redis"},
        {"url": "ftp://x"},
        {"timeout": "5"},
        {"plans": "free"},
        {"acls": []},
    ]
    for wrong in wrongs:
        answer = as_gateway(vmc, "POST", "", {**offering(stub), **wrong})
        assert (answer.status, list(answer.json())) == (400, ["errors"]), wrong
    assert as_gateway(vmc, "POST", "", {"label": "redis-7.0"}).status == 400
    assert user.call("GET", "/info/services").json() == {}
    assert register(vmc, stub, acls={"users": [ADMIN]}).json() == {}
    shown = as_gateway(vmc, "GET", "/redis-7.0").json()
    assert shown.items() >= stub.offering().items()
    assert shown["acls"] == {"users": [ADMIN], "wildcards": []}
    # A heartbeat that leaves them out ends `acls` and `timeout`, and nothing else.
    assert as_gateway(vmc, "POST", "", {"label": "redis-7.0", "url": stub.url}).json() == {}
    after = as_gateway(vmc, "GET", "/redis-7.0").json()
    assert (after["acls"], after["timeout"], after["plans"]) == (None, None, ["free"])
    assert as_gateway(vmc, "GET", "/redis-7.0", token="mysql token").code == (403, 200)


def test_every_call_of_v1_says_that_it_is_json(user: Vmc) -> None:
    for method, path in (
        ("GET", "/offerings/redis-7.0/handles"),
        ("DELETE", "/bindings/x"),
        ("GET", "/binding_tokens/x"),
        ("POST", "/configurations"),
    ):
        for kind in ("application/json; charset=utf-8", "text/plain"):
            answer = user.raw(method, f"/services/v1{path}", None, {"Content-Type": kind})
            assert answer.code == (400, 100)
        assert user.raw(method, f"/services/v1{path}").code == (400, 100)


def test_what_is_offered_and_to_whom(vmc: Vmc, user: Vmc, gateway: GatewayStub) -> None:
    register(vmc, gateway, plans=["large", "free"], plan_options={"large": ["a", "b"]})
    found = user.call("GET", "/info/services").json()
    service = found["key-value"]["redis"]["7.0"]
    assert isinstance(service.pop("id"), int)
    assert service == {
        "vendor": "redis",
        "version": "7.0",
        "type": "key-value",
        "description": "Redis",
        "tiers": {
            "free": {"options": {}, "order": 1},
            "large": {
                "options": {
                    "plan_option": {
                        "type": "value",
                        "description": "Which plan would you like to use",
                        "values": ["a", "b"],
                    }
                },
                "order": 2,
            },
        },
    }
    register(vmc, gateway, acls={"users": [], "wildcards": ["*@d.com"]})
    assert user.call("GET", "/info/services").json() == {}
    assert create(user).code == (404, 500)
    register(vmc, gateway)
    assert user.call("GET", "/info/services").json()
    as_gateway(vmc, "POST", "", {"label": "redis-7.0", "url": gateway.url, "active": False})
    assert user.call("GET", "/info/services").json() == {}
    assert create(user).code == (404, 500)


def test_a_gateway_that_fell_silent_offers_nothing(
    vmc: Vmc, user: Vmc, gateway: GatewayStub, controller: Controller
) -> None:
    with controller.db.session() as session:
        now = controller.db.now(session)
        session.execute(update(Service).values(last_seen=now - 181))
    assert user.call("GET", "/info/services").json() == {}
    assert create(user).code == (404, 500)
    register(vmc, gateway)
    assert create(user).status == 200


def test_the_calls_of_vmc(vmc: Vmc, user: Vmc, gateway: GatewayStub) -> None:
    """`create-service`, `bind-service`, `services`, `unbind-service`, `delete-service`, in their order (1.16)."""
    assert user.call("GET", "/info/services").status == 200
    assert create(user).json() == {}
    method, path, body = gateway.calls[-1]
    assert (method, path) == ("POST", "/gateway/v1/configurations")
    assert body == {"label": "redis-7.0", "name": "r1", "plan": "free", "email": "a@b.com"}
    name = next(iter(gateway.instances))

    push(user)
    app = user.call("GET", "/apps/env").json()
    bound = user.call("PUT", "/apps/env", {**app, "services": ["r1"]})
    assert (bound.status, bound.body) == (200, b" ")
    method, path, body = gateway.calls[-1]
    assert (method, path) == ("POST", f"/gateway/v1/configurations/{name}/handles")
    assert body == {"service_id": name, "label": "redis-7.0", "email": "a@b.com", "binding_options": {}}
    assert user.call("GET", "/apps/env").json()["services"] == ["r1"]
    assert user.call("GET", "/apps").json()[0]["services"] == ["r1"]

    listed = user.call("GET", "/services").json()
    meta = listed[0].pop("meta")
    assert listed == [
        {
            "name": "r1",
            "type": "key-value",
            "vendor": "redis",
            "version": "7.0",
            "tier": "free",
            "properties": {},
        }
    ]
    assert (meta["tags"][0], meta["version"]) == ("redis", 1)
    assert isinstance(meta["created"], int)
    assert isinstance(meta["updated"], int)
    assert user.call("GET", "/services/r1").json()["name"] == "r1"
    assert user.call("GET", "/info").json()["usage"]["services"] == 1
    assert len(handles(vmc)) == 2

    handle = next(iter(gateway.handles))
    assert put(user, "env", services=[]).status == 200
    assert gateway.calls[-1] == (
        "DELETE",
        f"/gateway/v1/configurations/{name}/handles/{handle}",
        {"service_id": name, "handle_id": handle, "binding_options": {}},
    )
    assert user.call("GET", "/apps/env").json()["services"] == []
    assert (gateway.handles, len(handles(vmc))) == ({}, 1)

    assert user.raw("DELETE", "/services/r1").json() == {}
    assert gateway.calls[-1] == ("DELETE", f"/gateway/v1/configurations/{name}", {})
    assert gateway.instances == {}
    assert user.call("GET", "/services/r1").code == (404, 500)
    assert user.call("DELETE", "/services/r1").code == (404, 500)


def test_a_services_refusals(user: Vmc, other: Vmc, gateway: GatewayStub) -> None:
    for wrong in ({"tier": None}, {"name": 7}, {"name": "a/b"}, {"name": ""}, {"tier": "gold"}):
        answer = create(user, **wrong)
        assert (answer.status, list(answer.json())) == (400, ["description"]), wrong
    assert create(user, vendor="mysql").code == (404, 500)
    assert user.raw("POST", "/services", b"{", {"Content-Type": "application/json"}).code == (400, 100)
    assert gateway.calls == [], "nobody was asked in vain"
    # An old label is what the vendor has now.
    assert create(user, version="2.2").status == 200
    assert gateway.calls[-1][2]["label"] == "redis-7.0"
    again = create(user)
    assert (again.status, list(again.json())) == (400, ["description"])
    assert create(other).status == 200, "a name is one's own"
    assert [s["name"] for s in other.call("GET", "/services").json()] == ["r1"]
    assert create(user, "r2").status == create(user, "r3").status == 200
    full = create(user, "r4", tier=None)
    assert full.code == (403, 504), "the limit comes before all else"
    assert "3" in full.json()["description"]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ((500, {"code": 30500, "description": "no node with that plan"}), "no node with that plan (30500)"),
        ((503, b"<html>"), "status 503"),
        ((200, b"<html>"), "JSON"),
        ((200, {"service_id": "x"}), "cannot be used"),
        ((200, []), "cannot be used"),
    ],
)
def test_a_gateway_that_fails_leaves_nothing(
    user: Vmc, gateway: GatewayStub, controller: Controller, fault: Any, words: str
) -> None:
    gateway.fail["provision"] = fault
    answer = create(user)
    assert answer.code == (502, 503)
    assert words in answer.json()["description"]
    assert user.call("GET", "/services").json() == []
    gateway.fail = {"bind": fault}
    create(user)
    push(user)
    before = user.call("GET", "/apps/env").json()
    answer = put(user, "env", services=["r1"], instances=2)
    assert answer.code == (502, 503)
    assert words in answer.json()["description"]
    assert user.call("GET", "/apps/env").json() == before, "nothing of the request was done"
    assert len(handles(Vmc(user.port))) == 1
    with controller.db.session() as session:
        assert session.scalars(select(BindingToken)).all() == []


def test_a_gateway_that_is_gone_or_too_late(vmc: Vmc, user: Vmc, gateway: GatewayStub) -> None:
    create(user)
    push(user)
    register(vmc, gateway, timeout=1)
    gateway.late = {"provision": 1.6, "bind": 1.6}
    for answer in (create(user, "r2"), put(user, "env", services=["r1"])):
        assert answer.code == (502, 503)
        assert "within 1 s" in answer.json()["description"]
    assert [s["name"] for s in user.call("GET", "/services").json()] == ["r1"]
    # What it made all the same, its orphan check finds: the handles do not list it.
    assert len(gateway.instances) == 2
    assert [h["service_id"] for h in handles(vmc)] == list(gateway.instances)[:1]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        gone = f"http://127.0.0.1:{taken.getsockname()[1]}"
        register(vmc, gateway, url=gone)
        answer = create(user, "r3")
        assert answer.code == (502, 503)
        assert "cannot be reached" in answer.json()["description"]
        # What is to go goes, whether the gateway hears of it or not.
        assert user.call("DELETE", "/services/r1").status == 200
    assert user.call("GET", "/services").json() == []


def test_an_instance_given_out_twice_stays_with_its_first_owner(
    user: Vmc, other: Vmc, gateway: GatewayStub
) -> None:
    create(user)
    name = next(iter(gateway.instances))
    gateway.fail["provision"] = (200, {"service_id": name, "data": {}, "credentials": {}})
    assert create(other).code == (502, 503)
    assert list(gateway.instances) == [name]
    assert user.call("GET", "/services/r1").status == 200
    assert other.call("GET", "/services").json() == []


def test_the_stub_of_2011_answers(vmc: Vmc) -> None:
    for method in ("POST", "DELETE"):
        assert "error" in vmc.call(method, "/services/redis-7.0/tokens").json()
