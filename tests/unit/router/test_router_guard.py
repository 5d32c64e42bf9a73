"""Which hosts of a registration count, by the subject it came on."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.common.bus.platform_hosts import PLATFORM_REGISTER, PLATFORM_UNREGISTER
from components.router import deas, guard
from components.router.deas import DeaAddresses
from components.router.errors import RouteError
from components.router.guard import LOG_SECONDS, Guard
from components.router.routes import Endpoint
from components.router.table import Table

ANY = DeaAddresses(None)
API, APP = Endpoint("10.0.0.1", 9022), Endpoint("10.0.0.2", 61001)


class Lines:
    def __init__(self) -> None:
        self.said: list[dict[str, object]] = []

    def warning(self, _event: str, **facts: object) -> None:
        self.said.append(facts)


def test_a_subject_carries_only_its_own_hosts() -> None:
    table = Table(platform=["api.x"])
    judge = Guard(table, ANY)
    assert judge.registered("router.register", ["a.x", "api.x", "*.x"], APP) == ["a.x", "*.x"]
    assert judge.unregistered("router.unregister", ["a.x", "api.x"]) == ["a.x"]
    assert judge.registered(PLATFORM_REGISTER, ["api.x"], API) == ["api.x"]
    assert judge.unregistered(PLATFORM_UNREGISTER, ["a.x", "api.x"]) == ["api.x"]
    with pytest.raises(RouteError, match=r"a\.x, \*\.x: not a host of the platform"):
        judge.registered(PLATFORM_REGISTER, ["a.x", "api.x", "*.x"], API)


def test_what_the_platform_said_already_is_nobodys_attempt() -> None:
    table = Table(platform=["api.x"])
    judge = Guard(table, ANY)
    table.register(["api.x"], API, 0, platform=True)
    assert judge.registered("router.register", ["api.x"], API) == []
    assert judge.platform.count == 0
    judge.registered("router.register", ["api.x"], APP)
    assert judge.platform.count == 1


def test_attempts_are_counted_each_and_told_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    lines, now = Lines(), [100.0]
    monkeypatch.setattr(guard, "logger", lines)
    judge = Guard(Table(platform=["api.x"]), ANY, lambda: now[0])
    for _ in range(1000):
        judge.registered("router.register", ["api.x"], APP)
    now[0] += LOG_SECONDS
    judge.registered("router.register", ["api.x"], APP)
    assert judge.platform.count == 1001
    assert [line["since_last_line"] for line in lines.said] == [1, 1000]
    assert (lines.said[0]["address"], lines.said[0]["hosts"]) == ("10.0.0.2", ["api.x"])


def test_an_application_is_served_at_a_dea_only(tmp_path: Path) -> None:
    path = tmp_path / "deas"
    path.write_text("10.0.0.2 # dea1\n\nfd00:1::/64\n")
    table = Table(platform=["api.x"])
    judge = Guard(table, DeaAddresses(path))
    assert judge.registered("router.register", ["a.x"], APP) == ["a.x"]
    assert judge.registered("router.register", ["a.x"], Endpoint("fd00:1::7", 61001)) == ["a.x"]
    for address in ("127.0.0.1", "10.0.0.1", "10.0.0.20", "fd00:2::7", "::1", "::ffff:10.0.0.2"):
        assert judge.registered("router.register", ["a.x", "*.x"], Endpoint(address, 61001)) == []
    assert judge.strange.count == 6
    # The platform is elsewhere, and says so on a subject of its own. Whoever is gone from the list may say so.
    assert judge.registered(PLATFORM_REGISTER, ["api.x"], API) == ["api.x"]
    assert judge.unregistered("router.unregister", ["a.x"]) == ["a.x"]
    assert judge.strange.count == 6


def test_the_addresses_of_deas_follow_their_file(tmp_path: Path) -> None:
    path = tmp_path / "deas"
    path.write_text("10.0.0.2\n")
    known = DeaAddresses(path)
    assert (known.allow("10.0.0.2"), known.allow("10.0.0.3")) == (True, False)
    path.write_text("10.0.0.2\n10.0.0.3\n")
    known.refresh()
    assert (known.allow("10.0.0.2"), known.allow("10.0.0.3"), len(known)) == (True, True, 2)
    # What cannot be read changes nothing, least of all to "everybody".
    path.write_text("10.0.0.2\nnonsense\n")
    known.refresh()
    path.unlink()
    known.refresh()
    assert (known.allow("10.0.0.3"), known.allow("10.0.0.4")) == (True, False)
    path.write_text("10.0.0.2\n")
    known.refresh()
    assert not known.allow("10.0.0.3")


@pytest.mark.parametrize("text", [None, "", "# none yet\n"])
def test_without_addresses_of_deas_all_are_taken_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str | None
) -> None:
    said: list[str] = []
    monkeypatch.setattr(deas.logger, "warning", lambda event, **_: said.append(event))
    path = tmp_path / "deas"
    if text is not None:
        path.write_text(text)
    known = DeaAddresses(None if text is None else path)
    assert known.allow("203.0.113.9")
    assert (len(known), said) == (0, ["dea_addresses_unknown"])
