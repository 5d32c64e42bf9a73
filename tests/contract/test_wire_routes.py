"""Every route of 2011 and every code of protocol 1.3, one by one, as the old client sends them: the table of `wire_rows`."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from components.controller.api.app import create_app
from components.controller.composition import Controller
from components.controller.errors import Code
from tests.contract import wire_rows, wire_rows_v1
from tests.contract.vmc_client import ADMIN, PASSWORD, Vmc, body_of, controller_in, served
from tests.contract.wire_world import LIMITS, Row, World, world_in

ROWS = [
    *wire_rows.INFO,
    *wire_rows.USERS,
    *wire_rows.TOKENS,
    *wire_rows.APPS,
    *wire_rows.BITS,
    *wire_rows.SERVICES,
    *wire_rows_v1.OFFERINGS,
    *wire_rows_v1.BINDINGS,
    *wire_rows_v1.BULK,
    *wire_rows_v1.UNKNOWN,
]
# Shown where their condition can be made: below, with a stager in tests/integration, and by a gateway that fails.
ELSEWHERE = {101, 202, 303, 310, 503}
# Ours, and the protocol's: declared, and nobody raises them.
NOT_OF_2011, NEVER_RAISED = {103, 104, 105, 106, 429, 603, 604, 605, 606, 607, 608}, {400, 800, 801}
STATUSES = {int(code): code.status for code in Code}
HELPERS = {
    "bad_request": 100,
    "denied": 200,
    "no_app": 301,
    "invalid_app": 300,
    "unexpected": 111,
    "refused": 402,
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world_in(tmp_path_factory.mktemp("wire")) as made:
        yield made


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_row(world: World, row: Row) -> None:
    answer = world.send(row)
    said = answer.body.decode("utf-8", "replace")[:300]
    assert answer.status == row.status, said
    if row.code is not None:
        value = answer.json()
        assert set(value) == {"code", "description"}
        assert value["code"] == row.code, said
        assert row.says.lower() in value["description"].lower()
        assert "Traceback" not in said
    elif row.status == 404:
        assert answer.body == b""
    elif row.status == 204:
        assert (answer.body, answer.headers["Content-Length"]) == (b"", None)
    elif row.status == 401:
        assert answer.headers["WWW-Authenticate"].startswith("Basic")
    if row.shape is not None:
        value = answer.json()
        assert value == row.shape if isinstance(row.shape, list) else set(value) == row.shape, said


def test_no_route_is_missing_and_none_is_made_up(world: World) -> None:
    app_rules = routes_of(world.controller)
    shown = {row.rule for row in ROWS if not row.rule.endswith(" unknown")}
    assert app_rules - shown == set(), "not in the table"
    assert shown - app_rules == set(), "not in the application"
    assert len({str(row) for row in ROWS}) == len(ROWS)


def test_no_code_that_can_be_raised_is_missing() -> None:
    shown = {row.code for row in ROWS if row.code is not None}
    raised = codes_in(Path("components/controller"))
    assert raised - NOT_OF_2011 - ELSEWHERE == shown
    assert set(Code) - NOT_OF_2011 - NEVER_RAISED == shown | ELSEWHERE
    assert not raised & NEVER_RAISED
    for row in ROWS:
        if row.code is not None:
            assert STATUSES[row.code] == row.status, row


def codes_in(folder: Path) -> set[int]:
    found = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            if node.func.id in HELPERS:
                found.add(HELPERS[node.func.id])
            first = node.args[0] if node.func.id == "ApiError" and node.args else None
            if isinstance(first, ast.Attribute):
                found.add(Code[first.attr])
            # The helpers of services take the code as an argument, `missing`.
            if isinstance(first, ast.Name):
                found |= {501, 502}
    return found


def routes_of(controller: Controller) -> set[str]:
    return {
        f"{method} {rule.rule}"
        for rule in create_app(controller).url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if not rule.rule.startswith("/v2/")
    }


def test_a_missing_log_has_a_code_and_the_old_path_has_none(world: World) -> None:
    user = world.clients["U"]
    assert user.call("GET", "/v2/apps/odd/staging_log").code == (404, 303)
    assert user.call("GET", "/apps/odd/instances/0/files/logs/staging.log").body == b""


def test_a_gateway_that_fails_is_503(world: World) -> None:
    world.gateway.fail["provision"] = (500, {"code": 30500, "description": "no room"})
    try:
        wish = {**wire_rows.WISH, "name": "r9"}
        answer = world.clients["O"].call("POST", "/services", wish)
    finally:
        world.gateway.fail.clear()
    assert answer.code == (502, 503)
    assert "no room" in answer.json()["description"]


def test_a_method_may_be_named_by_the_form_or_a_header(world: World) -> None:
    user, form = world.clients["U"], {"Content-Type": "application/x-www-form-urlencoded"}
    assert user.raw("POST", "/services/r4", b"_method=delete", form).json() == {}
    assert user.call("GET", "/services/r4").code == (404, 500)
    named = {"X-HTTP-Method-Override": "PUT", "Content-Type": "application/json"}
    app = user.call("GET", "/apps/odd").json()
    body = json.dumps({**app, "instances": "2"}).encode()
    assert user.raw("POST", "/apps/odd", body, named).status == 200
    assert user.call("GET", "/apps/odd").json()["instances"] == 2
    assert user.raw("POST", "/apps/odd", b"_method=fly", form).status == 404


def test_everything_is_https_where_it_is_demanded(tmp_path: Path) -> None:
    with controller_in(tmp_path, **LIMITS, https_required=True) as made, served(made) as vmc:
        for method, path in (("GET", "/info"), ("POST", "/users/a@b.com/tokens"), ("GET", "/apps")):
            assert vmc.call(method, path, None if method == "GET" else {}).code == (403, 202)
            assert vmc.call(method, path, X_Forwarded_Proto="http").code == (403, 202)
        assert vmc.call("GET", "/info", X_Forwarded_Proto="https").status == 200
        assert vmc.call("GET", "/info", X_Forwarded_Proto="HTTPS,http").status == 200
        assert vmc.raw("GET", "/healthz").status == 200


def test_administrators_alone_may_be_held_to_https(tmp_path: Path) -> None:
    with controller_in(tmp_path, **LIMITS, https_required_for_admins=True) as made, served(made) as vmc:
        admin = vmc.login(ADMIN, PASSWORD)
        assert admin.call("GET", "/info").code == (403, 202)
        assert admin.call("GET", "/info", X_Forwarded_Proto="https").json()["user"] == ADMIN
        assert vmc.call("POST", "/users", {"email": "a@b.com", "password": "pw"}).status == 204
        assert vmc.login("a@b.com", "pw").call("GET", "/info").json()["user"] == "a@b.com"


def test_registration_may_be_closed_and_the_root_may_lead_elsewhere(tmp_path: Path) -> None:
    more = {"allow_registration": False, "index_page": "http://www.example.com/", "allow_debug": True}
    with controller_in(tmp_path, **LIMITS, **more) as made, served(made) as vmc:
        assert vmc.call("POST", "/users", {"email": "a@b.com", "password": "pw"}).code == (403, 200)
        admin = vmc.login(ADMIN, PASSWORD)
        assert admin.call("POST", "/users", {"email": "a@b.com", "password": "pw"}).status == 204
        user = vmc.login("a@b.com", "pw")
        assert user.call("POST", "/users", {"email": "b@b.com", "password": "pw"}).code == (403, 200)
        answer = vmc.raw("GET", "/")
        assert (answer.status, answer.headers["Location"]) == (302, "http://www.example.com/")
        assert vmc.call("GET", "/info").json()["allow_debug"] is True
        # Administrators take what is reserved for them, and what is outside.
        taken = body_of("www", uris=["www.ingot.localhost", "www.example.com", "ab.ingot.localhost"])
        assert admin.call("POST", "/apps", taken).status == 302
        assert admin.call("POST", "/apps", body_of("api", uris=["api.ingot.localhost"])).code == (400, 701)


def test_a_database_in_trouble_is_said_so(tmp_path: Path) -> None:
    with controller_in(tmp_path) as made, served(made) as vmc:
        token = vmc.login(ADMIN, PASSWORD).token
        with made.db.session() as session:
            session.execute(text("ALTER TABLE users RENAME TO elsewhere"))
        answer = Vmc(vmc.port, token).call("GET", "/apps")
        assert answer.code == (500, 101)
        assert "elsewhere" not in answer.json()["description"]


def test_a_database_that_is_away_is_said_so_and_can_be_asked_later(tmp_path: Path) -> None:
    with controller_in(tmp_path) as made, served(made) as vmc:
        boss = vmc.login(ADMIN, PASSWORD)
        made.db.close()
        database, away = tmp_path / "ccdb", tmp_path / "away"
        database.rename(away)
        database.mkdir()
        for method, path in (("GET", "/apps"), ("POST", "/apps"), ("POST", "/users/a@b.com/tokens")):
            answer = boss.call(method, path, {} if method == "POST" else None)
            assert answer.code == (503, 103), path
            assert "repeat" in answer.json()["description"]
        database.rmdir()
        away.rename(database)
        assert boss.call("GET", "/apps").status == 200
