"""The DEA's configuration."""

from __future__ import annotations

from typing import Any

import pytest

from components.common.config import parse
from components.common.errors import ConfigError
from components.dea.config import DeaConfig

BUS = {"urls": ["nats://127.0.0.1:4222"]}


def config(**more: Any) -> DeaConfig:
    return parse({"bus": BUS, **more}, DeaConfig)


def test_defaults_are_the_platforms() -> None:
    found = config()
    assert (found.ports.first, found.ports.last) == (61001, 64999)
    assert (found.uids.first, found.uids.last) == (50000, 52047)
    assert found.files.port == 12345
    assert found.memory_mb > 0
    assert config(max_memory=100).memory_mb == 100


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"sandbox": "docker"}, "sandbox"),
        ({"base_dir": "x"}, "base_dir"),
        ({"ports": {"first": 9, "last": 3}}, "ports.first"),
        ({"ports": {"first": 9, "last": 70000}}, "ports.last"),
        ({"intervals": {"beat": 0}}, "intervals.beat"),
        ({"runtimes": {"python": {"executable": "python3"}}}, "runtimes.python.executable"),
        ({"drain": -1}, "drain"),
        ({"memory": 1}, "memory"),
    ],
)
def test_mistakes_are_named(change: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        config(**change)
