"""The order of a roll is the same by the job and by the playbook, whatever the layout."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jinja2.nativetypes import NativeEnvironment

from orchestrator.control import release_builder
from orchestrator.rules.roll_order import CANARY, DEA, ORCHESTRATOR, TIERS, Batch, batches, tiers

ROOT = Path(__file__).resolve().parents[3]
CONTROL = ("controller", "stager", "health_manager")
LAB = {
    "core1": ("nats", "ccdb", "share", "orchestrator"),
    "ctl1": CONTROL,
    "ctl2": CONTROL,
    "router1": ("router",),
    "svc1": ("services",),
    **{f"dea{n}": ("dea",) for n in range(1, 7)},
}
LAYOUTS = [
    (LAB, ["ctl1", "ctl2", "router1", "svc1", *(f"dea{n}" for n in range(1, 7)), "core1"]),
    ({"one": (*CONTROL, "router", "dea", "orchestrator")}, ["one"]),
    ({"a": ("router", "dea"), "b": ("controller", "dea"), "c": ("dea",)}, ["b", "a", "c"]),
    ({"a": ("nats", "router"), "b": CONTROL, "c": CONTROL, "d": ("dea",)}, ["b", "c", "a", "d"]),
    # The machine that runs the roll is no canary where another could be.
    ({"a": ("controller", "orchestrator"), "b": ("controller",)}, ["b", "a"]),
    # Machines go by their names, however the inventory lists them.
    ({"z": CONTROL, "y": CONTROL, "x": ("dea",), "w": ("dea",)}, ["y", "z", "w", "x"]),
    ({"bus1": ("nats",)}, []),
    ({}, []),
]
GROUPS = ("nats", *(group for tier in TIERS.values() for group in tier), ORCHESTRATOR)
ANY_LAYOUT = st.dictionaries(
    st.sampled_from([f"m{n}" for n in range(12)]), st.sets(st.sampled_from(GROUPS), min_size=1), max_size=12
)

Layout = Mapping[str, Any]


def order(groups: Layout, share: float = 0.25) -> list[str]:
    return [name for batch in batches(groups, share) for name in batch.machines]


def by_group(groups: Layout) -> dict[str, list[str]]:
    """The layout as Ansible has it; hosts in the order in which they stand in the inventory."""
    found: dict[str, list[str]] = {"all": list(groups), "ungrouped": []}
    for name, of in groups.items():
        for group in sorted(of):
            found.setdefault(group, []).append(name)
    return found


def filters(plugin: Path = ROOT / "playbooks/filter_plugins/ingot_roll.py") -> dict[str, Any]:
    spec = importlib.util.spec_from_file_location("ingot_roll", plugin)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return dict(module.FilterModule().filters())


def play_batches(groups: Layout, share: float) -> list[tuple[str, ...]]:
    """The machines that the plays of the playbook change together, as Ansible's own inventory selects them."""
    environment = NativeEnvironment()
    environment.filters |= filters()
    loader = DataLoader()
    loader.set_vault_secrets([])
    known = InventoryManager(loader=loader, sources=None, parse=False)
    for group, hosts in by_group(groups).items():
        known.add_group(group)
        for host in hosts:
            known.add_host(host, group)
    known.reconcile_inventory()
    found = []
    for play in yaml.safe_load((ROOT / "playbooks" / "roll_machines.yml").read_text()):
        given = {"groups": by_group(groups), "roll_share": share}
        wanted = environment.from_string(play["hosts"]).render(given)
        hosts = [host.name for host in known.get_hosts(wanted)] if wanted else []
        serial = play["serial"]
        step = int(environment.from_string(str(serial)).render(given))
        found += [tuple(hosts[i : i + step]) for i in range(0, len(hosts), step)]
    return found


@pytest.mark.parametrize(("groups", "wanted"), LAYOUTS)
def test_a_machine_is_changed_once_in_the_order_of_the_tiers(groups: Layout, wanted: list[str]) -> None:
    assert order(groups) == wanted


def test_the_canary_is_a_controller_and_the_orchestrator_is_last() -> None:
    found = batches(LAB)
    assert found[0] == Batch("canary", ("ctl1",))
    assert found[-1] == Batch("roll", ("core1",))
    assert {batch.name for batch in found[1:]} == {"roll"}


@pytest.mark.parametrize(
    ("share", "sizes"), [(0.01, [1] * 6), (0.25, [1] * 6), (0.34, [2, 2, 2]), (0.7, [4, 2]), (1, [6])]
)
def test_deas_go_in_shares_of_the_pool_and_others_one_by_one(share: float, sizes: list[int]) -> None:
    found = batches(LAB, share)
    assert [len(b.machines) for b in found if b.machines[0].startswith("dea")] == sizes
    assert all(len(b.machines) == 1 for b in found if not b.machines[0].startswith("dea"))


@given(groups=ANY_LAYOUT, share=st.floats(0.01, 1))
def test_any_layout_is_rolled_whole_and_in_order(groups: Layout, share: float) -> None:
    members = tiers(groups)
    found = batches(groups, share)
    released = {name for name, of in groups.items() if set(of) - {"nats"}}
    rolled = order(groups, share)
    assert sorted(rolled) == sorted(released)
    controllers = {name for name, of in groups.items() if "controller" in of}
    own = {name for name, of in groups.items() if ORCHESTRATOR in of}
    if controllers:
        assert found[0].name == CANARY
        assert found[0].machines[0] in (controllers - own or controllers)
    # After the canary, no machine comes before one of an earlier tier, and those of the orchestrator are last.
    place = {name: n for n, tier in enumerate(members) for name in members[tier]}
    assert [place[name] for name in rolled] == sorted(place.values())
    assert own <= set(members[ORCHESTRATOR]) | set(members[CANARY])
    most = max(1, int(len(members[DEA]) * share))
    assert all(len(batch.machines) <= (most if place[batch.machines[0]] == 4 else 1) for batch in found)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(groups=ANY_LAYOUT, share=st.floats(0.01, 1))
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_playbook_changes_the_same_machines_together_in_the_same_order(
    groups: Layout, share: float
) -> None:
    assert play_batches(groups, share) == [batch.machines for batch in batches(groups, share)]


@pytest.mark.parametrize("groups", [LAB, {"a": ("controller", "orchestrator"), "b": ("controller",)}])
def test_the_plays_of_a_release_have_the_order_with_them(groups: Layout, tmp_path: Path) -> None:
    plays = tmp_path / "plays"
    release_builder._copy(ROOT, release_builder._PLAYS, plays)
    loaded = filters(plays / "playbooks/filter_plugins/ingot_roll.py")
    hosts = [loaded["ingot_roll_hosts"](by_group(groups), tier) for tier in tiers(groups)]
    assert [name for tier in hosts for name in tier] == order(groups)
    # As Ansible itself reads the plays.
    children = {group: {"hosts": dict.fromkeys(hosts)} for group, hosts in by_group(groups).items()}
    del children["all"]
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(yaml.safe_dump({"all": {"children": children}}))
    said = subprocess.run(
        [
            Path(sys.executable).parent / "ansible-playbook",
            *("-i", inventory, "-e", json.dumps({"roll_to": "2"}), "--list-hosts"),
            plays / "playbooks/roll_machines.yml",
        ],
        env={**os.environ, "ANSIBLE_CONFIG": str(plays / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    # It says the hosts of a play in no order.
    of_plays = [re.findall(r"^      (\S+)$", play, re.MULTILINE) for play in said.split("  play #")[1:]]
    assert [sorted(play) for play in of_plays] == [sorted(tier) for tier in hosts]
