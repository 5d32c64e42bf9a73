"""Bindings on the wire: services of applications, tokens, and what gateways are told of them (protocol 1.8, 1.14, 2.4)."""

from __future__ import annotations

import pytest

from components.common.states import AppState, PackageState
from components.controller.apps import rows as app_rows
from components.controller.apps.messages import start_message
from components.controller.composition import Controller
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
    row,
    user,
    vmc,
)
from tests.contract.vmc_client import ADMIN, PASSWORD, Answer, Vmc, body_of

__all__ = ["controller", "gateway", "other", "user", "vmc"]


def test_binding_two_of_which_one_fails_binds_none(vmc: Vmc, user: Vmc, gateway: GatewayStub) -> None:
    create(user, "r1")
    create(user, "r2")
    push(user)
    gateway.binds_left = 1
    answer = put(user, "env", services=["r1", "r2"])
    assert answer.code == (502, 503)
    assert "did not answer" in answer.json()["description"]
    assert gateway.handles == {}, "the one that was made is taken back"
    assert user.call("GET", "/apps/env").json()["services"] == []
    assert len(handles(vmc)) == 2


def test_unknown_services_are_refused_before_anybody_is_asked(
    user: Vmc, other: Vmc, gateway: GatewayStub
) -> None:
    create(other, "theirs")
    create(user, "mine")
    push(user)
    asked = len(gateway.calls)
    for services in (["mine", "none"], ["theirs"]):
        assert put(user, "env", services=services).code == (404, 500)
    assert put(user, "env", services=["mine"], instances=-1).code == (400, 300)
    assert put(user, "env", services=["mine"], meta={"version": 77}).code == (400, 102)
    assert len(gateway.calls) == asked
    assert user.call("GET", "/apps/env").json()["services"] == []


def test_an_application_is_created_with_its_services_or_not_at_all(user: Vmc, gateway: GatewayStub) -> None:
    assert user.call("POST", "/apps", body_of("env", services=["none"])).code == (404, 500)
    create(user)
    gateway.fail["bind"] = (500, {})
    assert user.call("POST", "/apps", body_of("env", services=["r1"])).code == (502, 503)
    assert user.call("GET", "/apps/env").code == (404, 301)
    gateway.fail.clear()
    assert user.call("POST", "/apps", body_of("env", services=["r1"])).status == 302
    assert user.call("GET", "/apps/env").json()["services"] == ["r1"]
    taken = body_of("two", services=["r1"], uris=["env.ingot.localhost"])
    assert user.call("POST", "/apps", taken).code == (400, 701)
    assert len(gateway.handles) == 1, "the second one's binding was undone"


def test_deleting_unbinds(user: Vmc, vmc: Vmc, gateway: GatewayStub) -> None:
    create(user)
    create(user, "r2")
    push(user, "one")
    push(user, "two")
    put(user, "one", services=["r1", "r2"])
    put(user, "two", services=["r1"])
    version = user.call("GET", "/apps/two").json()["meta"]["version"]
    assert user.call("DELETE", "/apps/one").status == 200
    assert len(gateway.handles) == 1
    gateway.calls.clear()
    assert user.call("DELETE", "/services/r1").status == 200
    assert [line.split("/")[0] + str(line.count("/")) for line in gateway.lines()] == ["DELETE 6", "DELETE 4"]
    app = user.call("GET", "/apps/two").json()
    assert (app["services"], app["meta"]["version"]) == ([], version + 1)
    assert put(user, "two", services=["r1"]).code == (404, 500)
    put(user, "two", services=["r2"])
    admin = vmc.login(ADMIN, PASSWORD)
    assert admin.call("DELETE", "/users/a%40b.com").status == 204
    assert (gateway.handles, gateway.instances, handles(vmc)) == ({}, {}, [])


def test_what_deas_and_stagers_are_told(user: Vmc, gateway: GatewayStub, controller: Controller) -> None:
    create(user)
    push(user)
    put(user, "env", services=["r1"])
    app = row(controller)
    message = start_message(app, controller.config, controller.store)
    credentials = message.services[0].pop("credentials")
    assert message.services == [
        {
            "name": "r1",
            "type": "key-value",
            "label": "redis-7.0",
            "vendor": "redis",
            "version": "7.0",
            "tags": ["redis", "redis-7.0", "key-value", "nosql"],
            "plan": "free",
            "plan_option": None,
        }
    ]
    assert credentials["password"] == f"p{next(iter(gateway.handles))}", (
        "the binding's own, not the instance's"
    )
    told = controller.stagings._request(app, "u").properties["services"]
    assert told == [
        {
            "label": "redis-7.0",
            "tags": ["redis", "redis-7.0", "key-value", "nosql"],
            "name": "r1",
            "credentials": credentials,
            "options": {},
            "plan": "free",
            "plan_option": None,
        }
    ]


