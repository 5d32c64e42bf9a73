"""What machines reach each other by: `ingot_address`, else `ansible_host`."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
HOSTVARS: dict[str, dict[str, Any]] = {
    "plain": {"ansible_host": "10.0.0.1"},
    # Managed on another network.
    "apart": {"ansible_host": "192.0.2.2", "ingot_address": "10.0.0.2", "nats_port": 5222},
    "named": {},
}


@pytest.fixture(scope="module")
def plugin() -> ModuleType:
    path = ROOT / "roles" / "ingot" / "filter_plugins" / "ingot_addresses.py"
    spec = importlib.util.spec_from_file_location("ingot_addresses", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_addresses_are_in_the_order_of_the_hosts_that_have_one(plugin: ModuleType) -> None:
    assert plugin.ingot_addresses(["named", "plain", "apart"], HOSTVARS) == ["10.0.0.1", "10.0.0.2"]


def test_endpoints_have_every_hosts_own_port(plugin: ModuleType) -> None:
    found = plugin.ingot_endpoints(HOSTVARS, HOSTVARS, "nats_port", 4222, "nats://")
    assert found == ["nats://10.0.0.1:4222", "nats://10.0.0.2:5222", "nats://named:4222"]
    assert plugin.ingot_endpoints(["plain"], HOSTVARS, "ccdb_port", 5432) == ["10.0.0.1:5432"]
