"""The table of daemons (`playbooks/vars/daemons.yml`) says the same as the roles, the rolls, preflight and the page of the platform."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.rules.roll_order import ORCHESTRATOR, TIERS

ROOT = Path(__file__).resolve().parents[3]
TABLE = yaml.safe_load((ROOT / "playbooks" / "vars" / "daemons.yml").read_text())["platform_daemons"]
# Between the first and the last of a range.
DASH = "\u2013"
UNITS = "templates/etc/systemd/system"
# Inputs that name a port on which something else listens: a balancer or a router, and sshd.
FOREIGN = {"controller_external_port", "orchestrator_ssh_port"}


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text()) or {}


def inputs_of(role: str) -> dict[str, Any]:
    entries = load(ROOT / "roles" / role / "meta" / "argument_specs.yml")["argument_specs"].values()
    return {name: option for entry in entries for name, option in (entry.get("options") or {}).items()}


def ports_of(row: dict[str, Any]) -> dict[str, Any]:
    return {**row["ports"], **row.get("guest_ports", {})}


@pytest.fixture(params=TABLE, ids=lambda row: row["name"])
def row(request: pytest.FixtureRequest) -> dict[str, Any]:
    return dict(request.param)


def test_ports_are_those_of_the_roles_with_their_defaults(row: dict[str, Any]) -> None:
    role = ROOT / "roles" / row["role"]
    said = {**load(role / "vars" / "main.yml"), **load(role / "defaults" / "main.yml")}
    assert ports_of(row) == {name: said[name] for name in ports_of(row)}
    assert all(name in inputs_of(row["role"]) for name in ports_of(row) if not name.startswith("__"))


@pytest.mark.parametrize("role", sorted({row["role"] for row in TABLE}))
def test_every_port_that_a_role_has_for_an_input_stands_in_the_table(role: str) -> None:
    listed = {name for row in TABLE if row["role"] == role for name in ports_of(row)}
    assert {name for name in inputs_of(role) if name.endswith("_port")} - FOREIGN <= listed


def test_units_are_those_of_the_roles(row: dict[str, Any]) -> None:
    role = ROOT / "roles" / row["role"]
    named = "".join(p.read_text() for f in ("vars", "tasks", "handlers") for p in role.glob(f"{f}/*.yml"))
    assert (role / UNITS / f"{row['unit']}.j2").is_file() or re.search(rf"[\s\[]{row['unit']}\b", named)


def test_the_unit_of_every_daemon_of_ours_has_the_common_bounds(row: dict[str, Any]) -> None:
    if row["unit"].startswith("ingot-"):
        unit = (ROOT / "roles" / row["role"] / UNITS / f"{row['unit']}.j2").read_text().splitlines()
        assert "{{ __ingot_hardening }}" in unit
        # A bound of all is said in one place.
        assert not set(unit) & set(load(ROOT / "roles/ingot/vars/main.yml")["__ingot_hardening"].splitlines())


def test_every_daemon_of_ours_stands_in_the_table() -> None:
    units = {p.name.removesuffix(".j2") for p in (ROOT / "roles").glob(f"*/{UNITS}/ingot-*.service.j2")}
    # The firewall is loaded, and nothing of it runs.
    assert units - {"ingot-firewall.service"} == {r["unit"] for r in TABLE if r["unit"].startswith("ingot-")}


def test_what_drains_has_the_entry_points_for_it(row: dict[str, Any]) -> None:
    tasks = ROOT / "roles" / row["role"] / "tasks"
    drained = {r["role"] for r in TABLE if r.get("drains")}
    assert (row["role"] in drained) == (tasks / "drain.yml").is_file() == (tasks / "undrain.yml").is_file()


def test_a_row_makes_sense(row: dict[str, Any]) -> None:
    if health := row.get("health"):
        assert health["port"] in row["ports"]
        assert ("path" in health) != ("command" in health)
    # A roll asks each daemon of a release by HTTP.
    assert not row["unit"].startswith("ingot-") or "path" in row["health"]
    if "enabled" in row:
        switch = inputs_of(row["role"])[row["enabled"]]
        first = f"{{{{ '{row['group']}' not in group_names or inventory_hostname == groups['{row['group']}'] | first }}}}"
        assert (switch["type"], switch["default"]) == ("bool", first if row.get("single") else True)
    if "shared_role" in row:
        assert (ROOT / "roles" / row["shared_role"]).is_dir()


def test_a_machines_daemons_are_changed_in_the_order_in_which_machines_are() -> None:
    groups = [row["group"] for row in TABLE if row["unit"].startswith("ingot-")]
    assert list(dict.fromkeys(groups)) == [g for tier in TIERS.values() for g in tier] + [ORCHESTRATOR]


def test_the_page_of_the_platform_lists_the_same_ports() -> None:
    page = (ROOT / "docs" / "platform.md").read_text()
    found: set[tuple[str, str, str]] = set()
    for ports, group, inputs in re.findall(rf"^\| ([\d, {DASH}]+) \| (\w+) \| (.*?) \|", page, re.MULTILINE):
        names = ", ".join(re.findall(r"`(\w+)`", inputs))
        found.add((re.sub(r"\s", "", ports), group, names))
    # The ring of an agent is none of the role's inputs.
    found.discard((f"61001{DASH}64999", "dea", ""))
    assert found == {said for row in TABLE for said in _as_on_the_page(row)}


def _as_on_the_page(row: dict[str, Any]) -> list[tuple[str, str, str]]:
    def line(ports: dict[str, Any], between: str) -> tuple[str, str, str]:
        numbers = sorted(int(port) for port in ports.values() if port)
        names = ", ".join(name for name in ports if not name.startswith("__"))
        return between.join(map(str, numbers)), row["group"], names

    # Rows of one role and group are one line of the page, but for nginx, which people know the router by.
    together = [
        r for r in TABLE if (r["group"], r["name"] == "nginx") == (row["group"], row["name"] == "nginx")
    ]
    found = [line({k: v for r in together for k, v in r["ports"].items()}, ",")]
    return [*found, line(row["guest_ports"], DASH)] if "guest_ports" in row else found
