"""What the platform's machines ask of a controller, nobody else is answered: by the address, and not through a router."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from components.common.bus.messages import Capacity, DeaBeat
from components.controller.api.app import create_app
from components.controller.composition import Controller
from tests.contract.described import watch
from tests.contract.vmc_client import controller_in

BULK, STAGING = ("bulk_api", "bulk"), ("staging", "stage")
Own = tuple[str, str, tuple[str, str] | None, int]
OWN: list[Own] = [
    ("GET", "/staged_droplets/1/" + "a" * 40, None, 404),
    ("GET", "/staging/app/1", STAGING, 404),
    ("POST", "/staging/droplet/1/x", STAGING, 400),
    ("GET", "/bulk/apps", BULK, 200),
    ("GET", "/bulk/users", BULK, 200),
    ("GET", "/bulk/counts", BULK, 200),
    ("PUT", "/v2/leases/hm", BULK, 200),
    ("DELETE", "/v2/leases/hm", BULK, 200),
]


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controller]:
    with controller_in(
        tmp_path_factory.mktemp("controller"), platform_networks=["10.1.0.0/16", "127.0.0.1"]
    ) as made:
        yield made


@pytest.fixture(scope="module")
def client(controller: Controller) -> Iterator[FlaskClient]:
    app = create_app(controller)
    wrong = watch(app)
    yield app.test_client()
    assert wrong == []


@pytest.mark.parametrize("own", OWN, ids=lambda own: f"{own[0]} {own[1]:.20}")
def test_the_platforms_machines_alone_are_answered(
    client: FlaskClient, controller: Controller, own: Own
) -> None:
    method, path, auth, status = own

    def asked(peer: str, **headers: str) -> TestResponse:
        return client.open(
            path,
            method=method,
            json={"PUT": {"holder": "hm", "ttl": 5}, "DELETE": {"holder": "hm"}}.get(method),
            headers={k.replace("_", "-"): v for k, v in headers.items()},
            environ_base={"REMOTE_ADDR": peer},
            auth=auth,
        )

    assert asked("10.1.2.3").status_code == status
    for answer in (
        asked("10.2.0.1"),
        asked("192.0.2.7", X_Forwarded_For="10.1.2.3"),
        asked("10.1.2.3", X_Forwarded_For="192.0.2.7"),
        asked("127.0.0.1", X_Forwarded_For="127.0.0.1"),
    ):
        assert (answer.status_code, answer.get_json()["code"]) == (403, 200)
    # A DEA that joined without a word to the controllers.
    controller.pool.observe(
        DeaBeat(id="0-a", address="10.3.0.9", capacity=Capacity(memory=64), interval=5.0), 1.0, 1.0
    )
    assert asked("10.3.0.9").status_code == status


def test_everybody_is_told_the_rest(client: FlaskClient) -> None:
    for path in ("/info", "/healthz"):
        answer = client.get(
            path, environ_base={"REMOTE_ADDR": "192.0.2.7"}, headers={"X-Forwarded-For": "192.0.2.8"}
        )
        assert answer.status_code == 200
