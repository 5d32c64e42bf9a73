"""Configuration, tokens, errors, live logs, answers of a moment ago, and what is shown."""

from __future__ import annotations

import dataclasses
import threading
from types import SimpleNamespace
from typing import Any, cast

import pytest

from components.common.bus.client import Incoming
from components.common.config import parse
from components.common.errors import ConfigError
from components.controller.accounts.auth import Hashing, Tokens, hash_password, verify_password
from components.controller.apps import summary
from components.controller.config import ControllerConfig
from components.controller.errors import ApiError, Code
from components.controller.instances.health_cache import HealthCache
from components.controller.requests.rate_limit import TooManyError
from components.controller.staging.live_logs import LiveLogs

GOOD = {
    "bus": {"urls": ["nats://127.0.0.1:4222"]},
    "database_url": "sqlite:////tmp/x",
    "share_path": "/srv/ingot/share",
    "token_keys": ["0123456789abcdef"],
    "bulk_password": "b",
    "staging_password": "s",
}


def test_a_small_configuration_is_enough() -> None:
    config = parse(GOOD, ControllerConfig)
    assert (config.port, config.api) == (9022, "api.ingot.localhost")
    assert parse({**GOOD, "domain": "x.org"}, ControllerConfig).api == "api.x.org"


def test_every_problem_is_named() -> None:
    bad = {
        **GOOD,
        "database_url": "mysql://x",
        "token_keys": ["short"],
        "share_path": "share",
        "workers": 0,
        "admin_email": "a@b.c",
        "bulk_password": "",
    }
    with pytest.raises(ConfigError) as caught:
        parse(bad, ControllerConfig)
    named = {p.partition(":")[0] for p in caught.value.problems}
    assert named == {"database_url", "token_keys", "share_path", "workers", "admin_email", "bulk_password"}


def test_a_host_of_the_api_that_routers_do_not_know_is_refused() -> None:
    other = {**GOOD, "domain": "x.org", "api_host": "cloud.x.org"}
    with pytest.raises(ConfigError) as caught:
        parse(other, ControllerConfig)
    (problem,) = caught.value.problems
    assert problem.startswith("api_host: ")
    assert "name it in reserved_hosts and in the routers' router_reserved_hosts" in problem
    assert parse({**other, "reserved_hosts": ["cloud.x.org"]}, ControllerConfig).api == "cloud.x.org"
    assert parse({**other, "api_host": "x.org"}, ControllerConfig).api == "x.org"


def test_tokens() -> None:
    old, new = Tokens(["k" * 16], 100), Tokens(["n" * 16, "k" * 16], 100)
    token = old.make("a@b.com", now=1000)
    assert token.isascii()
    assert not any(c.isspace() for c in token)
    assert old.read(token, now=1100) == ("a@b.com", 0)
    assert old.read(old.make("a@b.com", 7, now=1000), now=1000) == ("a@b.com", 7)
    assert old.read(token, now=1101) is None
    assert new.read(token, now=1000) == ("a@b.com", 0), "a key that was replaced still reads"
    assert old.read(new.make("a@b.com", now=1000), now=1000) is None
    for junk in ("", "x", token[:-1], "bearer " + token, "0408" * 9):
        assert old.read(junk, now=1000) is None


def test_passwords() -> None:
    stored = hash_password("secret")
    # Guessing costs 64 MiB and three passes each time.
    assert stored.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert "secret" not in stored
    assert verify_password(stored, "secret")
    assert not verify_password(stored, "Secret")
    assert not verify_password("nonsense", "secret")


def test_passwords_are_hashed_a_few_at_a_time() -> None:
    room = Hashing(at_once=1, waiting=1, patience=60)
    inside, leave = threading.Event(), threading.Event()
    order: list[str] = []

    def first() -> None:
        with room.place():
            inside.set()
            leave.wait(60)
            order.append("first")

    def second() -> None:
        with room.place():
            order.append("second")

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    threads[0].start()
    assert inside.wait(60)
    threads[1].start()
    while room._queue.acquire(blocking=False):
        # The second is not waiting yet.
        room._queue.release()
    with pytest.raises(TooManyError), room.place():
        pass
    leave.set()
    for thread in threads:
        thread.join(60)
    assert order == ["first", "second"]
    assert room._queue.acquire(blocking=False)


def test_errors_have_words() -> None:
    for code in Code:
        error = ApiError(code, *["fact"] * code.text.count("{}"))
        assert error.status == code.status
        assert "{" not in error.description


def test_live_logs_begin_anew_with_each_task() -> None:
    logs = LiveLogs()
    logs.add(1, "t1", "a")
    logs.add(2, "t9", "z")
    logs.add(1, "t1", "b")
    assert logs.text(1) == "a\nb"
    logs.add(1, "t2", "c")
    assert logs.text(1) == "c"
    logs.forget(1)
    assert (logs.text(1), logs.text(2)) == ("", "z")


async def test_a_line_of_no_application_is_passed_over() -> None:
    logs = LiveLogs()
    for token in ("²", "٣", "9" * 5000, "7"):
        await logs.receive(
            cast("Incoming[Any]", SimpleNamespace(subject=f"ingot.staging.{token}.log", body={"line": token}))
        )
    assert list(logs._lines) == [7]


def test_what_was_answered_is_known_for_a_moment_and_for_its_version() -> None:
    recent = HealthCache(1.0)
    recent.keep({1: ("a-1", 2), 2: ("b-0", 0)}, 100.0)
    wanted = {1: "a-1", 2: "b-1", 3: "c-0"}
    assert recent.of(wanted, 100.9) == {1: 2}
    assert recent.of(wanted, 101.0) == {}
    recent.keep({2: ("b-1", 1)}, 101.0)
    assert recent.of(wanted, 101.5) == {2: 1}


def test_what_was_answered_is_forgotten_where_there_is_too_much_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("components.controller.instances.health_cache.MOST", 3)
    recent = HealthCache(1.0)
    recent.keep({1: ("v", 1), 2: ("v", 2)}, 100.0)
    recent.keep({3: ("v", 3)}, 100.9)
    recent.keep({4: ("v", 4)}, 101.0)
    assert recent.of(dict.fromkeys((1, 2, 3, 4), "v"), 100.9) == {3: 3, 4: 4}


def test_an_application_is_shown_by_the_columns_of_its_view() -> None:
    names = [column.key for column in summary.COLUMNS[:-2]]
    assert names == [field.name for field in dataclasses.fields(summary.AppSummary)][:-2]
    assert summary.names("b.c/a.c") == ["a.c", "b.c"]
    assert summary.names(None) == []
