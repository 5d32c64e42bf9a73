"""The end of the platform that the tests before shared: taken down, with a machine that the orchestrator had added."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.lab.conftest import FORWARD_BEFORE, LAB, LabPlatform

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1800)]


def test_down_leaves_nothing(platform: LabPlatform) -> None:
    done = platform.make("down")
    assert done.returncode == 0, done.stdout + done.stderr
    processes = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert not [p for p in processes.splitlines() if f"/labs/{LAB}/" in p]
    assert f"/labs/{LAB}/" not in Path("/proc/mounts").read_text()
    labs = platform.lab("list", "--json") if Path("/run/ingot-lab/lab.sock").exists() else "[]"
    assert LAB not in labs
    if labs.strip() == "[]":
        links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
        assert "ing-" not in links
        tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
        assert "ingot_lab" not in tables
        assert Path("/proc/sys/net/ipv4/ip_forward").read_text() == FORWARD_BEFORE
