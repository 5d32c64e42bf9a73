"""An inventory that moves ports moves health checks, rolls, wiring and firewall with them; two daemons on one port are refused."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from orchestrator.inventory.platform_secrets import generate_secrets

ROOT = Path(__file__).resolve().parents[3]
TABLE = yaml.safe_load((ROOT / "playbooks" / "vars" / "daemons.yml").read_text())["platform_daemons"]
# What is asked of every machine, as plays and roles have it.
ASKED = r"""
- hosts: all
  gather_facts: false
  vars_files: [PLAYBOOKS/vars/daemons.yml, PLAYBOOKS/vars/roll.yml]
  # For their defaults alone: none of their tasks has the tag.
  roles: [ROLES]
  vars:
    wiring: '^(?!ingot_)[a-z]\w+_(bus_urls|controllers)$|^controller_database_url$'
    role_path: PLAYBOOKS/../roles/base
  tasks:
    - ansible.builtin.include_vars: {file: PLAYBOOKS/../roles/base/vars/main.yml}
      tags: [ask]
    - ansible.builtin.set_fact:
        told:
          wiring: "{{ dict(named | zip(query('ansible.builtin.vars', *named))) }}"
          daemons: "{{ platform_daemons | ingot_daemons(hostvars[inventory_hostname], group_names) }}"
          roll: {ports: "{{ roll_ports }}", door: "{{ roll_door }}"}
          firewall: "{{ hostvars | ingot_machines(groups, __base_daemons) }}"
      vars:
        named: "{{ query('ansible.builtin.varnames', wiring) }}"
      tags: [ask]
    - ansible.builtin.copy:
        content: "{{ dict(ansible_play_hosts | zip(ansible_play_hosts | map('extract', hostvars, 'told'))) | to_json }}"
        dest: "{{ told_file }}"
        mode: "0600"
      connection: local
      become: false
      run_once: true
      tags: [ask]
