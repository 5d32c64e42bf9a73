"""What a roll and a rollback refuse, do, and leave."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.errors import RefusedError
from orchestrator.inventory import release_record
from orchestrator.jobs.kinds import PLATFORM
from orchestrator.jobs.roll import Roll
from orchestrator.jobs.rollback import Rollback
from orchestrator.rules.roll_order import foundation, left, standing
from tests.unit.orchestrator.hands_rig import RELEASE, Hands

BRAINS = ("controller", "stager", "health_manager")
LAB = {
    "core1": ("nats", "ccdb", "share", "orchestrator"),
    "ctl1": BRAINS,
    "ctl2": BRAINS,
    "router1": ("router",),
    "svc1": ("services",),
    **{f"dea{n}": ("dea",) for n in range(1, 7)},
}
ORDER = ["ctl1", "ctl2", "router1", "svc1", *(f"dea{n}" for n in range(1, 7)), "core1"]
NEXT = "2.0.0"


def test_what_is_left_is_said() -> None:
    assert foundation(LAB) == ("core1",)
    assert left(ORDER, ["ctl1", "dea2"]) == [n for n in ORDER if n not in ("ctl1", "dea2")]
    assert standing(["a", "b"], ["a"], NEXT) == "a run 2.0.0; b do not, or not for certain"
    assert standing(["a", "b"], ["b", "a"], NEXT) == "a, b run 2.0.0"
    assert standing(["a"], [], NEXT).startswith("no machine runs 2.0.0")


@pytest.fixture
def hands(tmp_path: Path) -> Hands:
    made = Hands(tmp_path)
    for release in (RELEASE, NEXT):
        folder = tmp_path / "releases" / release
        (folder / "plays" / "playbooks").mkdir(parents=True)
        (folder / "RELEASE.json").write_text("{}")
        (folder / "plays" / "playbooks" / "roll_machines.yml").touch()
    fixed = {"core1": LAB["core1"], "ctl1": BRAINS, "ctl2": BRAINS, "dea1": ("dea",), "dea2": ("dea",)}
    groups: dict[str, Any] = {}
    for name, of in fixed.items():
        for group in of:
            groups.setdefault(group, {"hosts": {}})["hosts"][name] = {"ansible_host": "10.0.0.9"}
    (made.inventory.folder / "10-fixed.yml").write_text(yaml.safe_dump({"all": {"children": groups}}))
    return made


def test_a_roll_runs_its_parts_in_order_by_the_plays_of_the_release(hands: Hands) -> None:
    ended = hands.job(Roll(), {"release": NEXT})
    assert ended.why == ""
    ran = hands.plays.ran
    assert [(p.playbook, tuple(p.limit)) for p in ran] == [
        ("roll_preflight.yml", ()),
        ("roll_stage.yml", ()),
        ("roll_foundation.yml", ("core1",)),
        ("roll_machines.yml", ("ctl1",)),
        ("roll_machines.yml", ("ctl2",)),
        ("roll_machines.yml", ("dea1",)),
        ("roll_machines.yml", ("dea2",)),
        ("roll_machines.yml", ("core1",)),
        ("roll_settle.yml", ()),
    ]
    assert {p.release for p in ran} == {NEXT}
    assert all(p.variables["roll_to"] == NEXT and p.variables["roll_back"] is False for p in ran)
    assert len({p.key for p in ran}) == len(ran)
    assert hands.inventory.release() == RELEASE  # the playbook of the last step writes it


def test_the_whole_platform_is_locked_and_steps_come_from_the_facts_alone(hands: Hands) -> None:
    plan = Roll().plan(hands.services, {"release": NEXT, "share": 1.0})
    assert plan.locks == {PLATFORM}
    found = [(s.name, s.machines) for s in Roll().steps(hands.services, plan.facts)]
    assert found[3:] == [
        ("canary", ("ctl1",)),
        ("roll", ("ctl2",)),
        ("roll", ("dea1", "dea2")),
        ("roll", ("core1",)),
        ("settle", ("ctl1", "ctl2", "dea1", "dea2", "core1")),
    ]


@pytest.mark.parametrize(
    ("release", "status", "says"), [("9", 404, "1.0.0, 2.0.0"), (RELEASE, 400, "runs already")]
)
def test_a_release_that_is_unknown_or_runs_is_refused(
    hands: Hands, release: str, status: int, says: str
) -> None:
    with pytest.raises(RefusedError, match=says) as refused:
        Roll().plan(hands.services, {"release": release})
    assert refused.value.status == status


def test_a_release_that_is_being_built_is_none(hands: Hands, tmp_path: Path) -> None:
    (tmp_path / "releases" / ".building-x").mkdir()
    (tmp_path / "releases" / "half").mkdir()
    with pytest.raises(RefusedError, match=r"known: 1\.0\.0, 2\.0\.0\."):
        Roll().plan(hands.services, {"release": "half"})


def test_a_canary_that_fails_ends_the_roll_and_says_the_remedy(hands: Hands) -> None:
    def run(play: Any) -> None:
        hands.plays.bad = {"ctl1": "it does not start"} if "ctl1" in play.limit else {}

    hands.plays.on_run = run
    ended = hands.job(Roll(), {"release": NEXT})
    assert (ended.step, hands.plays.ran[-1].limit) == ("canary", ("ctl1",))
    assert "no machine runs 2.0.0 for certain" in ended.remedy.lower()
    assert "`ingot jobs resume 7`" in ended.remedy
    assert "`ingot platform rollback`" in ended.remedy
    # Machines may differ now, and a rollback goes to what the others run.
    assert release_record.return_release(hands.inventory.folder) == RELEASE
    with pytest.raises(RefusedError, match="`ingot platform rollback`"):
        Roll().plan(hands.services, {"release": RELEASE})

    hands.plays.on_run = lambda _: None
    hands.plays.bad = {}
    hands.plays.ran.clear()
    assert hands.job(Rollback(), {}).why == ""
    assert {p.variables["roll_to"] for p in hands.plays.ran} == {RELEASE}
    assert all(p.variables["roll_back"] for p in hands.plays.ran)


def test_a_preflight_that_fails_touches_nothing(hands: Hands) -> None:
    hands.plays.bad = {"dea2": "is not well"}
    ended = hands.job(Roll(), {"release": NEXT})
    assert (ended.step, len(hands.plays.ran)) == ("preflight", 1)
    assert ended.remedy.startswith("Nothing that runs was touched.")
    assert release_record.recorded(hands.inventory.folder) == {"ingot_release": RELEASE}


def test_there_may_be_nothing_to_go_back_to(hands: Hands) -> None:
    with pytest.raises(RefusedError, match="name one") as refused:
        Rollback().plan(hands.services, {})
    assert refused.value.status == 409
    with pytest.raises(RefusedError, match="runs already"):
        Rollback().plan(hands.services, {"release": RELEASE})
    with pytest.raises(RefusedError, match="there is no 9"):
        Rollback().plan(hands.services, {"release": "9"})


def test_back_to_a_release_that_carried_no_plays_goes_by_those_that_run(hands: Hands, tmp_path: Path) -> None:
    (tmp_path / "releases" / NEXT / "plays" / "playbooks" / "roll_machines.yml").unlink()
    hands.job(Rollback(), {"release": NEXT})
    assert {p.release for p in hands.plays.ran} == {None}


def test_the_inventory_says_where_a_rollback_goes(tmp_path: Path) -> None:
    assert release_record.return_release(tmp_path) == ""
    release_record.record_release(tmp_path, "1")
    assert release_record.return_release(tmp_path) == ""
    release_record.record_rolling(tmp_path, "2")
    assert release_record.recorded(tmp_path) == {"ingot_release": "1", "ingot_release_rolling": "2"}
    assert release_record.return_release(tmp_path) == "1"
    (tmp_path / release_record.RELEASE).write_text(
        yaml.safe_dump({"all": {"vars": {"ingot_release": "2", "ingot_release_previous": "1"}}})
    )
    assert release_record.return_release(tmp_path) == "1"
