"""The pool shrank under load: the right machine left, nobody noticed, and nothing of it is left."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "build" / "labs" / (os.environ.get("INGOT_SHARED_LAB") or "mol-scale-in")


@pytest.fixture(scope="module")
def seen() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((FOLDER / "scale_in.json").read_text())
    return loaded


@pytest.fixture(scope="module")
def gone(seen: dict[str, Any]) -> str:
    left = {machine["name"] for machine in seen["pool"]["machines"]}
    [name] = [machine["name"] for machine in seen["before"]["machines"] if machine["name"] not in left]
    return str(name)


def test_no_request_was_lost(seen: dict[str, Any]) -> None:
    traffic = seen["traffic"]
    assert traffic["asked"] > 20
    assert traffic["failed"] == 0, traffic["reasons"]


def test_the_cheapest_of_those_that_may_leave_left(seen: dict[str, Any], gone: str) -> None:
    may = {m["name"]: m["instances"] for m in seen["before"]["machines"] if not m["fixed"]}
    assert len(may) == 2
    assert may[gone] == min(may.values()) > 0


def test_its_instances_were_moved_before_it_was_stopped(seen: dict[str, Any], gone: str) -> None:
    job = seen["job"]
    assert (job["kind"], job["state"]) == ("scale_in", "succeeded")
    assert [step["name"] for step in job["steps"]] == [
        "choose",
        "evacuate",
        "moved",
        "stop",
        "forget",
        "delete",
    ]
    assert all(step["machines"] == [gone] for step in job["steps"])
    states = [instance["state"] for instance in seen["app"]["instance_list"]]
    assert states == ["RUNNING"] * 11
    assert sum(machine["instances"] for machine in seen["pool"]["machines"]) == 11


def test_nothing_of_it_is_left(seen: dict[str, Any], gone: str) -> None:
    assert seen["pool"]["size"] == 3
    assert gone not in {machine["name"] for machine in seen["machines"]}
    assert f"{gone}:" not in (FOLDER / "inventory" / "20-dea.yml").read_text()
    assert gone not in (FOLDER / "ssh" / "known_hosts").read_text().replace(",", " ").split()


@pytest.mark.parametrize(("wish", "word"), [("floor", "fixed"), ("unknown", "no pool nothing")])
def test_what_was_refused_says_why(seen: dict[str, Any], wish: str, word: str) -> None:
    assert word in seen["refused"][wish]
