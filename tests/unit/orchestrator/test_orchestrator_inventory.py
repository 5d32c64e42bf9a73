"""The inventory's folder: whose machines there are, and what is ours to write."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from orchestrator.inventory.platform_inventory import InventoryError, PlatformInventory

FIXED = """
all:
  children:
    platform:
      children:
        dea:
          hosts:
            dea1: {ingot_zone: a}
        nats:
          hosts:
            core1:
    lab:
      hosts:
        dea1: {ansible_host: 198.18.0.6}
        core1: {ansible_host: 198.18.0.2}
      vars: {ansible_user: root}
"""
SECRETS = "all:\n  vars:\n    ingot_token_keys: !vault |\n      $ANSIBLE_VAULT;1.1;AES256\n      33\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "10-fixed.yml").write_text(FIXED)
    (tmp_path / "15-secrets.yml").write_text(SECRETS)
    (tmp_path / "17-more.yml").write_text("$ANSIBLE_VAULT;1.1;AES256\n33\n")
    (tmp_path / "README.md").write_text("not an inventory: [")
    return tmp_path


def test_hosts_come_with_groups_above_them_and_their_address(folder: Path) -> None:
    hosts = PlatformInventory(folder).hosts()
    assert list(hosts) == ["core1", "dea1"]
    assert hosts["dea1"].groups == ("dea", "lab", "platform")
    assert (hosts["dea1"].address, hosts["dea1"].fixed) == ("198.18.0.6", True)
    assert hosts["dea1"].variables["ingot_zone"] == "a"
    assert [h.name for h in PlatformInventory(folder).members("nats")] == ["core1"]


def test_daemons_of_a_host_may_be_known_by_another_address_than_ssh_goes_to(folder: Path) -> None:
    (folder / "18-addresses.yml").write_text("all: {hosts: {dea1: {ingot_address: 10.1.0.6}}}")
    hosts = PlatformInventory(folder).hosts()
    assert [(h.address, h.platform_address) for h in hosts.values()] == [
        ("198.18.0.2", "198.18.0.2"),
        ("198.18.0.6", "10.1.0.6"),
    ]


def test_our_machines_are_added_and_taken_out(folder: Path) -> None:
    inventory = PlatformInventory(folder)
    inventory.add("dea4", "198.18.0.9", ["dea", "lab"])
    inventory.add("dea3", "198.18.0.8", ["dea", "lab"], {"ingot_zone": "b"})
    text = (folder / "20-dea.yml").read_text()
    assert text.startswith("# Written by the orchestrator")
    assert yaml.safe_load(text) == {
        "all": {
            "children": {
                "dea": {
                    "hosts": {
                        "dea3": {"ansible_host": "198.18.0.8", "ingot_zone": "b"},
                        "dea4": {"ansible_host": "198.18.0.9"},
                    }
                },
                "lab": {"hosts": {"dea3": {}, "dea4": {}}},
            }
        }
    }
    found = inventory.hosts()["dea3"]
    assert (found.address, found.fixed, found.groups) == ("198.18.0.8", False, ("dea", "lab"))
    inventory.add("dea3", "198.18.0.77", ["dea"])
    assert inventory.hosts()["dea3"].address == "198.18.0.77"
    inventory.remove("dea4")
    inventory.remove("dea3")
    inventory.remove("dea3")
    assert yaml.safe_load((folder / "20-dea.yml").read_text()) == {"all": {"children": {}}}
    assert sorted(p.name for p in folder.iterdir() if p.name.startswith(".")) == []


def test_what_people_wrote_into_our_file_stays(folder: Path) -> None:
    ours = {"all": {"children": {"dea": {"hosts": {"dea2": {"ansible_host": "10.0.0.2"}}, "vars": {"x": 1}}}}}
    (folder / "20-dea.yml").write_text(yaml.safe_dump(ours))
    inventory = PlatformInventory(folder)
    inventory.add("dea3", "10.0.0.3", ["dea"])
    inventory.remove("dea3")
    assert yaml.safe_load((folder / "20-dea.yml").read_text()) == ours


def test_a_name_of_another_file_is_not_taken(folder: Path) -> None:
    with pytest.raises(InventoryError, match="dea1 is a host of another file"):
        PlatformInventory(folder).add("dea1", "10.0.0.1", ["dea"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a\n", "must have groups at the top level"),
        ("all: {hosts: {'dea[1:3]': }}", "one host a line"),
        ("all: [", "is not YAML"),
        ("all: 3", "group all: must have hosts"),
    ],
)
def test_what_cannot_be_read_is_named(folder: Path, text: str, said: str) -> None:
    (folder / "10-fixed.yml").write_text(text)
    with pytest.raises(InventoryError, match=said) as raised:
        PlatformInventory(folder).hosts()
    assert "10-fixed.yml" in str(raised.value)


def test_the_release_that_runs_is_read_and_written(folder: Path) -> None:
    inventory = PlatformInventory(folder)
    assert inventory.release() is None
    inventory.record_release("1.2.0")
    assert inventory.release() == "1.2.0"
