from __future__ import annotations

import pytest

from components.common.config import parse
from components.common.errors import ConfigError
from components.router.config import RouterConfig

BUS = {"urls": ["nats://127.0.0.1:4222"]}


def test_every_problem_is_named_at_once() -> None:
    wrong = {
        "run_path": "here",
        "prune_seconds": 0,
        "drain_seconds": -1,
        "hold_seconds": -1,
        "settle_seconds": -1,
        "batch_milliseconds": -1,
    }
    with pytest.raises(ConfigError) as told:
        parse({"bus": BUS, **wrong}, RouterConfig)
    assert {p.partition(":")[0] for p in told.value.problems} == set(wrong)


def test_nothing_waits_where_nothing_is_to_be_waited_for() -> None:
    none = dict.fromkeys(("drain_seconds", "hold_seconds", "settle_seconds", "batch_milliseconds"), 0)
    assert parse({"bus": BUS, **none}, RouterConfig).hold_seconds == 0
