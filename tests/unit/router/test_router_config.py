from __future__ import annotations

from pathlib import Path

import pytest

from components.common.config import parse
from components.common.errors import ConfigError
from components.router.config import RouterConfig

BUS = {"urls": ["nats://127.0.0.1:4222"]}


def test_every_problem_is_named_at_once() -> None:
    wrong = {
        "platform_hosts": [],
        "run_path": "here",
        "dea_addresses_file": "there",
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
    assert parse({"bus": BUS, "platform_hosts": ["api.x"], **none}, RouterConfig).hold_seconds == 0


@pytest.mark.parametrize(
    "host", ["API.x", "*.x", "api.x.", "api.x:80", "http://api.x", "ap%69.x", "äpi.x", "", "a" * 64]
)
def test_a_host_that_no_request_could_name_is_no_host_of_the_platform(host: str) -> None:
    with pytest.raises(ConfigError, match="platform_hosts: want whole host names"):
        parse({"bus": BUS, "platform_hosts": ["api.x", host]}, RouterConfig)


def test_a_file_of_addresses_that_cannot_be_read_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "deas"
    config = parse({"bus": BUS, "platform_hosts": ["api.x"], "dea_addresses_file": str(path)}, RouterConfig)
    assert config.lacking() == [
        f"dea_addresses_file: {path}: No such file or directory: apply the role router"
    ]
    path.write_text("10.0.0.1\ndea2\n")
    assert "line 2: must be an address or a network such as 10.20.0.0/24, not 'dea2'" in config.lacking()[0]
    path.write_text("10.0.0.1\n")
    assert config.lacking() == []
    assert parse({"bus": BUS, "platform_hosts": ["api.x"]}, RouterConfig).lacking() == []
