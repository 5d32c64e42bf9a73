"""`meta.health`: what is taken, what is refused, and how it reaches a DEA."""

from __future__ import annotations

from typing import Any

import pytest

from components.common.bus.messages import DeaStart, HealthCheck
from components.controller.apps.change_plan import AppSpec, ChangeRules, plan
from components.controller.config import Capacity
from components.controller.errors import ApiError
from components.controller.instances.dispatcher import wire

RULES = ChangeRules(Capacity())
APP = AppSpec(name="a", framework="wsgi", details={"health": {"path": "/old", "timeout": 5}})


def planned(health: object) -> Any:
    return dict(plan(APP, {"meta": {"health": health}}, RULES).details).get("health")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"path": "/up"}, {"path": "/up", "timeout": 60}),
        ({"path": "/up?deep=1", "timeout": 1}, {"path": "/up?deep=1", "timeout": 1}),
        ({"path": None, "timeout": 600}, {"path": None, "timeout": 600}),
        ({"timeout": 2.5, "unknown": 1}, {"path": None, "timeout": 2.5}),
        (None, None),
    ],
)
def test_taken(given: object, kept: object) -> None:
    assert planned(given) == kept


@pytest.mark.parametrize(
    "given",
    [
        "/up",
        [],
        {"path": "up"},
        {"path": ""},
        {"path": 7},
        {"path": "/a b"},
        {"path": "/a\r\nHost: b"},
        {"path": "/\u00e4"},
        {"path": "/" + "a" * 2000},
        {"timeout": 0},
        {"timeout": 601},
        {"timeout": "5"},
        {"timeout": True},
        {"timeout": float("nan")},
    ],
)
def test_refused(given: object) -> None:
    with pytest.raises(ApiError) as refused:
        planned(given)
    assert refused.value.code == 300


def test_what_is_not_named_stays() -> None:
    assert plan(APP, {"meta": {}}, RULES).details["health"] == {"path": "/old", "timeout": 5}


def test_the_start_message_is_that_of_2011_where_nothing_was_set() -> None:
    message = DeaStart(droplet=1, name="a", version="v")
    assert "health" not in wire(message)
    with_check = DeaStart(droplet=1, name="a", version="v", health=HealthCheck(path="/up", timeout=5))
    assert wire(with_check)["health"] == {"path": "/up", "timeout": 5}