def test_other_services_mean_another_staging_once_it_stops(
    user: Vmc, gateway: GatewayStub, controller: Controller
) -> None:
    create(user)
    push(user)
    built = app_rows.built_from(row(controller))
    row(
        controller,
        package_state=PackageState.STAGED,
        staged_from=built,
        package_hash="a" * 40,
        state=AppState.STARTED,
    )
    row(controller, staged_from=app_rows.built_from(row(controller)))
    put(user, "env", services=["r1"])
    app = row(controller)
    assert (app.state, app.package_state) == (AppState.STARTED, PackageState.STAGED), (
        "what runs goes on, and is looked after"
    )
    put(user, "env", state="STOPPED")
    assert row(controller).package_state == PackageState.PENDING
    row(controller, package_state=PackageState.STAGED, staged_from=app_rows.built_from(row(controller)))
    put(user, "env", instances=2)
    assert row(controller).package_state == PackageState.STAGED
    put(user, "env", services=[])
    assert row(controller).package_state == PackageState.PENDING


def v1(who: Vmc, method: str, path: str, body: object = None) -> Answer:
    return who.call(method, f"/services/v1{path}", body)


def test_configurations_and_bindings(
    vmc: Vmc, user: Vmc, other: Vmc, gateway: GatewayStub, controller: Controller
) -> None:
    wish = {"label": "redis-7.0", "name": "r1", "plan": "free"}
    assert v1(vmc, "POST", "/configurations", wish).code == (403, 200)
    refused = v1(user, "POST", "/configurations", {"label": "redis-7.0"})
    assert (refused.status, list(refused.json())) == (400, ["errors"])
    made = v1(user, "POST", "/configurations", wish).json()
    assert set(made) == {"service_id", "data", "credentials"}
    name = made["service_id"]
    push(user)
    app_id = row(controller).id
    bind = {"service_id": name, "app_id": app_id, "binding_options": {"a": 1}}
    assert v1(other, "POST", "/bindings", bind).code == (404, 301)
    assert v1(user, "POST", "/bindings", {**bind, "service_id": "none"}).code == (404, 500)
    assert v1(user, "POST", "/bindings", {**bind, "app_id": "1"}).status == 400
    bound = v1(user, "POST", "/bindings", bind).json()
    assert bound["label"] == "redis-7.0"
    assert gateway.calls[-1][2]["binding_options"] == {"a": 1}
    assert v1(user, "POST", "/bindings", bind).json() == bound, "once is enough"
    assert len(gateway.handles) == 1
    assert user.call("GET", "/apps/env").json()["services"] == ["r1"]
    token = f"/bindings/{bound['binding_token']}"
    assert v1(other, "DELETE", token).code == (403, 200)
    assert v1(user, "DELETE", token).json() == {}
    assert v1(user, "DELETE", token).code == (404, 501)
    assert (gateway.handles, user.call("GET", "/apps/env").json()["services"]) == ({}, [])
    assert v1(other, "DELETE", f"/configurations/{name}").code == (403, 200)
    assert v1(user, "DELETE", f"/configurations/{name}").json() == {}
    assert v1(user, "DELETE", f"/configurations/{name}").code == (404, 500)
    for path in ("snapshots", "snapshots/1", "serialized/url", "serialized/url/snapshots/1", "jobs/1"):
        assert v1(user, "GET", f"/configurations/{name}/{path}").code == (501, 505)
    assert v1(user, "POST", f"/configurations/{name}/snapshots", {}).code == (501, 505)


