"""Problems of a stager's configuration."""

from __future__ import annotations

import pytest

from components.common.config import parse as parse_config
from components.common.errors import ConfigError
from components.stager.config import StagerConfig


def test_every_problem_of_a_configuration_is_told_at_once() -> None:
    raw = {
        "bus": {"urls": ["nats://127.0.0.1:4222"]},
        "max_tasks": 0,
        "sandbox": "none",
        "python": "python3",
        "first_uid": "x",
    }
    with pytest.raises(ConfigError) as error:
        parse_config(raw, StagerConfig)
    assert "first_uid" in str(error.value)
    raw.pop("first_uid")
    with pytest.raises(ConfigError) as error:
        parse_config(raw, StagerConfig)
    assert [p.split(":")[0] for p in error.value.problems] == ["max_tasks", "sandbox", "python"]
