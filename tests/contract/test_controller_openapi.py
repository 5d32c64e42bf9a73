"""The description of the routes says what the application has: every route, method, parameter and kind of answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask

from components.controller.api.app import create_app
from components.controller.api.openapi import path_of
from components.controller.api.openapi_operations import ROWS
from components.controller.composition import Controller
from components.controller.errors import TABLE
from tests.contract.vmc_client import controller_in, served


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controller]:
    with controller_in(tmp_path_factory.mktemp("controller")) as made:
        yield made


@pytest.fixture(scope="module")
def app(controller: Controller) -> Flask:
    return create_app(controller)


@pytest.fixture(scope="module")
def described(controller: Controller) -> dict[str, Any]:
    with served(controller) as vmc:
        return dict(vmc.call("GET", "/v2/openapi.json").json())


def test_every_route_is_described_with_its_answers(app: Flask, described: dict[str, Any]) -> None:
    assert described["openapi"].startswith("3.1")
    found = 0
    for rule in app.url_map.iter_rules():
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            operation = described["paths"][path_of(rule)][method.lower()]
            found += 1
            assert operation["summary"], rule
            assert rule.endpoint in ROWS, f"{rule.endpoint} has no row in openapi_table"
            row = ROWS[rule.endpoint]
            statuses = {str(s) for s in row.gives} | {str(TABLE[code][0]) for code in row.errors}
            assert statuses <= operation["responses"].keys(), rule
            named = {p["name"] for p in operation["parameters"] if p["in"] == "path"}
            assert named == rule.arguments - set(rule.defaults or {}), rule
    assert found > 70
    assert ROWS.keys() == {rule.endpoint for rule in app.url_map.iter_rules()}, (
        "rows of views that are no more"
    )


def test_the_description_holds_together(described: dict[str, Any]) -> None:
    text = json.dumps(described)
    for name in {part.partition('"')[0] for part in text.split('"#/components/schemas/')[1:]}:
        assert name in described["components"]["schemas"], name
    ids = [op["operationId"] for path in described["paths"].values() for op in path.values()]
    assert len(ids) == len(set(ids))
    for path, operations in described["paths"].items():
        assert path.startswith("/")
        for operation in operations.values():
            assert operation["responses"], path
            for need in operation["security"]:
                assert need.keys() <= described["components"]["securitySchemes"].keys()
    run = described["paths"]["/v2/apps/{name}/tasks"]["post"]
    assert run["responses"].keys() == {"202", "400", "403", "404", "429", "500", "503"}
    assert run["requestBody"]["content"]["application/json"]["schema"]["properties"].keys() == {
        "command",
        "memory",
        "timeout",
    }
    assert (
        described["paths"]["/staged_droplets/{app_id}/{digest}"]["get"]["parameters"][0]["schema"]["type"]
        == "integer"
    )
