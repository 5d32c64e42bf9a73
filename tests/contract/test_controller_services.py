"""Services on the wire, as `vmc`, gateways and later clients send and get them (sections 1.5, 1.8, 1.13, 1.14, 6.2)."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import select, update

from components.controller import apps
from components.controller.context import Controller
from components.controller.models import PENDING, STAGED, STARTED, App, BindingToken, Service
from tests.contract.gateway_stub import TOKEN, GatewayStub
from tests.contract.vmc_client import ADMIN, PASSWORD, Answer, Vmc, body_of, controller_in, served

WISH = {"type": "key-value", "vendor": "redis", "version": "7.0", "tier": "free"}


@pytest.fixture
def controller(tmp_path: Any) -> Iterator[Controller]:
    more = {
        "service_tokens": {"redis": TOKEN, "mysql": "mysql token"},
        "user_capacity": {"services": 3},
    }
    with controller_in(tmp_path, **more) as made:
        yield made


@pytest.fixture
def vmc(controller: Controller) -> Iterator[Vmc]:
    with served(controller) as anonymous:
        yield anonymous


@pytest.fixture
def user(vmc: Vmc) -> Vmc:
    assert vmc.call("POST", "/users", {"email": "a@b.com", "password": "pw"}).status == 204
    return vmc.login("a%40b.com", "pw")


@pytest.fixture
def other(vmc: Vmc) -> Vmc:
    assert vmc.call("POST", "/users", {"email": "c@d.com", "password": "pw"}).status == 204
    return vmc.login("c%40d.com", "pw")


@pytest.fixture
def gateway(vmc: Vmc) -> Iterator[GatewayStub]:
    stub = GatewayStub()
    assert register(vmc, stub).json() == {}
    yield stub
    stub.close()


def as_gateway(vmc: Vmc, method: str, path: str, body: object = None, token: str = TOKEN) -> Answer:
    return vmc.call(method, f"/services/v1/offerings{path}", body, X_VCAP_Service_Token=token)


def register(vmc: Vmc, stub: GatewayStub, **more: Any) -> Answer:
    return as_gateway(vmc, "POST", "", stub.offering(**more))


def handles(vmc: Vmc) -> list[Any]:
    return list(as_gateway(vmc, "GET", "/redis-7.0/handles").json()["handles"])


def create(user: Vmc, name: str = "r1", **more: Any) -> Answer:
    return user.call("POST", "/services", {**WISH, "name": name, **more})


def push(user: Vmc, name: str = "env") -> None:
    assert user.call("POST", "/apps", body_of(name)).status == 302


def put(user: Vmc, name: str, **changes: Any) -> Answer:
    """As `vmc` does: the whole object back, with one key changed."""
    return user.call("PUT", f"/apps/{name}", {**user.call("GET", f"/apps/{name}").json(), **changes})


def row(controller: Controller, **values: Any) -> App:
    """An application's row; with values it is made what a stager and a DEA would have made it."""
    with controller.db.session() as session:
        if values:
            session.execute(update(App).values(**values))
        app = session.scalars(select(App)).one()
        _ = app.routes, app.bindings, app.owner
        return app


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
        ((200, {"service_id": "x"}), "makes no sense"),
        ((200, []), "makes no sense"),
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
    message = apps.start_message(app, controller.config, controller.store)
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
    built = apps.built_from(row(controller))
    row(controller, package_state=STAGED, staged_from=built, package_hash="a" * 40, state=STARTED)
    row(controller, staged_from=apps.built_from(row(controller)))
    put(user, "env", services=["r1"])
    app = row(controller)
    assert (app.state, app.package_state) == (STARTED, STAGED), "what runs goes on, and is looked after"
    put(user, "env", state="STOPPED")
    assert row(controller).package_state == PENDING
    row(controller, package_state=STAGED, staged_from=apps.built_from(row(controller)))
    put(user, "env", instances=2)
    assert row(controller).package_state == STAGED
    put(user, "env", services=[])
    assert row(controller).package_state == PENDING


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


def test_the_stub_of_2011_answers(vmc: Vmc) -> None:
    for method in ("POST", "DELETE"):
        assert "error" in vmc.call(method, "/services/redis-7.0/tokens").json()
