"""The description of the routes says what the application has: every route, method, parameter and kind of answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask, Response, jsonify

from components.controller.api.app import create_app
from components.controller.api.openapi import describe, path_of
from components.controller.api.openapi_operations import ROWS
from components.controller.composition import Controller
from tests.contract import vmc_client
from tests.contract.described import problems
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
            assert rule.endpoint in ROWS, f"{rule.endpoint} has no row in openapi_operations"
            row = ROWS[rule.endpoint]
            statuses = {str(s) for s in row.gives} | {str(code.status) for code in row.errors}
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
    assert run["responses"].keys() == {"202", "400", "403", "404", "408", "429", "500", "503"}
    assert run["requestBody"]["content"]["application/json"]["schema"]["properties"].keys() == {
        "command",
        "memory",
        "timeout",
    }
    assert (
        described["paths"]["/staged_droplets/{app_id}/{digest}"]["get"]["parameters"][0]["schema"]["type"]
        == "integer"
    )


def test_no_code_is_named_that_nothing_raises() -> None:
    assert not {code for row in ROWS.values() for code in row.errors} & {400, 800, 801}


@pytest.mark.parametrize(
    ("operation", "status", "body", "word"),
    [
        (("/v2/me", "get"), 200, {"email": "a@b.com", "admin": False}, ""),
        (("/v2/me", "get"), 200, {"email": "a@b.com"}, "admin is missing"),
        (("/v2/me", "get"), 200, {"email": "a@b.com", "admin": False, "age": 7}, "age is not listed"),
        (("/v2/me", "get"), 200, {"email": "a@b.com", "admin": 1}, "admin: 1 is not of"),
        (("/v2/me", "get"), 200, [], "is not of"),
        (("/v2/me", "get"), 202, {}, "status is not listed"),
        (("/v2/me", "get"), 403, {"code": 200, "description": "no"}, ""),
        (("/v2/me", "get"), 403, {"code": 600, "description": "no"}, "code 600 is not listed"),
        (("/v2/me", "get"), 403, {"reason": "no"}, "code is missing"),
        (("/v2/me", "get"), 200, "me", "text/html is not listed"),
        (("/apps", "get"), 200, [{"name": "x"}], "the body[]: state is missing"),
        (("/services", "post"), 200, {}, ""),
        (("/services", "post"), 200, {"name": "x"}, "name is not listed"),
        (("/services", "post"), 400, {"description": "no"}, ""),
        (("/services", "post"), 400, {"errors": "no"}, "is missing"),
        (("/users", "post"), 204, "x", "a body, and none is listed"),
        (("/users", "post"), 204, "", ""),
    ],
)
def test_an_answer_that_is_not_described_is_seen(
    app: Flask, operation: tuple[str, str], status: int, body: Any, word: str
) -> None:
    document, (path, method) = describe(app, "api.ingot.localhost"), operation
    with app.app_context():
        answer = Response(body) if isinstance(body, str) else jsonify(body)
    answer.status_code = status
    found = problems(document, document["paths"][path][method], answer, answer.get_data())
    assert bool(found) is bool(word), found
    assert word in "".join(found)


def lying(controller: Controller) -> Flask:
    """Return an application that leaves a member out."""
    app = create_app(controller)
    app.view_functions["v2.me"] = lambda: jsonify({"email": "a@b.com"})
    return app


def test_a_test_fails_that_got_such_an_answer(
    controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vmc_client, "create_app", lying)
    said = "GET /v2/me: 200: the body: admin is missing"
    with pytest.raises(AssertionError, match=said), served(controller) as vmc:
        assert vmc.call("GET", "/v2/me").status == 200
