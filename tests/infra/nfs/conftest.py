"""The machines of the scenario."""

from __future__ import annotations

from typing import Any

import pytest
import testinfra


def machine(request: pytest.FixtureRequest, name: str) -> Any:
    inventory = request.config.getoption("ansible_inventory")
    return testinfra.get_host(f"ansible://{name}", ansible_inventory=inventory)


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest) -> Any:
    return machine(request, "core1")


@pytest.fixture(scope="module")
def stager(request: pytest.FixtureRequest) -> Any:
    return machine(request, "stg1")


@pytest.fixture
def client(host: Any) -> Any:
    if host.backend.host != "ctl1":
        pytest.skip("this machine does not write to the share")
    return host


@pytest.fixture
def reader(host: Any) -> Any:
    if host.backend.host != "dea1":
        pytest.skip("this machine is not a reader of the share")
    return host
