"""A DEA's machine, and an instance on it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.infra.dea_probe import controller


@pytest.fixture
def facts(host: Any) -> dict[str, Any]:
    known: dict[str, Any] = host.ansible.get_variables()
    if known["inventory_hostname"] not in known["groups"]["dea"]:
        pytest.skip("not a DEA")
    return known


@pytest.fixture
def instance(host: Any, facts: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield controller(host, "start")
    controller(host, "stop")
