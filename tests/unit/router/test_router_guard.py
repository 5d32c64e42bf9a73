"""Which hosts of a registration count, by the subject it came on."""

from __future__ import annotations

import pytest

from components.common.platform_hosts import PLATFORM_REGISTER, PLATFORM_UNREGISTER
from components.router import guard
from components.router.errors import RouteError
from components.router.guard import LOG_SECONDS, Guard
from components.router.routes import Endpoint
from components.router.table import Table

API, APP = Endpoint("10.0.0.1", 9022), Endpoint("10.0.0.2", 61001)


class Lines:
    def __init__(self) -> None:
        self.said: list[dict[str, object]] = []

    def warning(self, _event: str, **facts: object) -> None:
        self.said.append(facts)


def test_a_subject_carries_only_its_own_hosts() -> None:
    table = Table(platform=["api.x"])
    judge = Guard(table)
    assert judge.registered("router.register", ["a.x", "api.x", "*.x"], APP) == ["a.x", "*.x"]
    assert judge.unregistered("router.unregister", ["a.x", "api.x"]) == ["a.x"]
    assert judge.registered(PLATFORM_REGISTER, ["api.x"], API) == ["api.x"]
    assert judge.unregistered(PLATFORM_UNREGISTER, ["a.x", "api.x"]) == ["api.x"]
    with pytest.raises(RouteError, match=r"a\.x, \*\.x: not a host of the platform"):
        judge.registered(PLATFORM_REGISTER, ["a.x", "api.x", "*.x"], API)


def test_what_the_platform_said_already_is_nobodys_attempt() -> None:
    table = Table(platform=["api.x"])
    judge = Guard(table)
    table.register(["api.x"], API, 0, platform=True)
    assert judge.registered("router.register", ["api.x"], API) == []
    assert judge.refused == 0
    judge.registered("router.register", ["api.x"], APP)
    assert judge.refused == 1


def test_attempts_are_counted_each_and_told_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    lines, now = Lines(), [100.0]
    monkeypatch.setattr(guard, "logger", lines)
    judge = Guard(Table(platform=["api.x"]), lambda: now[0])
    for _ in range(1000):
        judge.registered("router.register", ["api.x"], APP)
    now[0] += LOG_SECONDS
    judge.registered("router.register", ["api.x"], APP)
    assert judge.refused == 1001
    assert [line["since_last_line"] for line in lines.said] == [1, 1000]
    assert (lines.said[0]["address"], lines.said[0]["hosts"]) == ("10.0.0.2", ["api.x"])
