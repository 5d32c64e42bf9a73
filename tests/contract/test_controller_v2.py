"""What `/v2` does not know it refuses by name; old routes pass it over (docs/api.md)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from werkzeug.routing import Rule

from components.controller.api.app import create_app
from tests.contract.vmc_client import Answer
from tests.contract.wire_world import World, basic, world_in

BULK = basic("bulk_api", "bulk")
FILLED = {"<name>": "run", "<email>": "a%40b.com", "<id_>": "x"}
UPDATE = "/v2/apps/run/update"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world_in(tmp_path_factory.mktemp("wire")) as made:
        yield made


def routes(app: Flask) -> list[tuple[str, Rule]]:
    rules = [rule for rule in app.url_map.iter_rules() if rule.rule.startswith("/v2/")]
    return [(method, rule) for rule in rules for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}]


def ask(world: World, who: str, method: str, rule: Rule, body: Any = None) -> Answer:
    """Send a call with a parameter that no route has; `who` is as in `Row`, and whom a lease is for where it is one."""
    path = rule.rule
    for part, value in FILLED.items():
        path = path.replace(part, value)
    if who == "A" and path.startswith("/v2/leases"):
        return world.clients["B"].call(method, path + ("" if body else "?no_such=1"), body, **BULK)
    return world.clients[who].call(method, path + ("" if body else "?no_such=1"), body)


def test_every_route_refuses_parameters_and_members_it_does_not_know(world: World) -> None:
    found = routes(create_app(world.controller))
    assert len(found) > 20
    for method, rule in found:
        wrong = [ask(world, "A", method, rule)]
        if method != "GET":
            wrong.append(ask(world, "A", method, rule, {"no_such": 1}))
        for answer in wrong:
            assert answer.code == (400, 100), (method, rule.rule)
            assert "no_such: there is no such" in answer.json()["description"], (method, rule.rule)


def test_who_may_not_ask_hears_that_first(world: World) -> None:
    for method, rule in routes(create_app(world.controller)):
        if rule.endpoint == "v2_records.described":
            continue
        answer = ask(world, "-", method, rule)
        if rule.rule.startswith("/v2/leases"):
            assert answer.status == 401
        else:
            assert answer.code == (403, 200), (method, rule.rule)
    assert world.clients["U"].call("GET", "/v2/users?no_such=1").code == (403, 200)


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"state": "STOPPED"}, "state"),
        ({"name": "other"}, "name"),
        ({"instnaces": 2}, "instnaces"),
        ({"resources": {"memory": 64, "cpu": 2}}, "cpu"),
        ({"staging": {"framwork": "wsgi"}}, "framwork"),
    ],
)
def test_a_change_names_what_it_does_not_know(world: World, body: dict[str, Any], word: str) -> None:
    answer = world.clients["U"].call("PUT", UPDATE, body)
    assert answer.code == (400, 100)
    assert answer.json()["description"].startswith(f"Bad request: {word}: there is no such member")
    # No DEA is there: all else about it is right.
    whole = {"resources": {"memory": 64, "disk": 2048, "fds": 256}, "meta": {"note": 1}, "env": ["A=1"]}
    assert world.clients["U"].call("PUT", UPDATE, whole).code == (404, 302)


@pytest.mark.parametrize("name", ["a.b", "", "1X", " A", "VCAP_X", "vmc_x", "INGOT_X", "PORT"])
def test_a_variable_that_no_instance_can_be_given_is_refused(world: World, name: str) -> None:
    answer = world.clients["U"].call("PUT", UPDATE, {"env": ["A=1", f"{name}=2"]})
    assert answer.code == (400, 300)
    assert repr(name) in answer.json()["description"]


def test_an_application_without_urls_may_choose_its_port(world: World) -> None:
    assert world.clients["U"].call("PUT", UPDATE, {"env": ["PORT=5000"], "uris": []}).code == (404, 302)


@pytest.mark.parametrize("revision", [0, -1, 1 << 31, 1 << 70, "1", 1.5, True])
def test_a_revision_that_is_no_number_of_one(world: World, revision: Any) -> None:
    answer = world.clients["U"].call("POST", "/v2/apps/run/rollback", {"revision": revision})
    assert answer.code == (400, 100)
    assert "revision: want a whole number" in answer.json()["description"]


def test_old_routes_pass_over_what_they_do_not_know(world: World) -> None:
    user = world.clients["U"]
    app = user.call("GET", "/apps/env?no_such=1").json()
    assert (
        user.call("PUT", "/apps/env?no_such=1", {**app, "no_such": 1, "resources": {"cpu": 1}}).status == 200
    )
