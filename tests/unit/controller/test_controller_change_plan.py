"""What a PUT asks for, step by step, and what follows from it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.common.bus.platform_hosts import platform_hosts
from components.common.states import AppState, PackageState
from components.controller.apps.change_plan import (
    Actions,
    AppSpec,
    ChangeRules,
    check_names,
    decide,
    normalise_uri,
    plan,
)
from components.controller.config import Capacity
from components.controller.errors import ApiError

RULES = ChangeRules(
    Capacity(memory=2048, app_uris=4, services=16, apps=20),
    platform=platform_hosts("ingot.localhost", ["status.ingot.localhost", "desk.example.com"]),
    reserved=frozenset({"www.ingot.localhost"}),
)
STOPPED_APP = AppSpec(
    name="app",
    framework="wsgi",
    runtime="python3",
    has_package=True,
    package_state=PackageState.STAGED,
    instances=1,
    memory=64,
    uris=("app.ingot.localhost",),
    lock_version=3,
)
RUNNING_APP = replace(STOPPED_APP, state=AppState.STARTED)


def code(current: Any, body: Any, rules: Any = RULES, **more: Any) -> Any:
    with pytest.raises(ApiError) as caught:
        plan(current, body, rules, **more)
    return caught.value.code


def test_a_new_application() -> None:
    body = {
        "name": "env",
        "staging": {"framework": "node", "runtime": None},
        "uris": ["http://ENV.ingot.localhost:9022", "env.ingot.localhost "],
        "instances": "2",
        "resources": {"memory": 128, "disk": 1},
        "env": ["A=1", "A=1", "VCAP_X=1", "vmc_y=2", "B=x=y"],
    }
    made = plan(AppSpec(name="env"), body, RULES, create=True)
    assert (made.framework, made.runtime) == ("node", "node")
    assert made.uris == ("env.ingot.localhost",)
    assert (made.instances, made.memory, made.lock_version, made.state) == (2, 128, 1, AppState.STOPPED)
    assert made.env == ("A=1", "B=x=y")


def test_the_whole_object_with_one_change() -> None:
    body = {
        "name": "other",
        "staging": {"model": "wsgi", "stack": "python2"},
        "uris": ["app.ingot.localhost"],
        "instances": 1,
        "runningInstances": 1,
        "resources": {"memory": 64, "disk": 2048, "fds": 256},
        "state": "started",
        "services": [],
        "version": "x-1",
        "env": [],
        "meta": {"debug": None, "console": True, "version": 3, "created": 1},
        "debug": None,
        "console": True,
    }
    target = plan(STOPPED_APP, body, RULES)
    assert target == replace(STOPPED_APP, state=AppState.STARTED, lock_version=4, details={"console": True})
    assert decide(STOPPED_APP, target) == Actions(start=True)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"meta": {"version": 2}}, 102),
        ({"instances": "many"}, 100),
        ({"instances": -1}, 300),
        ({"resources": {"memory": 0}}, 300),
        ({"instances": 40, "state": "STARTED"}, 600),
        ({"uris": [f"u{n}.ingot.localhost" for n in range(5)]}, 602),
        ({"uris": ["bad host"]}, 700),
        ({"uris": [7]}, 700),
        ({"uris": ["a..ingot.localhost"]}, 700),
        ({"uris": ["*.ingot.localhost"]}, 700),
        ({"uris": ["API.ingot.localhost"]}, 701),
        ({"uris": ["www.ingot.localhost"]}, 701),
        ({"uris": ["example.com"]}, 702),
        ({"uris": ["xingot.localhost"]}, 702),
        ({"env": "A=1"}, 300),
        ({"env": ["A"]}, 300),
        ({"staging": {}}, 308),
        ({"staging": {"framework": "cobol"}}, 308),
        ({"staging": {"framework": "wsgi", "runtime": "node"}}, 307),
        ({"staging": "wsgi"}, 300),
        ({"debug": "run", "state": "STARTED"}, 309),
        ({"services": "mysql-1"}, 300),
        ({"services": [7]}, 300),
    ],
)
def test_each_step_has_its_error(body: Any, expected: Any) -> None:
    assert code(STOPPED_APP, body) == expected


def test_services_are_a_full_replacement() -> None:
    bound = replace(STOPPED_APP, services=("a", "b"))
    assert plan(bound, {"services": ["c", "b", "c"]}, RULES).services == ("b", "c")
    nothings: list[dict[str, Any]] = [{}, {"services": None}, {"services": []}]
    for nothing in nothings:
        assert plan(bound, nothing, RULES).services == (), "what old clients send whole is what there is"


def test_errors_of_creation() -> None:
    body = {"staging": {"framework": "wsgi"}}
    assert code(AppSpec(name="a b"), body, create=True) == 300
    assert code(AppSpec(name=""), body, create=True) == 300
    assert code(AppSpec(name="a"), {}, create=True) == 300
    assert code(AppSpec(name="a"), body, replace(RULES, apps=20), create=True) == 601
    assert code(AppSpec(name="a"), {**body, "state": "STARTED"}, create=True) == 300


def test_capacity_counts_what_others_use_and_not_itself_twice() -> None:
    assert code(STOPPED_APP, {"state": "STARTED"}, replace(RULES, used_memory=2000)) == 600
    plan(STOPPED_APP, {"state": "STARTED"}, replace(RULES, used_memory=1984))
    plan(RUNNING_APP, {"env": []}, replace(RULES, used_memory=9999))
    assert code(RUNNING_APP, {"instances": 2}, replace(RULES, used_memory=1984)) == 600


@pytest.mark.parametrize("admin", [False, True])
@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("api.ingot.localhost", 701),
        ("orchestrator.ingot.localhost", 701),
        ("ingot.localhost", 701),
        ("status.ingot.localhost", 701),
        ("desk.example.com", 701),
        ("Orchestrator.INGOT.localhost", 701),
        (" orchestrator.ingot.localhost\t", 701),
        ("orchestrator.ingot.localhost:80", 701),
        ("https://orchestrator.ingot.localhost/", 701),
        ("orcheshttp://trator.ingot.localhost", 701),
        ("orchestrator.ingot.localhost.", 700),
        ("orchestrator.ingot.localhost:80:80", 700),
        ("orchestrator.ingot.localhost/a", 700),
        ("u@orchestrator.ingot.localhost", 700),
        ("%6frchestrator.ingot.localhost", 700),
        ("orchestrator\u3002ingot.localhost", 700),
        ("\uff4frchestrator.ingot.localhost", 700),
        # Its lower case is an ordinary k.
        ("des\u212a.example.com", 700),
        ("orchestrator.ingot.localhost\0", 700),
    ],
)
def test_nobody_has_a_host_of_the_platform_however_it_is_written(
    uri: str, expected: int, *, known: bool, admin: bool
) -> None:
    rules = replace(RULES, admin=admin, allow_external=True)
    app = replace(STOPPED_APP, uris=(*STOPPED_APP.uris, *rules.platform)) if known else STOPPED_APP
    assert code(app, {"uris": ["app.ingot.localhost", uri]}, rules) == expected


def test_what_looks_like_a_host_of_the_platform_is_none() -> None:
    for uri in (
        "xn--rchestrator-x5a.ingot.localhost",
        "a.orchestrator.ingot.localhost",
        "apix.ingot.localhost",
    ):
        assert normalise_uri(uri, RULES) == uri


def test_administrators_may_have_wildcards_and_foreign_hosts() -> None:
    rules = replace(RULES, admin=True)
    assert normalise_uri("*.Shop.example.com", rules) == "*.shop.example.com"
    assert normalise_uri("example.com", replace(RULES, allow_external=True)) == "example.com"


def test_old_names_are_taken() -> None:
    made = plan(
        AppSpec(name="a"), {"staging": {"model": "nodejs/1.0", "stack": "node06"}}, RULES, create=True
    )
    assert (made.framework, made.runtime) == ("node", "node")
    made = plan(
        AppSpec(name="a"), {"staging": {"framework": "http://b20nine.com/unknown"}}, RULES, create=True
    )
    assert (made.framework, made.runtime) == ("unknown", "")


def test_another_command_or_framework_is_staged_anew() -> None:
    changed = plan(STOPPED_APP, {"staging": {"framework": "standalone", "command": "./run"}}, RULES)
    assert changed.package_state == PackageState.PENDING
    assert changed.details == {"command": "./run"}
    again = plan(
        replace(changed, package_state=PackageState.STAGED),
        {"staging": {"model": "standalone", "stack": None}},
        RULES,
    )
    assert again.package_state == PackageState.STAGED


def test_the_command_of_staging_wins_over_the_one_that_meta_brings_back() -> None:
    had = replace(STOPPED_APP, framework="standalone", runtime="", details={"command": "A"})
    named = {"framework": "standalone"}
    sent = {"staging": {**named, "command": "B"}, "meta": {"command": "A", "version": had.lock_version}}
    changed = plan(had, sent, RULES)
    assert (changed.details, changed.package_state) == ({"command": "B"}, PackageState.PENDING)
    # What a client got and sends back keeps it.
    echo = {"staging": {"model": "standalone", "stack": None}, "meta": {"command": "B"}}
    kept = plan(replace(changed, package_state=PackageState.STAGED), echo, RULES)
    assert (kept.details, kept.package_state) == ({"command": "B"}, PackageState.STAGED)


@pytest.mark.parametrize("none", [None, ""])
def test_no_command_is_the_frameworks_own(none: str | None) -> None:
    had = replace(STOPPED_APP, framework="standalone", runtime="", details={"command": "A"})
    sent = {"staging": {"framework": "standalone", "command": none}, "meta": {"command": "A"}}
    assert plan(had, sent, RULES).details == {}


@pytest.mark.parametrize(
    ("before", "changes", "expected"),
    [
        (STOPPED_APP, {}, Actions()),
        (STOPPED_APP, {"instances": 5}, Actions()),
        (STOPPED_APP, {"uris": ()}, Actions()),
        (STOPPED_APP, {"state": AppState.STARTED}, Actions(start=True)),
        (
            STOPPED_APP,
            {"state": AppState.STARTED, "package_state": PackageState.PENDING},
            Actions(stage=True, start=True),
        ),
        (
            STOPPED_APP,
            {"state": AppState.STARTED, "package_state": "FAILED"},
            Actions(stage=True, start=True),
        ),
        (RUNNING_APP, {"state": AppState.STOPPED}, Actions(stop=True)),
        (RUNNING_APP, {}, Actions()),
        (RUNNING_APP, {"instances": 3}, Actions(grow=(1, 2))),
        (RUNNING_APP, {"instances": 0}, Actions(shrink=(0,))),
        (RUNNING_APP, {"uris": ()}, Actions(reroute=True)),
        (RUNNING_APP, {"package_state": PackageState.PENDING}, Actions(stage=True, start=True)),
        (RUNNING_APP, {"memory": 128}, Actions()),
    ],
)
def test_what_follows(before: Any, changes: Any, expected: Any) -> None:
    assert decide(before, replace(before, **changes)) == expected
    assert expected.any == (expected != Actions())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
members = st.sampled_from(
    [
        "name",
        "staging",
        "uris",
        "instances",
        "resources",
        "state",
        "env",
        "meta",
        "debug",
        "console",
        "services",
    ]
)


@given(st.dictionaries(members, json_values))
def test_any_body_is_accepted_or_refused_in_words(body: Any) -> None:
    status, version = 0, 4
    try:
        version = plan(STOPPED_APP, body, RULES).lock_version
    except ApiError as error:
        status = error.status
    assert status == 0 or 400 <= status < 500
    assert version == 4


@pytest.mark.parametrize(("item", "refused"), [("a.b=1", True), ("PORT=1", True), ("A=1", False), (7, False)])
def test_only_new_variables_are_refused_for_their_names(item: Any, refused: bool) -> None:
    current = AppSpec(name="a", uris=("a.example.com",), env=("1X=old",))
    body = {"env": ["1X=old", item]}
    if refused:
        with pytest.raises(ApiError) as raised:
            check_names(body, current)
        assert raised.value.code == 300
    else:
        check_names(body, current)
