"""Which runtimes there are, by the DEAs' beats, and what follows for a push."""

from __future__ import annotations

import time

import pytest

from components.common.bus.messages import Capacity, DeaBeat
from components.common.frameworks import check_offered, info_frameworks, info_runtimes, offered
from components.controller.apps.change_plan import AppSpec
from components.controller.apps.runtimes import check, versions
from components.controller.errors import ApiError
from components.controller.pool.registry import Pool


def pool(*said: dict[str, str] | None) -> Pool:
    known = Pool()
    known.listening(time.monotonic())
    for number, runtimes in enumerate(said):
        beat = DeaBeat(
            id=f"dea{number}",
            address="127.0.0.1",
            capacity=Capacity(
                memory=1024, memory_reserved=0, disk=1, disk_reserved=0, instances=0, max_instances=9
            ),
            interval=60,
            runtimes=sorted(runtimes or {}),
            runtime_versions=runtimes or {},
        )
        known.observe(beat, time.monotonic(), time.time())
    return known


def test_the_lowest_version_is_what_can_be_counted_on() -> None:
    found = versions(pool({"python3": "3.11.2", "node": "18.20.4"}, {"python3": "3.9.18", "ruby": "3.1.2"}))
    assert found == {"python3": "3.9.18", "node": "18.20.4", "ruby": "3.1.2"}


@pytest.mark.parametrize("said", [(), (None,), ({"python3": "3.11.2"}, None)])
def test_nothing_is_ruled_out_while_somebody_has_not_said(said: tuple[dict[str, str] | None, ...]) -> None:
    assert versions(pool(*said)) is None
    check(pool(*said), AppSpec("a"), AppSpec("a", runtime="php", framework="php"))


def test_names_of_a_foreign_dea_count_with_the_tables_version() -> None:
    assert offered([(["ruby18", "cobol"], {})]) == {"ruby": "3.1"}
    assert offered([(["cobol"], {})]) == {}


def test_a_runtime_that_no_dea_has_is_refused_with_those_there_are() -> None:
    there = pool({"python3": "3.11.2"})
    with pytest.raises(ApiError) as refused:
        check(there, AppSpec("a"), AppSpec("a", framework="sinatra", runtime="ruby"))
    assert refused.value.code == 307
    assert (
        "no DEA of this platform has the runtime ruby; there are: python3 3.11.2" in refused.value.description
    )
    check(there, AppSpec("a"), AppSpec("a", framework="wsgi", runtime="python3"))
    check(there, AppSpec("a"), AppSpec("a", framework="standalone"))


def test_an_application_whose_runtime_went_away_can_still_be_changed_and_stopped_but_not_started() -> None:
    there = pool({"python3": "3.11.2"})
    stopped, started = AppSpec("a", runtime="ruby"), AppSpec("a", runtime="ruby", state="STARTED")
    check(there, started, started)
    check(there, started, stopped)
    with pytest.raises(ApiError):
        check(there, stopped, started)


def test_info_shows_what_there_is() -> None:
    there = {"python3": "3.11.2", "java": "17.0.15"}
    assert info_runtimes(there) == {"python3": {"version": "3.11.2"}, "java": {"version": "17.0.15"}}
    told = info_frameworks(there)
    assert set(told) == {"java_web", "django", "wsgi", "standalone", "static"}
    assert [r["name"] for r in told["standalone"]["runtimes"]] == ["python3", "java"]  # type: ignore[attr-defined]
    check_offered("", {})
