"""What the tests of services share: a controller with a gateway, two users, and the calls they make most."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import select, update

from components.controller.composition import Controller
from components.controller.db.models import App
from tests.contract.gateway_stub import TOKEN, GatewayStub
from tests.contract.vmc_client import Answer, Vmc, body_of, controller_in, served

__all__ = [
    "WISH",
    "as_gateway",
    "controller",
    "create",
    "gateway",
    "handles",
    "other",
    "push",
    "put",
    "register",
    "row",
    "user",
    "vmc",
]

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
