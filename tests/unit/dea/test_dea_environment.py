"""The environment of an instance (protocol 4.5)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from components.common.bus.messages import DeaStart, Limits
from components.dea.instances.instance import Instance
from components.dea.supervision.environment import environment

SERVICE: dict[str, Any] = {
    "name": "db",
    "type": "database",
    "label": "mysql-5.1",
    "vendor": "mysql",
    "version": "5.1",
    "tags": ["sql"],
    "plan": "free",
    "plan_option": None,
    "credentials": {"hostname": "10.0.0.9", "port": 3306, "password": "it's"},
}


def build(*, port: int | None = 61001, **more: Any) -> dict[str, str]:
    message = DeaStart(
        droplet=12, name="env", version="v", uris=["e.x"], limits=Limits(mem=64, disk=10, fds=9), **more
    )
    instance = Instance.of(message, "f" * 32, 0)
    instance.port = port
    return environment(
        message,
        instance,
        Path("/i"),
        address="10.0.0.5",
        dea="0-abc",
        path="/bin",
        temporary="/tmp",
        runtime={"PYTHONUNBUFFERED": "1"},
    )


def test_the_names_of_2011_and_ours() -> None:
    found = build(services=[SERVICE])
    assert found["HOME"] == "/i"
    assert found["VCAP_APP_HOST"] == found["VMC_APP_HOST"] == "10.0.0.5"
    assert found["VCAP_APP_PORT"] == found["VMC_APP_PORT"] == found["PORT"] == "61001"
    assert found["VMC_APP_ID"] == "f" * 32
    assert found["VMC_MYSQL"] == "10.0.0.9:3306"
    assert found["INGOT_DEA"] == "0-abc"
    assert found["PYTHONUNBUFFERED"] == "1"
    assert found["VCAP_CONSOLE_PORT"] == ""
    application = json.loads(found["VCAP_APPLICATION"])
    assert application["limits"] == {"fds": 9, "mem": 64 * 1024 * 1024, "disk": 10 * 1024 * 1024}
    assert (application["instance_index"], application["port"], application["uris"]) == (0, 61001, ["e.x"])
    bound = json.loads(found["VCAP_SERVICES"])["mysql-5.1"][0]
    assert bound["credentials"]["password"] == "it's"
    assert "plan_option" not in bound
    assert json.loads(found["VMC_SERVICES"])[0]["options"]["port"] == 3306


def test_what_todays_frameworks_look_for() -> None:
    found = build()
    assert found["RACK_ENV"] == found["RAILS_ENV"] == found["NODE_ENV"] == "production"
    assert found["MEMORY_LIMIT"] == "64m"
    assert found["INSTANCE_INDEX"] == found["CF_INSTANCE_INDEX"] == "0"
    assert found["CF_INSTANCE_ADDR"] == "10.0.0.5:61001"
    assert found["USER"] == "app"
    assert build(env=["RACK_ENV=staging"])["RACK_ENV"] == "staging"


def test_the_platforms_own_word_is_not_the_users() -> None:
    found = build(env=["VCAP_APPLICATION=x", "VMC_APP_ID=x", "INGOT_DEA=x", "PORT=1", "CF_INSTANCE_IP=x"])
    assert found["VCAP_APPLICATION"].startswith("{")
    assert (found["VMC_APP_ID"], found["INGOT_DEA"], found["PORT"]) == ("f" * 32, "0-abc", "61001")
    assert found["CF_INSTANCE_IP"] == "x"
    assert build(port=None, env=["PORT=1"])["PORT"] == "1"


def test_the_one_database_that_can_be_meant_is_a_url() -> None:
    redis = {
        "name": "cache",
        "vendor": "redis",
        "credentials": {
            "hostname": "10.0.0.8",
            "port": 5000,
            "username": "u",
            "password": "p/w",
            "name": "n",
        },
    }
    found = build(services=[{**SERVICE, "credentials": {**SERVICE["credentials"], "name": "d1"}}, redis])
    assert found["DATABASE_URL"] == "mysql2://:it%27s@10.0.0.9:3306/d1"
    assert found["REDIS_URL"] == "redis://u:p%2Fw@10.0.0.8:5000"
    assert "DATABASE_URL" not in build(services=[SERVICE, {**SERVICE, "name": "db2"}])
    found = build(
        services=[SERVICE, {**SERVICE, "name": "shop-prod", "credentials": {"uri": "mysql2://x/y"}}]
    )
    assert found["DATABASE_URL"] == "mysql2://x/y"
    assert "REDIS_URL" not in build(services=[{**redis, "credentials": {}}])
    assert build(services=[redis], env=["REDIS_URL=mine"])["REDIS_URL"] == "mine"


def test_no_services_are_an_empty_object() -> None:
    assert json.loads(build()["VCAP_SERVICES"]) == {}


def test_a_worker_has_no_port() -> None:
    found = build(port=None)
    assert found["VCAP_APP_PORT"] == ""
    assert "PORT" not in found


@pytest.mark.parametrize(
    "value",
    [
        "",
        "a=b",
        "$HOME/x ${HOME} pa$PORT$HOME",
        "'$HOME'",
        '"a","b"',
        "'self' https://x 'unsafe-inline'",
        "it's $(rm -rf /) `x`",
        " line\r\nnext\t\x1b[1m\x7f\\n ",
        "caf\u00e9 \U0001f680 \ufeff",
    ],
)
def test_values_of_the_user_arrive_byte_for_byte(value: str) -> None:
    assert build(env=[f"K={value}"])["K"] == value


def test_what_no_environment_carries_does_not_keep_an_instance_from_starting() -> None:
    assert build(env=["K=a\0b\ufffec\U0010ffffd\ufdd0"])["K"] == "abcd"


def test_the_user_comes_last_and_names_that_cannot_be_are_left_out() -> None:
    found = build(env=["PATH=/mine", "1X=a", "no value", "a.b=1", "=x", " A=1", "vcap_x=1", "X=1", "X=2"])
    assert (found["PATH"], found["X"]) == ("/mine", "2")
    assert not {"1X", "no value", "a.b", "", " A", "vcap_x"} & found.keys()


@pytest.mark.parametrize("shape", ["plan", "tier"])
def test_a_plan_is_the_tier_of_old(shape: str) -> None:
    service = {key: value for key, value in SERVICE.items() if key != "plan"}
    assert json.loads(build(services=[{**service, shape: "free"}])["VMC_SERVICES"]) == [
        {
            "name": "db",
            "type": "database",
            "vendor": "mysql",
            "version": "5.1",
            "tier": "free",
            "options": SERVICE["credentials"],
        }
    ]
