"""Who is offered what, which version an old client means, and what gateways answer."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.common.config import parse
from components.common.errors import ConfigError
from components.controller.apps.messages import type_of
from components.controller.config import ControllerConfig
from components.controller.db.models import Service
from components.controller.services.gateway_client import Endpoint, GatewayClient, GatewayError
from components.controller.services.offerings import (
    BindRequest,
    OfferingRequest,
    SchemaError,
    catalogue,
    check_alias,
    check_plan,
    decode,
    offered,
    pick,
    split_label,
    visible,
)


def service(label: str = "redis-7.0", **more: Any) -> Service:
    name, version = split_label(label)
    facts = {"plans": ["free"], "tags": [], "active": True, "last_seen": 1000.0, "acls": None, **more}
    return Service(label=label, name=name, version=version, url="http://g", **facts)


def test_the_version_stands_after_the_last_dash() -> None:
    assert split_label("my-sql-5.1") == ("my-sql", "5.1")


@pytest.mark.parametrize(
    ("acls", "email", "expected"),
    [
        (None, "a@b.com", True),
        ({"users": [], "wildcards": []}, "a@b.com", False),
        ({"users": ["a@b.com"], "wildcards": []}, "a@b.com", True),
        ({"users": ["A@b.com"], "wildcards": ["*@b.com"]}, "a@b.com", True),
        ({"users": [], "wildcards": ["*@b.com"]}, "a@b.com.evil.org", False),
        ({"users": [], "wildcards": ["*@b.com"]}, "a@bxcom", False),
        ({"users": [], "wildcards": ["a*@*.com"]}, "abc@d.com", True),
    ],
)
def test_acls(acls: Any, email: str, expected: bool) -> None:
    assert visible(service(acls=acls), email) is expected


def test_silent_or_inactive_is_not_offered() -> None:
    assert offered(service(), "a@b.com", 1180, 180)
    assert not offered(service(), "a@b.com", 1180.1, 180)
    assert not offered(service(active=False), "a@b.com", 1000, 180)
    assert not offered(service(acls={"users": []}), "a@b.com", 1000, 180)


def test_which_version_is_meant() -> None:
    offers = [service("redis-7.9"), service("redis-7.10"), service("mysql-8.0")]

    def label(vendor: str, version: str) -> str | None:
        found = pick(offers, vendor, version)
        return found.label if found else None

    assert label("redis", "7.9") == "redis-7.9"
    assert label("redis", "2.2") == "redis-7.10"
    assert label("mysql", "5.1") == "mysql-8.0"
    assert label("mongodb", "1.8") is None


def test_versions_with_numbers_that_are_none_can_be_compared() -> None:
    labels = ["redis-²", "redis-7.²", f"redis-{'9' * 200}", "redis-7.0"]
    assert pick([service(label) for label in labels], "redis", "none") is not None


@given(st.lists(st.text(alphabet="0123456789.rc-", min_size=1), min_size=1))
def test_any_versions_can_be_compared(versions: list[str]) -> None:
    assert pick([service(f"redis-{v.replace('-', '')}x") for v in versions], "redis", "none") is not None


def test_types_are_those_of_2011() -> None:
    assert [type_of(v) for v in ("mysql", "postgresql", "redis", "mongodb", "rabbitmq")] == [
        "database",
        "database",
        "key-value",
        "key-value",
        "generic",
    ]


def test_a_catalogue_of_nothing_and_of_two_versions() -> None:
    assert catalogue([]) == {}
    found = catalogue([service("redis-6.0"), service("redis-7.0", plans=[])])
    assert list(found["key-value"]["redis"]) == ["6.0", "7.0"]
    assert found["key-value"]["redis"]["7.0"]["tiers"] == {}
    assert found["key-value"]["redis"]["7.0"]["description"] == "-"


def test_names_and_plans() -> None:
    for good in ("r1", "redis-1a2b3", "with space", "ö"):
        check_alias(good)
    for bad in ("", "a/b", "a\nb", "x" * 256):
        with pytest.raises(SchemaError):
            check_alias(bad)
    check_plan(service(plans=[]), "any")
    with pytest.raises(SchemaError, match="it has free"):
        check_plan(service(), "gold")


def test_requests_are_read_as_they_are_declared() -> None:
    assert decode({"service_id": "s", "app_id": 1, "more": 1}, BindRequest).binding_options == {}
    with pytest.raises(SchemaError, match="app_id"):
        decode({"service_id": "s", "app_id": "1"}, BindRequest)
    with pytest.raises(SchemaError, match="label"):
        decode({"label": "redis 7", "url": "http://g"}, OfferingRequest)


def test_tokens_of_services_are_checked() -> None:
    good = {
        "bus": {"urls": ["nats://127.0.0.1:4222"]},
        "database_url": "sqlite:////tmp/x",
        "share_path": "/srv/ingot/share",
        "token_keys": ["0123456789abcdef"],
        "bulk_password": "b",
        "staging_password": "s",
    }
    assert parse(good, ControllerConfig).service_tokens == {}
    bad = {**good, "service_tokens": {"redis": "short", "mysql": "long enough"}, "service_silent_seconds": 0}
    with pytest.raises(ConfigError) as caught:
        parse(bad, ControllerConfig)
    assert sorted(p.partition(":")[0] for p in caught.value.problems) == [
        "service_silent_seconds",
        "service_tokens",
    ]
    assert "short" not in str(caught.value).replace("redis", "")


ENDPOINT = Endpoint("redis-7.0", "redis", "http://gateway:9081/", 2.0)


def ask(answer: Any, endpoint: Endpoint = ENDPOINT) -> Any:
    def handle(request: httpx.Request) -> httpx.Response:
        assert request.url == "http://gateway:9081/gateway/v1/configurations/a%2Fb/handles"
        assert request.headers["X-VCAP-Service-Token"] == "tok"
        assert request.headers["Content-Type"] == "application/json"
        assert request.extensions["timeout"] == {"connect": 2.0, "read": 2.0, "write": 2.0, "pool": 2.0}
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(*answer[:1], json=answer[1])

    gateways = GatewayClient({"redis": "tok"}, httpx.MockTransport(handle))
    try:
        return gateways.bind(endpoint, "a/b", email="a@b.com", binding_options={})
    finally:
        gateways.close()


def test_a_gateways_answer() -> None:
    handle = ask((200, {"service_id": "h", "configuration": {}, "credentials": {"password": "p"}}))
    assert (handle.service_id, handle.credentials) == ("h", {"password": "p"})


@pytest.mark.parametrize(
    ("answer", "words", "lost"),
    [
        (httpx.ReadTimeout("x"), "within 2 s", True),
        (httpx.ConnectError("x"), "cannot be reached", True),
        (httpx.RemoteProtocolError("x"), "cannot be reached", True),
        ((504, {"code": 30700, "description": "no answer"}), r"no answer \(30700\)", False),
        ((500, {"description": 1}), "status 500", False),
        ((302, {}), "status 302", False),
        (
            (200, {"service_id": "h", "configuration": {}, "credentials": "secret word"}),
            "cannot be used",
            False,
        ),
    ],
)
def test_what_can_be_wrong_with_a_gateway(answer: Any, words: str, lost: bool) -> None:
    with pytest.raises(GatewayError, match=words) as caught:
        ask(answer)
    assert caught.value.lost is lost
    assert "secret word" not in str(caught.value)


def test_without_a_token_nobody_is_asked() -> None:
    with pytest.raises(GatewayError, match="no token of mysql"):
        ask(AssertionError(), Endpoint("mysql-8.0", "mysql", "http://gateway:9081", 2.0))
