"""A release rolled through every tier of a whole platform by the orchestrator, under load, and taken back: `make drill-roll`.

The scenarios `roll` and `rollback` do the same with playbooks alone, and are part of `make test`.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import httpx
import pytest

from components.common.plain_http import NO_TLS
from components.common.version import VERSION
from tests.lab.conftest import DOMAIN, ROOT, ROUTERS, LabPlatform, live, traffic
from tests.lab.load import load

NEXT = f"{VERSION}-next"
MACHINES = ("ctl1", "ctl2", *ROUTERS, "dea1", "dea2", "svc1", "core1")

pytestmark = [pytest.mark.lab, pytest.mark.timeout(3600)]


def releases(platform: LabPlatform) -> dict[str, str]:
    """Return the release that every machine runs."""
    return {m: platform.on(m, "readlink", "/opt/ingot/current").strip().rpartition("/")[2] for m in MACHINES}


@contextlib.contextmanager
def readiness(platform: LabPlatform) -> Iterator[list[tuple[str, ...]]]:
    """Ask the routers for their readiness while the block runs; yield a list that grows when another set of them is not ready."""
    addresses = platform.routers()
    away: list[tuple[str, ...]] = []
    over = threading.Event()

    def ready(router: str) -> bool:
        try:
            url = f"http://{addresses[router][0]}:9031/readyz"
            return httpx.get(url, timeout=5, verify=NO_TLS).status_code == 200
        except httpx.HTTPError:
            return False

    def watch() -> None:
        while not over.wait(0.2):
            now = tuple(router for router in ROUTERS if not ready(router))
            if away[-1:] != [now]:
                away.append(now)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield away
    finally:
        over.set()
        thread.join()


def test_release_is_rolled_and_taken_back_under_load(
    platform: LabPlatform, balancer: tuple[str, int]
) -> None:
    command = [
        sys.executable,
        "-m",
        "orchestrator.control.release_builder",
        "--version",
        NEXT,
        "--python",
        "311",
    ]
    if os.environ.get("INGOT_E2E_IMAGE") == "trixie":
        command[-1] = "313"
    subprocess.run(command, cwd=ROOT, check=True)
    platform.ingot("scale", "hello", "--instances", "4")
    before = live(platform, "hello", 4)
    with (
        traffic(platform, "hello") as failures,
        load([balancer], f"hello.{DOMAIN}") as seen,
        readiness(platform) as away,
    ):
        rolled = platform.json("platform", "roll", NEXT)
        assert rolled["state"] == "succeeded", json.dumps(rolled)
        assert releases(platform) == dict.fromkeys(MACHINES, NEXT)
        assert failures == seen.failures == []
        back = platform.json("platform", "rollback", "--force")
        assert back["state"] == "succeeded", json.dumps(back)
        assert releases(platform) == dict.fromkeys(MACHINES, VERSION)
    assert failures == seen.failures == []
    # One router after the other, there and back.
    assert [routers for routers in away if routers] == [(router,) for router in ROUTERS] * 2
    assert live(platform, "hello", 4) == before
    print(f"rolled in {rolled['total_seconds']:.0f} s, back in {back['total_seconds']:.0f} s")
    print(json.dumps({**seen.figures(), "answered": dict(seen.answered)}))
    jobs = platform.json("jobs", "list")
    assert [j["kind"] for j in jobs[:2]] == ["rollback", "roll"]
