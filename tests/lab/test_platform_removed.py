"""The end of the platform that the tests before shared: taken down, with a machine that the orchestrator had added."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from orchestrator.lab import addresses
from orchestrator.lab.host import network
from orchestrator.lab.paths import HOST_SETTINGS, Paths
from tests.lab.conftest import LAB, LabPlatform

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1800)]


def test_down_leaves_nothing(platform: LabPlatform) -> None:
    (bridge,) = (lab["bridge"] for lab in json.loads(platform.lab("list", "--json")) if lab["name"] == LAB)
    counted = json.loads(HOST_SETTINGS.read_text())
    done = platform.make("down")
    assert done.returncode == 0, done.stdout + done.stderr
    processes = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert not [p for p in processes.splitlines() if f"/labs/{LAB}/" in p]
    assert f"/labs/{LAB}/" not in Path("/proc/mounts").read_text()
    labs = platform.lab("list", "--json") if Path("/run/ingot-lab/lab.sock").exists() else "[]"
    assert LAB not in labs
    assert leftovers(bridge) == []
    if counted["bridges"] == [bridge] and not counted_bridges():
        assert {name: Path(name).read_text().strip() for name in counted["before"]} == counted["before"]


def leftovers(bridge: str) -> list[str]:
    """Return the remains of the platform's network, without those of other labs, which parts of the same run have.

    Another lab may have got its number already, so bridges, the first to be made and the last to go, are read last.
    """
    index = addresses.bridge_index(bridge)
    assert index is not None
    tables = [name for name in network.tables() if name == addresses.table_name(index)]
    links = [path.name for path in network.INTERFACES.iterdir() if addresses.key_prefix(index) in path.name]
    counted = [name for name in counted_bridges() if name == bridge]
    bridges = network.bridges()
    mine = [name for name, whose in bridges.items() if whose == (str(Paths.from_environment().state), LAB)]
    return mine if bridge in bridges else [*mine, *tables, *links, *counted]


def counted_bridges() -> list[str]:
    """Return the bridges for which this host has its settings."""
    return list(json.loads(HOST_SETTINGS.read_text())["bridges"]) if HOST_SETTINGS.exists() else []