"""


@pytest.fixture(scope="module")
def plugin() -> ModuleType:
    path = ROOT / "playbooks" / "filter_plugins" / "ingot_daemons.py"
    spec = importlib.util.spec_from_file_location("ingot_daemons", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def told(folder: Path, moved: dict[str, Any]) -> dict[str, Any]:
    """Ask Ansible what every machine of the example inventory makes of its ports."""
    inventory = folder / "inventory"
    shutil.copytree(ROOT / "inventories" / "private_dc", inventory)
    secrets = generate_secrets({"ingot_bus_passwords": {"cluster": "between-the-servers"}})
    # Its digits shall be none of a port.
    secrets["ingot_ccdb_password"] = "secret"
    (inventory / "group_vars" / "all" / "secrets.yml").write_text(yaml.safe_dump(secrets))
    (inventory / "group_vars" / "all" / "ports.yml").write_text(yaml.safe_dump(moved))
    play, found = folder / "ask.yml", folder / "told.json"
    roles = ", ".join(dict.fromkeys(row["role"] for row in TABLE))
    play.write_text(ASKED.replace("PLAYBOOKS", str(ROOT / "playbooks")).replace("ROLES", roles))
    done = subprocess.run(
        [
            *(Path(sys.executable).parent / "ansible-playbook", "-i", inventory, play),
            *("-e", f"told_file={found}", "--tags", "ask", "--skip-tags", "always"),
        ],
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_FILTER_PLUGINS": f"{ROOT}/playbooks/filter_plugins:{ROOT}/roles/base/filter_plugins",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    answer: dict[str, Any] = json.loads(found.read_text())
    return answer


def usual() -> dict[str, Any]:
    """Every port that an inventory can move, by its input."""
    ports = [{**row["ports"], **row.get("guest_ports", {})} for row in TABLE]
    return {name: port for of in ports for name, port in of.items() if not name.startswith("__")}


def numbers(told: Any) -> set[int]:
    """All that could be a port in what was told."""
    return {int(found) for found in re.findall(r"(?<![\d.])\d{2,5}(?![\d.])", json.dumps(told))}


def test_where_nothing_is_moved_everything_has_the_tables_ports(tmp_path: Path) -> None:
    machines = told(tmp_path, {})
    for name, value in machines["ctl1"]["wiring"].items():
        assert {"nats://10.20.0.11:4222", "nats://10.20.0.12:4222"} == set(value) or not name.endswith("urls")
    assert machines["control1"]["wiring"]["orchestrator_controllers"] == [
        f"http://10.20.0.3{n}:9022" for n in (1, 2, 3)
    ]
    assert "@10.20.0.21:5432/ccdb" in machines["ctl1"]["wiring"]["controller_database_url"]
    assert machines["ctl1"]["roll"]["ports"] == [9022, 9041, 9061]
    assert machines["router1"]["roll"] == {"ports": [9031], "door": "80"}
    assert machines["svc1"]["firewall"]["svc1"]["services"] == ["5000-5999"]


def test_where_every_port_is_moved_no_old_number_is_left(tmp_path: Path) -> None:
    old = usual()
    count = itertools.count(20000, 10)
    moved: dict[str, Any] = {name: next(count) for name in old}
    moved["router_port"] = f"127.0.0.1:{moved['router_port']}"
    moved["router_tls_port"] = str(moved["router_tls_port"])
    machines = told(tmp_path, moved)
    left = numbers(machines) & {int(port) for port in old.values() if port}
    assert left == set()
    # And each new one is where it is needed: in wiring, health checks, rolls and firewall.
    wiring = {name: value for machine in machines.values() for name, value in machine["wiring"].items()}
    assert len(wiring) == 11
    of_bus, of_controllers = f":{moved['nats_port']}", f":{moved['controller_port']}"
    for name, value in wiring.items():
        if name.endswith("_bus_urls"):
            assert all(url.endswith(of_bus) for url in value), name
        elif name.endswith("_controllers"):
            assert all(url.endswith(of_controllers) for url in value), name
        else:
            assert f":{moved['ccdb_port']}/" in value
    asked = {d["name"]: d["health"]["port"] for m in machines.values() for d in m["daemons"] if "health" in d}
    inputs = {row["name"]: row["health"]["port"] for row in TABLE if "health" in row}
    assert asked == {name: moved.get(inputs[name], 8222) for name in inputs}
    assert machines["dea1"]["roll"]["ports"] == [moved["dea_status_port"]]
    assert machines["router1"]["roll"]["door"] == moved["router_port"]
    firewall = machines["ctl1"]["firewall"]
    assert firewall["router1"]["public"] == [
        int(moved[n].rpartition(":")[2]) for n in ("router_port", "router_tls_port")
    ]
    first, last = moved["service_redis_first_port"], moved["service_redis_last_port"]
    assert firewall["svc1"]["services"] == [f"{first}-{last}"]
    assert [m for m, known in firewall.items() if known["public"] or known["services"]] == [
        "router1",
        "router2",
        "svc1",
    ]


def test_only_the_daemons_of_a_machine_are_its_own(plugin: ModuleType) -> None:
    def names(variables: dict[str, Any], *groups: str) -> list[str]:
        return [row["name"] for row in plugin.ingot_daemons(TABLE, variables, groups)]

    assert names({}, "all", "services", "ccdb") == ["ccdb", "service_redis_gateway", "service_redis_node"]
    for off in (False, "no"):
        assert names({"service_redis_gateway_enabled": off}, "services") == ["service_redis_node"]
    assert plugin.ingot_roles(plugin.ingot_daemons(TABLE, {}, ["services", "dea"])) == [
        "services",
        "service_redis",
        "dea",
    ]


def test_a_port_that_is_none_is_said(plugin: ModuleType) -> None:
    with pytest.raises(ValueError, match="dea_status_port: want a port, not ninety"):
        plugin.ingot_daemons(TABLE, {"dea_status_port": "ninety"}, ["dea"])


def test_answers_become_rows_of_the_report(plugin: ModuleType) -> None:
    daemons = plugin.ingot_daemons(TABLE, {}, ["nats", "ccdb", "controller", "dea"])
    by_name = {daemon["name"]: {"__health_daemon": daemon} for daemon in daemons}
    versions = [
        {**by_name["nats"], "stdout": "nats-server: v2.9.10"},
        {**by_name["ccdb"], "stdout": "psql (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)"},
    ]
    answers = [
        {**by_name["nats"], "status": 200},
        {**by_name["controller"], "status": 503, "json": {"reasons": ["no bus"]}},
        {**by_name["dea"], "status": -1, "msg": "Connection refused"},
        {**by_name["ccdb"], "rc": 2, "stdout": "/run/postgresql:5432 - no response"},
    ]
    rows = plugin.ingot_health(daemons, "core1", "1.0.0", versions, answers)
    assert {row["host"] for row in rows} == {"core1"}
    assert [(row["component"], row["version"], row["state"], row["reasons"]) for row in rows] == [
        ("nats", "2.9.10", "ok", []),
        ("ccdb", "15.14", "not ready", ["/run/postgresql:5432 - no response"]),
        ("controller", "1.0.0", "not ready", ["no bus"]),
        ("dea", "1.0.0", "not ready", ["Connection refused"]),
    ]
    (silent,) = plugin.ingot_health(daemons[-1:], "core1", "", [], [])
    assert (silent["state"], silent["reasons"]) == ("not ready", ["no answer"])


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, []),
        (
            {"controller_port": 9051},
            [
                "controller_port, dea_status_port: port 9051 is wanted twice, by controller and dea; give each its own"
            ],
        ),
        (
            {"dea_files_port": "9051"},
            ["dea_status_port, dea_files_port: port 9051 is wanted twice, by dea; give each its own"],
        ),
        (
            {"router_port": "8222"},
            [
                "router_port: port 8222 is wanted twice, by nats and nginx; that of nats is fixed; give each its own"
            ],
        ),
        ({"router_port": "127.0.0.1:81", "router_tls_port": "10.0.0.1:81"}, []),
        (
            {"router_port": "127.0.0.1:81", "router_tls_port": "81"},
            ["router_port, router_tls_port: port 81 is wanted twice, by nginx; give each its own"],
        ),
        # Said by the check of types, and no reason to say nothing of the others.
        (
            {"nats_port": "x", "stager_status_port": 9071},
            [
                "stager_status_port, orchestrator_port: port 9071 is wanted twice, by stager and orchestrator; give each its own"
            ],
        ),
    ],
)
def test_daemons_of_one_machine_on_one_port_are_named(
    plugin: ModuleType, variables: dict[str, Any], said: list[str]
) -> None:
    groups = {"all": ["one", "two"]} | {row["group"]: ["one"] for row in TABLE}
    found = plugin.ingot_port_problems(TABLE, {"one": variables, "two": variables}, groups)
    assert found == [f"{text} (on one)" for text in said]


def test_daemons_on_machines_of_their_own_may_have_the_same_port(plugin: ModuleType) -> None:
    groups = {"all": ["a", "b", "c"], "controller": ["a", "c"], "dea": ["b", "c"], "services": ["b"]}
    variables = {
        "controller_port": 9051,
        "service_redis_gateway_enabled": False,
        "service_redis_gateway_port": 9051,
    }
    (problem,) = plugin.ingot_port_problems(TABLE, dict.fromkeys("abc", variables), groups)
    assert problem.endswith("(on c)")
    del variables["service_redis_gateway_enabled"]
    assert len(plugin.ingot_port_problems(TABLE, dict.fromkeys("abc", variables), groups)) == 2


def test_a_port_that_cannot_be_rendered_is_left_to_other_checks(plugin: ModuleType) -> None:
    class Broken(dict[str, Any]):
        def get(self, name: str, default: Any = None) -> Any:
            if name == "nats_port":
                raise KeyError(name)
            return super().get(name, default)

    groups = {"all": ["one"], "nats": ["one"], "controller": ["one"]}
    assert plugin.ingot_port_problems(TABLE, {"one": Broken()}, groups) == []
