"""Wiring and unwiring: who takes part and in what order, and what the jobs have done when they stop."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest

from orchestrator.errors import RefusedError
from orchestrator.jobs.kinds import Facts, JobContext, JobKind, JobPlan
from orchestrator.jobs.wire_nfs import UnwireNfs, WireNfs
from orchestrator.plays.runner import Play, PlayError
from orchestrator.rules.nfs_wiring import Wiring, WiringError, chosen, standing, wiring
from orchestrator.services import Services

GROUPS = {
    "core1": ("nats", "nfs"),
    "ctl2": ("controller", "stager"),
    "ctl1": ("controller", "stager"),
    "stg1": ("stager",),
    "dea2": ("dea",),
    "dea1": ("dea",),
    "router1": ("router",),
}
FOUND = Wiring("core1", ("ctl1", "ctl2", "dea1", "dea2"), ("stg1",))


def test_who_writes_is_wired_first_and_the_server_not_at_all() -> None:
    assert wiring(GROUPS) == FOUND
    assert wiring({**GROUPS, "core1": ("nfs", "controller")}) == FOUND


def test_stagers_need_no_share_and_may_have_one_since_an_earlier_release() -> None:
    assert wiring({**GROUPS, "stg1": ("stager", "dea")}).former == ()
    assert wiring({**GROUPS, "core1": ("nfs", "stager")}).former == ("stg1",)
    with pytest.raises(WiringError, match="nothing to wire"):
        wiring({"stg1": ("stager",)})


def test_a_filer_is_no_host_of_ours() -> None:
    assert wiring({"ctl1": ("controller",)}) == Wiring(None, ("ctl1",))


@pytest.mark.parametrize(
    ("groups", "text"),
    [
        ({"a": ("nfs",), "b": ("nfs",), "c": ("dea",)}, "a, b"),
        ({"a": ("nfs",), "r": ("router",)}, "nothing to wire"),
    ],
)
def test_what_cannot_be_wired(groups: dict[str, tuple[str, ...]], text: str) -> None:
    with pytest.raises(WiringError, match=text):
        wiring(groups)


def test_some_hosts_are_chosen_in_the_order_of_wiring() -> None:
    assert chosen(FOUND, [], GROUPS) == FOUND.clients
    assert chosen(FOUND, ["dea2", "ctl2"], GROUPS) == ("ctl2", "dea2")


@pytest.mark.parametrize(
    ("host", "unknown", "text"),
    [
        ("ctl9", True, "no machine ctl9"),
        ("core1", False, "is the server"),
        ("router1", False, "needs no share"),
        ("stg1", False, "needs no share"),
    ],
)
def test_hosts_that_are_no_clients(host: str, unknown: bool, text: str) -> None:
    with pytest.raises(WiringError, match=text) as caught:
        chosen(FOUND, ["ctl1", host], GROUPS)
    assert caught.value.unknown is unknown


def test_how_far_it_is() -> None:
    assert standing(["a", "b"], ["a"], "wired") == "wired: a; not wired: b"
    assert standing(["a"], [], "wired") == "wired: no host; not wired: a"


@dataclass
class Rig:
    """An inventory, and plays that only remember what was asked of them; `broken` fails."""

    groups: dict[str, tuple[str, ...]] = field(default_factory=lambda: dict(GROUPS))
    played: list[Play] = field(default_factory=list)
    broken: str = ""
    job_id: int = 7
    facts: Facts = field(default_factory=dict)

    @property
    def services(self) -> Services:
        return cast("Services", SimpleNamespace(inventory=self, plays=self))

    def hosts(self) -> dict[str, Any]:
        return {name: SimpleNamespace(groups=groups) for name, groups in self.groups.items()}

    def run(self, play: Play, say: Any) -> Any:
        say(f"playing {play.playbook}")
        self.played.append(play)
        return SimpleNamespace(check=lambda: self.check(play))

    def check(self, play: Play) -> None:
        # A preflight looks at everybody and finds nothing.
        if tuple(play.limit) == (self.broken,):
            raise PlayError(f"{self.broken}: the share is full")

    def say(self, line: str) -> None:
        assert line

    def save(self) -> None: ...

    def do(self, kind: JobKind, request: dict[str, Any]) -> str | None:
        """Plan and work as the engine does; gives the way out where a step failed."""
        self.facts = kind.plan(self.services, request).facts
        job = cast("JobContext", self)
        for step in kind.steps(self.services, self.facts):
            try:
                step.run(job)
            except PlayError as error:
                return kind.compensate(job, step, str(error))
        return None

    def story(self) -> list[tuple[str, tuple[str, ...]]]:
        return [(play.playbook, tuple(play.limit)) for play in self.played]


def plan(kind: JobKind, request: dict[str, Any]) -> JobPlan:
    return kind.plan(Rig().services, request)


def test_wiring_checks_exports_and_goes_host_by_host() -> None:
    rig = Rig()
    assert rig.do(WireNfs(), {}) is None
    everybody = ("core1", "ctl1", "ctl2", "dea1", "dea2")
    assert rig.story() == [
        ("wire_nfs.yml", everybody),
        ("wire_nfs.yml", ("stg1",)),
        ("wire_nfs.yml", ("core1",)),
        *(("wire_nfs.yml", (host,)) for host in FOUND.clients),
    ]
    assert rig.played[0].variables == {"wire_nfs_preflight_only": True}
    # A key names one run: the same one is never given twice.
    assert len({play.key for play in rig.played}) == len(rig.played)
    assert rig.facts["done"] == list(FOUND.clients)


def test_each_host_is_told_who_can_read_what_it_writes() -> None:
    rig = Rig()
    told: list[list[str]] = []
    keep = rig.run

    def run(play: Play, say: Any) -> Any:
        if "wire_nfs_wired" in play.variables:
            told.append(list(play.variables["wire_nfs_wired"]))
        return keep(play, say)

    rig.run = run  # type: ignore[method-assign]
    rig.do(WireNfs(), {"hosts": ["dea1", "ctl1", "ctl2"]})
    assert told == [[], ["ctl1"], ["ctl1", "ctl2"]]


def test_wiring_stops_at_the_first_host_that_fails_and_says_the_ways() -> None:
    rig = Rig(broken="ctl2")
    remedy = rig.do(WireNfs(), {})
    assert rig.story()[-1] == ("wire_nfs.yml", ("ctl2",))
    assert remedy == (
        "wired: ctl1; not wired: ctl2, dea1, dea2. To go on, repair the named faults and resume this job: "
        "`ingot jobs resume 7`. To go back: `ingot nfs unwire`."
    )


def test_unwiring_takes_readers_first_and_the_export_last() -> None:
    rig = Rig()
    assert rig.do(UnwireNfs(), {}) is None
    hosts = (*reversed(FOUND.clients), "stg1", "core1")
    assert rig.story() == [("unwire_nfs.yml", (host,)) for host in hosts]


def test_a_job_of_an_earlier_release_goes_on() -> None:
    facts = {"server": "core1", "clients": ["stg1", "dea1"], "all": True, "done": ["stg1"]}
    rig = Rig()
    assert [step.machines for step in WireNfs().steps(rig.services, facts)][1:] == [
        ("core1",),
        ("stg1",),
        ("dea1",),
    ]
    assert [step.machines for step in UnwireNfs().steps(rig.services, facts)] == [
        ("dea1",),
        ("stg1",),
        ("core1",),
    ]


def test_hosts_that_are_named_are_all_that_is_touched() -> None:
    for kind in (WireNfs(), UnwireNfs()):
        planned = plan(cast("JobKind", kind), {"hosts": ["ctl1"]})
        assert planned.facts["former"] == []
        assert "machine:stg1" not in planned.locks
    assert "machine:stg1" in plan(WireNfs(), {}).locks


def test_the_export_stays_while_others_have_it_mounted() -> None:
    rig = Rig()
    assert rig.do(UnwireNfs(), {"hosts": ["dea1"]}) is None
    assert rig.story() == [("unwire_nfs.yml", ("dea1",))]


def test_a_filer_is_neither_exported_nor_unexported() -> None:
    for kind, playbook in ((WireNfs(), "wire_nfs.yml"), (UnwireNfs(), "unwire_nfs.yml")):
        rig = Rig(groups={"ctl1": ("controller",)})
        assert rig.do(cast("JobKind", kind), {}) is None
        assert set(rig.story()) == {(playbook, ("ctl1",))}


def test_what_is_wired_is_locked_and_a_pool_does_not_shrink_meanwhile() -> None:
    assert plan(WireNfs(), {"hosts": ["ctl1"]}).locks == {"nfs", "machine:ctl1", "machine:core1"}
    assert plan(UnwireNfs(), {"hosts": ["dea1"]}).locks == {
        "nfs",
        "machine:dea1",
        "machine:core1",
        "pool:dea",
    }


@pytest.mark.parametrize(("host", "status"), [("ctl9", 404), ("router1", 400), ("core1", 400)])
def test_wishes_that_cannot_be(host: str, status: int) -> None:
    with pytest.raises(RefusedError) as caught:
        plan(WireNfs(), {"hosts": [host]})
    assert caught.value.status == status


def test_nobody_to_wire_is_refused() -> None:
    with pytest.raises(RefusedError, match="nothing to wire"):
        WireNfs().plan(Rig(groups={"r": ("router",)}).services, {})
