"""Scenarios that share a lab agree on what it is made of, none prepares what it tries, and each is in one lane of the suite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.suite import CHAINS, PLATFORM, long_lanes

ROOT = Path(__file__).resolve().parents[3]
SCENARIOS = sorted(path.parent.name for path in (ROOT / "molecule").glob("*/molecule.yml"))
CHAIN = pytest.mark.parametrize("lab", sorted(CHAINS))


def load(*parts: str) -> Any:
    return yaml.safe_load(ROOT.joinpath("molecule", *parts).read_text())


@CHAIN
def test_who_may_run_first_makes_all_machines_that_the_others_need(lab: str) -> None:
    first, *others = CHAINS[lab]
    machines = load(first, "layout.yml")["machines"]
    for name in others:
        for machine, wanted in load(name, "layout.yml")["machines"].items():
            assert set(wanted["groups"]) <= set(machines[machine]["groups"]), name
            assert all(bind in machines[machine]["binds"] for bind in wanted.get("binds", [])), name


@CHAIN
def test_who_shares_takes_inventory_and_machines_from_the_lab_that_is_named(lab: str) -> None:
    for name in CHAINS[lab]:
        alone = f"mol-{name.replace('_', '-')}"
        inventory = f"${{MOLECULE_PROJECT_DIRECTORY}}/build/labs/${{INGOT_SHARED_LAB:-{alone}}}/inventory"
        settings = load(name, "molecule.yml")
        assert settings["ansible"]["executor"]["args"]["ansible_playbook"] == [f"--inventory={inventory}"]
        assert settings["verifier"]["options"]["ansible-inventory"] == inventory


def test_who_shares_is_known_to_the_playbooks_that_make_and_remove_labs() -> None:
    sharers = {name for names in CHAINS.values() for name in names}
    for step in ("create", "destroy"):
        (play,) = load("shared", f"{step}.yml")
        assert set(play["vars"][f"{step}_sharers"]) == sharers


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_what_is_prepared_is_what_other_scenarios_try(scenario: str) -> None:
    ansible = load(scenario, "molecule.yml").get("ansible", {})
    assert ("prepare" in ansible.get("playbooks", {})) == ("INGOT_PREPARE" in ansible.get("env", {}))
    for name in ansible.get("env", {}).get("INGOT_PREPARE", "").split():
        assert (ROOT / "playbooks" / f"{name}.yml").is_file()
        assert name in SCENARIOS
        assert name != scenario


def test_every_scenario_is_run_once() -> None:
    run = [part.scenario for lane in long_lanes() for part in lane if part.scenario]
    assert sorted(run) == SCENARIOS


def test_the_largest_labs_are_never_up_at_the_same_time() -> None:
    (lane,) = (lane for lane in long_lanes() if PLATFORM in lane)
    assert {part.scenario for part in lane if part is not PLATFORM} == set(CHAINS["mol-verbs"])
