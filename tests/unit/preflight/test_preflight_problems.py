"""Preflight's findings: each fault of an inventory is named with its field and its remedy, all of them at once."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
GROUPS = ("nats", "ccdb", "controller", "stager", "health_manager", "router", "dea")
SPECS: dict[str, dict[str, dict[str, Any]]] = {
    "ingot": {
        "ingot_domain": {"type": "str", "required": True, "description": "The domain."},
        "ingot_bus_passwords": {
            "type": "dict",
            "required": True,
            "no_log": True,
            "description": "Passwords.",
        },
        "ingot_address": {"type": "str"},
        "ingot_service_tokens": {"type": "dict", "no_log": True},
    },
    "base": {"base_open_ports": {"type": "list", "elements": "int", "default": []}},
    "nfs": {"nfs_path": {"type": "str"}},
    "nfs_server": {"nfs_server_path": {"type": "str"}},
    "nats": {
        "nats_port": {"type": "int"},
        "nats_passwords": {"type": "dict", "required": True, "no_log": True, "description": "P."},
    },
    "controller": {"controller_reserved_hosts": {"type": "list", "elements": "str", "default": []}},
    "router": {"router_reserved_hosts": {"type": "list", "elements": "str", "default": []}},
    "release": {"release_version": {"type": "str", "required": True, "description": "The release."}},
    "services": {"services_path": {"type": "str", "required": True, "description": "The path."}},
    "service_redis": {
        "service_redis_port": {"type": "int", "required": True, "description": "The port."},
        "service_redis_index": {"type": "int"},
        "service_redis_token": {"type": "str", "no_log": True},
    },
    "orchestrator": {"orchestrator_pools": {"type": "dict", "required": True, "description": "Pools."}},
}


@pytest.fixture(scope="module")
def preflight() -> ModuleType:
    path = ROOT / "playbooks" / "filter_plugins" / "ingot_preflight.py"
    spec = importlib.util.spec_from_file_location("ingot_preflight", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Inventory:
    """A platform on two machines with nothing wrong, to be broken by a test."""

    def __init__(self) -> None:
        shared = {"ingot_domain": "x.test", "ingot_bus_passwords": {"dea": "secret"}}
        self.vars: dict[str, dict[str, Any]] = {
            "one": {**shared, "ansible_host": "10.0.0.1", "nats_passwords": {"dea": "secret"}},
            "two": {**shared, "ansible_host": "10.0.0.2", "release_version": "1"},
        }
        self.groups: dict[str, list[str]] = {
            "all": ["one", "two"],
            "nats": ["one"],
            "ccdb": ["one"],
            **{group: ["two"] for group in GROUPS[2:]},
        }

    def problems(self, preflight: ModuleType, users: tuple[str, ...] = ("dea",)) -> list[str]:
        return list(preflight.ingot_problems(self.vars, self.groups, SPECS, users))


@pytest.fixture
def inventory() -> Inventory:
    return Inventory()


def test_a_sound_inventory_has_no_problem(preflight: ModuleType, inventory: Inventory) -> None:
    assert inventory.problems(preflight) == []


@pytest.mark.parametrize("group", GROUPS)
def test_an_empty_group_is_named(preflight: ModuleType, inventory: Inventory, group: str) -> None:
    inventory.groups[group] = []
    assert f"group {group}: is empty; put at least one host into it" in inventory.problems(preflight)


def test_services_and_an_orchestrator_are_a_choice_with_inputs_of_their_own(
    preflight: ModuleType, inventory: Inventory
) -> None:
    inventory.groups |= {"services": ["three"], "orchestrator": ["one"]}
    inventory.groups["all"].append("three")
    inventory.vars["three"] = {**inventory.vars["two"], "ansible_host": "10.0.0.3"}
    del inventory.vars["three"]["release_version"]
    said = inventory.problems(preflight)
    assert [problem.partition(":")[0] for problem in said] == [
        "release_version",
        "orchestrator_pools",
        "services_path",
        "service_redis_port",
    ]
    assert said[0].endswith("(on one, three)")
    assert said[1].endswith("(on one)")


def test_two_machines_with_one_address_are_named(preflight: ModuleType, inventory: Inventory) -> None:
    inventory.vars["two"]["ansible_host"] = "10.0.0.1"
    assert inventory.problems(preflight) == [
        "ansible_host: one, two have the same address 10.0.0.1; give each its own"
    ]


@pytest.mark.parametrize(
    ("address", "word"), [("two.example.com", "must be the IPv4 address"), (None, "is missing")]
)
def test_an_address_must_be_one(
    preflight: ModuleType, inventory: Inventory, address: str | None, word: str
) -> None:
    del inventory.vars["two"]["ansible_host"]
    if address:
        inventory.vars["two"]["ansible_host"] = address
    [problem] = inventory.problems(preflight)
    assert problem.startswith(f"ansible_host: {word}")
    assert problem.endswith("(on two)")


def test_the_address_of_the_platforms_own_traffic_counts(preflight: ModuleType, inventory: Inventory) -> None:
    inventory.vars["one"] |= {"ansible_host": "one.example.com", "ingot_address": "10.9.0.1"}
    assert inventory.problems(preflight) == []
    inventory.vars["one"]["ingot_address"] = "10.0.0.2"
    assert inventory.problems(preflight) == [
        "ansible_host and ingot_address: one, two have the same address 10.0.0.2; give each its own"
    ]
    inventory.vars["one"]["ingot_address"] = "one.example.com"
    assert inventory.problems(preflight) == [
        "ingot_address: must be the IPv4 address of the machine, written out (on one)"
    ]


def test_a_data_service_needs_its_token_and_each_node_an_id_of_its_own(
    preflight: ModuleType, inventory: Inventory
) -> None:
    inventory.groups |= {"services": ["one", "two"]}
    for host in ("one", "two"):
        inventory.vars[host] |= {"services_path": "/s", "service_redis_port": 1, "release_version": "1"}
    inventory.vars["one"]["ingot_service_tokens"] = {"mongo": "x"}
    assert inventory.problems(preflight) == [
        "ingot_service_tokens: has no token for redis (on one)",
        "service_redis_index: one, two are the same node redis_node_0; give each its own number",
    ]
    inventory.vars["one"] |= {"service_redis_token": "given otherwise", "service_redis_index": 1}
    assert inventory.problems(preflight) == []


def test_a_machine_in_no_group_is_named(preflight: ModuleType, inventory: Inventory) -> None:
    inventory.groups["all"].append("three")
    inventory.vars["three"] = {**inventory.vars["two"], "ansible_host": "10.0.0.3"}
    [problem] = inventory.problems(preflight)
    assert "is in no group" in problem
    assert problem.endswith("(on three)")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nats_prot", "nats_prot: is not an input of role nats; did you mean nats_port?"),
        ("nats_zzz", "nats_zzz: is not an input of role nats; remove it"),
        ("ingot_domian", "ingot_domian: is not an input of the platform; did you mean ingot_domain?"),
        (
            "nfs_server_pth",
            "nfs_server_pth: is not an input of role nfs_server; did you mean nfs_server_path?",
        ),
    ],
)
def test_a_variable_nobody_declared_is_refused(
    preflight: ModuleType, inventory: Inventory, name: str, said: str
) -> None:
    for variables in inventory.vars.values():
        variables[name] = 1
    assert inventory.problems(preflight) == [said]


def test_other_peoples_variables_are_left_alone(preflight: ModuleType, inventory: Inventory) -> None:
    inventory.vars["one"] |= {
        "site_room": "b2",
        "nats": 1,
        "ansible_port": 22,
        "nfs_path": "/x",
        "nfs_server_path": "/y",
    }
    assert inventory.problems(preflight) == []


def test_a_missing_input_is_said_once_with_where_to_set_it(
    preflight: ModuleType, inventory: Inventory
) -> None:
    for variables in inventory.vars.values():
        del variables["ingot_domain"]
    del inventory.vars["two"]["release_version"]
    assert inventory.problems(preflight) == [
        "ingot_domain: is missing; set it in group_vars of this inventory: The domain",
        "release_version: is missing; set it in group_vars of this inventory: The release (on two)",
    ]


def test_a_release_is_asked_for_only_where_a_component_runs(
    preflight: ModuleType, inventory: Inventory
) -> None:
    assert "release_version" not in inventory.vars["one"]
    assert inventory.problems(preflight) == []


@pytest.mark.parametrize("value", ["", {}, [], None])
def test_an_empty_secret_is_a_missing_one(preflight: ModuleType, inventory: Inventory, value: object) -> None:
    inventory.vars["one"]["nats_passwords"] = value
    assert inventory.problems(preflight) == [
        "nats_passwords: is empty; set it in the secrets of this inventory: P (on one)"
    ]


def test_a_placeholder_is_no_secret(preflight: ModuleType, inventory: Inventory) -> None:
    inventory.vars["one"]["nats_passwords"] = {"dea": "CHANGE_ME"}
    assert inventory.problems(preflight) == [
        "nats_passwords: still holds CHANGE_ME; replace it by a value of your own (on one)"
    ]


def test_a_mistyped_value_is_named_and_a_secret_one_not_shown(
    preflight: ModuleType, inventory: Inventory
) -> None:
    inventory.vars["one"] |= {"nats_port": "many", "nats_passwords": "hunter2-hunter2"}
    problems = inventory.problems(preflight)
    assert any(p.startswith("nats_port: ") and "many" in p for p in problems)
    assert "nats_passwords: want dict (on one)" in problems
    assert "hunter2" not in "".join(problems)


def test_every_user_of_the_bus_needs_a_password(preflight: ModuleType, inventory: Inventory) -> None:
    assert inventory.problems(preflight, ("dea", "router")) == [
        "ingot_bus_passwords: has no password for router"
    ]


def test_controllers_and_routers_reserve_the_same_hosts(preflight: ModuleType, inventory: Inventory) -> None:
    inventory.vars["two"] |= {
        "controller_reserved_hosts": ["a.x", "b.x"],
        "router_reserved_hosts": ["c.x", "b.x"],
    }
    assert inventory.problems(preflight) == [
        "router_reserved_hosts: lacks a.x, which controller_reserved_hosts names; give both the same hosts",
        "controller_reserved_hosts: lacks c.x, which router_reserved_hosts names; give both the same hosts",
    ]
    inventory.vars["two"]["router_reserved_hosts"] = ["b.x", "a.x"]
    assert inventory.problems(preflight) == []


def test_what_cannot_be_rendered_is_named_but_not_twice(preflight: ModuleType, inventory: Inventory) -> None:
    class Lazy(dict[str, Any]):
        faults: dict[str, str]

        def __getitem__(self, name: str) -> Any:
            if name in self.faults:
                raise RuntimeError(self.faults[name])
            return super().__getitem__(name)

    lazy = Lazy(inventory.vars["one"])
    inventory.vars["one"] = lazy
    lazy.faults = {"nats_passwords": "'vault_x' is undefined"}
    assert inventory.problems(preflight) == [
        "nats_passwords: cannot be rendered: 'vault_x' is undefined (on one)"
    ]
    lazy.faults = {"nats_passwords": "'ingot_bus_passwords' is undefined"}
    assert inventory.problems(preflight) == []


def test_all_problems_are_said_at_once(preflight: ModuleType, inventory: Inventory) -> None:
    inventory.groups["dea"] = []
    inventory.vars["two"]["ansible_host"] = "10.0.0.1"
    inventory.vars["one"]["nats_prot"] = 1
    del inventory.vars["two"]["release_version"]
    assert len(inventory.problems(preflight)) == 4


def test_the_specs_of_the_checkout_are_read(preflight: ModuleType) -> None:
    specs = preflight.ingot_specs(str(ROOT / "roles"), str(ROOT / "playbooks" / "inputs" / "platform.yml"))
    assert specs["orchestrator"]["orchestrator_inventory"]["required"] is True
    # Taken from the platform's, which is asked for.
    assert specs["nats"]["nats_passwords"]["required"] is False
    # Given by the roles that include the entry point, not by an inventory.
    assert specs["base"]["base_packages"]["required"] is False
    assert specs["ingot"]["ingot_domain"]["required"] is True


def release(folder: Path) -> None:
    (folder / "1").mkdir()
    (folder / "1" / "py311.tar").write_bytes(b"x")
    digest = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
    manifest = {"targets": {"311": {"archive": "py311.tar", "sha256": digest}}}
    (folder / "1" / "RELEASE.json").write_text(json.dumps(manifest))


def test_a_release_must_be_there_and_whole(preflight: ModuleType, tmp_path: Path) -> None:
    [problem] = preflight.ingot_release_problems("1", str(tmp_path))
    assert problem.endswith("build it: make release VERSION=1")
    release(tmp_path)
    assert preflight.ingot_release_problems("1", str(tmp_path)) == []
    (tmp_path / "1" / "py311.tar").write_bytes(b"y")
    [problem] = preflight.ingot_release_problems("1", str(tmp_path))
    assert "missing or damaged" in problem
    (tmp_path / "1" / "RELEASE.json").write_text("[]")
    [problem] = preflight.ingot_release_problems("1", str(tmp_path))
    assert "is damaged" in problem
