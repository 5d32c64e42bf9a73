"""A release rolled through every tier of a whole platform by the orchestrator, under load, and taken back: `make drill-roll`.

The scenarios `roll` and `rollback` do the same with playbooks alone, and are part of `make test`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from components.common.version import VERSION
from tests.lab.conftest import ROOT, LabPlatform, live, traffic

NEXT = f"{VERSION}-next"
MACHINES = ("ctl1", "ctl2", "router1", "router2", "dea1", "dea2", "svc1", "core1")

pytestmark = [pytest.mark.lab, pytest.mark.timeout(3600)]


def releases(platform: LabPlatform) -> dict[str, str]:
    """Ask every machine what release it runs."""
    return {m: platform.on(m, "readlink", "/opt/ingot/current").strip().rpartition("/")[2] for m in MACHINES}


def test_release_is_rolled_and_taken_back_under_load(platform: LabPlatform) -> None:
    command = [sys.executable, "-m", "orchestrator.release", "--version", NEXT, "--python", "311"]
    if os.environ.get("INGOT_E2E_IMAGE") == "trixie":
        command[-1] = "313"
    subprocess.run(command, cwd=ROOT, check=True)
    platform.ingot("scale", "hello", "--instances", "4")
    before = live(platform, "hello", 4)
    with traffic(platform, "hello") as failures:
        rolled = platform.json("roll", NEXT)
        assert rolled["state"] == "succeeded", json.dumps(rolled)
        assert releases(platform) == dict.fromkeys(MACHINES, NEXT)
        assert failures == []
        back = platform.json("rollback")
        assert back["state"] == "succeeded", json.dumps(back)
        assert releases(platform) == dict.fromkeys(MACHINES, VERSION)
    assert failures == []
    assert live(platform, "hello", 4) == before
    print(f"rolled in {rolled['total_seconds']:.0f} s, back in {back['total_seconds']:.0f} s")
    jobs = platform.json("jobs", "list")
    assert [j["kind"] for j in jobs[:2]] == ["rollback", "roll"]
