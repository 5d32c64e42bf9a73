"""The pool grew under load: what it took, that nobody noticed, and that of other machines routers alone were touched."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "build" / "labs" / (os.environ.get("INGOT_SHARED_LAB") or "mol-scale-out")
NEW = "dea3"


@pytest.fixture(scope="module")
def seen() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((FOLDER / "scale_out.json").read_text())
    return loaded


def test_no_request_was_lost(seen: dict[str, Any]) -> None:
    traffic = seen["traffic"]
    assert traffic["asked"] > 50
    assert traffic["failed"] == 0, traffic["reasons"]


def test_every_phase_has_its_seconds(seen: dict[str, Any]) -> None:
    job = seen["job"]
    assert (job["kind"], job["state"]) == ("scale_out", "succeeded")
    assert {"create", "start", "reach", "inventory", "configure", "capacity"} <= set(job["phases"])
    assert sum(job["phases"].values()) <= job["total_seconds"] + 1


def test_it_is_capacity_and_instances_land_there(seen: dict[str, Any]) -> None:
    machines = {machine["name"]: machine for machine in seen["pool"]["machines"]}
    assert seen["pool"]["size"] == 3
    assert machines[NEW]["state"] == "ready"
    assert not machines[NEW]["fixed"]
    assert machines[NEW]["instances"] > 0
    assert machines["dea1"]["fixed"]


def test_the_inventory_has_it_in_the_orchestrators_file_alone() -> None:
    children = yaml.safe_load((FOLDER / "inventory" / "20-dea.yml").read_text())["all"]["children"]
    assert NEW in children["dea"]["hosts"]
    assert NEW not in (FOLDER / "inventory" / "10-fixed.yml").read_text()


@pytest.mark.parametrize(
    ("wish", "word"), [("twice", "job"), ("maximum", "8"), ("unknown", "no pool nothing")]
)
def test_what_was_refused_says_why(seen: dict[str, Any], wish: str, word: str) -> None:
    assert word in seen["refused"][wish]


def test_no_other_machine_but_routers_was_so_much_as_logged_in_to(host: Any, seen: dict[str, Any]) -> None:
    variables = host.ansible.get_variables()
    name = variables["inventory_hostname"]
    window = f"--since=@{int(seen['began'])} --until=@{int(seen['ended']) + 1}"
    logins = host.run(f"journalctl -u ssh.service {window} --no-pager -o cat --grep='^Accepted'").stdout
    if name == NEW:
        assert logins.count("Accepted publickey for root") > 0
        assert host.service("ingot-dea").is_running
    elif "router" in variables["group_names"]:
        # Told where applications are served from now on, and nothing else.
        children = yaml.safe_load((FOLDER / "inventory" / "20-dea.yml").read_text())["all"]["children"]
        address = children["dea"]["hosts"][NEW]["ansible_host"]
        assert address in host.file("/etc/ingot/router-deas").content_string.split()
    else:
        assert logins.strip() in {"", "-- No entries --"}