def test_a_token_lets_others_bind(
    vmc: Vmc, user: Vmc, other: Vmc, gateway: GatewayStub, controller: Controller
) -> None:
    create(user)
    name = next(iter(gateway.instances))
    assert v1(other, "POST", "/binding_tokens", {"service_id": name}).code == (403, 200)
    given = v1(user, "POST", "/binding_tokens", {"service_id": name, "binding_options": {"b": 2}}).json()
    assert given["label"] == "redis-7.0"
    text = given["binding_token"]
    assert v1(vmc, "GET", f"/binding_tokens/{text}").json() == {
        "service_id": name,
        "binding_options": {"b": 2},
    }
    push(other)
    app_id = row(controller).id
    external = {"binding_token": text, "app_id": app_id}
    assert v1(other, "POST", "/bindings/external", {**external, "binding_token": "no"}).code == (404, 502)
    assert v1(user, "POST", "/bindings/external", external).code == (404, 301)
    assert v1(other, "POST", "/bindings/external", external).json() == {}
    assert gateway.calls[-1][2]["binding_options"] == {"b": 2}
    assert other.call("GET", "/apps/env").json()["services"] == ["r1"]
    assert put(other, "env", instances=2).status == 200, "what is bound by a token stays bound"
    assert len(gateway.handles) == 1
    assert v1(other, "DELETE", f"/binding_tokens/{text}").code == (403, 200)
    assert v1(user, "DELETE", f"/binding_tokens/{text}").json() == {}
    assert other.call("GET", "/apps/env").json()["services"] == []
    assert v1(user, "GET", f"/binding_tokens/{text}").code == (404, 502)
    assert v1(user, "DELETE", f"/binding_tokens/{text}").code == (404, 502)
    assert gateway.handles == {}


def test_a_gateway_reads_and_changes_its_handles(
    vmc: Vmc, user: Vmc, gateway: GatewayStub, controller: Controller
) -> None:
    create(user)
    push(user)
    put(user, "env", services=["r1"])
    assert as_gateway(vmc, "GET", "/redis-7.0/handles", token="wrong").code == (403, 200)
    found = handles(vmc)
    assert all(set(h) == {"service_id", "configuration", "credentials"} for h in found)
    assert {h["service_id"] for h in found} == {*gateway.instances, *gateway.handles}
    for service_id in (*gateway.instances, *gateway.handles):
        new = {"service_id": service_id, "configuration": {"c": 1}, "credentials": {"password": "new"}}
        assert as_gateway(vmc, "POST", f"/redis-7.0/handles/{service_id}", new).json() == {}
        assert new in handles(vmc)
    unknown = {"service_id": "x", "configuration": {}, "credentials": {}}
    assert as_gateway(vmc, "POST", "/redis-7.0/handles/x", unknown).code == (404, 501)
    assert as_gateway(vmc, "POST", "/redis-7.0/handles/x", {"service_id": "x"}).status == 400
    # Whoever has an instance keeps it; only nobody gets a new one.
    assert as_gateway(vmc, "DELETE", "/redis-7.0").json() == {}
    assert create(user, "r2").code == (404, 500)
    assert user.call("DELETE", "/services/r1").status == 200
    assert gateway.instances == {}
    assert as_gateway(vmc, "DELETE", "/redis-7.0").json() == {}
    assert as_gateway(vmc, "DELETE", "/redis-7.0").code == (404, 500)


def test_a_change_that_names_no_services_keeps_one_that_was_bound_meanwhile(
    user: Vmc, gateway: GatewayStub, controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(user, "r1")
    create(user, "r2")
    push(user)
    put(user, "env", services=["r1"])
    row(
        controller,
        state=AppState.STARTED,
        package_state=PackageState.STAGED,
        package_hash="1" * 40,
        staged_package_hash="2" * 40,
    )
    lifecycle = controller.lifecycle
    # Between the look at the application and its change another request binds; nothing is rolled, there is no DEA.
    monkeypatch.setattr(lifecycle, "_check_deas", lambda _: put(user, "env", services=["r1", "r2"]))
    monkeypatch.setattr(lifecycle, "_roll", lambda *_: None)
    assert user.call("PUT", "/v2/apps/env/update", {"env": ["A=1"]}).status == 202
    app = user.call("GET", "/apps/env").json()
    assert (app["services"], app["env"]) == (["r1", "r2"], ["A=1"])
    assert len(gateway.handles) == 2
    monkeypatch.setattr(lifecycle, "_check_deas", lambda _: None)
    assert user.call("PUT", "/v2/apps/env/update", {"services": []}).status == 202
    assert (user.call("GET", "/apps/env").json()["services"], gateway.handles) == ([], {})
