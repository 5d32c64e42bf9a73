"""A machine's clock that is set forth and back by hours ends nothing, and keeps nothing for ever."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.common.bus.messages import DeaStart, HealthCheck, Limits
from components.common.config import parse
from components.common.states import InstanceState
from components.dea.config import DeaConfig
from components.dea.instances.instance import Instance, TaskFacts
from components.dea.instances.registry import Bounds, Registry
from components.dea.limits.procfs import Process
from components.dea.limits.usage import sample
from components.dea.ports import readiness
from components.dea.supervision import task_supervisor

HOURS = 5 * 3600.0


def instance() -> Instance:
    message = DeaStart(
        droplet=1, name="a", version="v", uris=["a.x"], limits=Limits(mem=1), health=HealthCheck(path="/up")
    )
    found = Instance.of(message, "a" * 32, 1000)
    found.port = 61001
    return found


async def test_an_instance_that_starts_has_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: Iterator[str] = iter(["no connection", "200"])
    monkeypatch.setattr(time, "time", iter(1e9 + n * HOURS for n in range(1000)).__next__)

    async def answer(*_: object) -> str:
        return next(asked)

    async def itself(*_: object) -> bool:
        return True

    monkeypatch.setattr(readiness, "answer", answer)
    # Who listens is another question: test_dea_readiness.py.
    monkeypatch.setattr(readiness, "_itself", itself)
    config = parse({"bus": {"urls": ["nats://x:1"]}, "start_timeout": 60}, DeaConfig)
    assert await readiness.ready(instance(), Path(), config)


@pytest.mark.parametrize("jump", [-HOURS, 0.0, HOURS])
def test_a_task_ends_at_its_time_whatever_the_clock_shows(jump: float) -> None:
    task = TaskFacts(timeout=600, deadline=1600, ends=50_600)
    assert task.left(1000 + jump, 50_000) == 600
    assert task.left(1100 + jump, 50_100) == 500


def test_a_task_of_an_earlier_release_has_at_most_its_whole_time() -> None:
    task = TaskFacts(timeout=600, deadline=1600)
    assert task.left(1100, 50_100) == 500
    assert task.left(1100 - HOURS, 50_100) == 600


def test_the_machines_own_seconds_only_grow() -> None:
    first = task_supervisor._running()
    assert first <= task_supervisor._running() < first + 3600


def test_a_crash_is_kept_for_its_time_or_goes() -> None:
    registry = Registry(Bounds(1000, 1000, 10))
    crashed = instance()
    crashed.move(InstanceState.CRASHED, 1000)
    registry.add(crashed)
    assert registry.expired(1500, 3600) == []
    # A little back, as when the time is corrected.
    assert registry.expired(999, 3600) == []
    assert registry.expired(4700, 3600) == [crashed]
    assert registry.expired(1000 - HOURS, 3600) == [crashed]


@pytest.mark.parametrize("jump", [-HOURS, HOURS])
def test_the_share_of_a_core_is_reckoned_by_a_clock_that_nobody_sets(jump: float) -> None:
    before = sample([Process(1, 1, 1, 0, 0)], 0, 1000, 50.0, None)
    after = sample([Process(1, 1, 1, 100, 0)], 0, 1000 + jump, 51.0, before)
    assert after.cpu > 50
