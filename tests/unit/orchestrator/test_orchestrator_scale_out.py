"""scale_out: a machine becomes capacity step by step, or leaves nothing behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.db.models import FAILED, READY, Image
from orchestrator.errors import RefusedError
from orchestrator.iaas.provider import ProviderError
from orchestrator.jobs import machines
from orchestrator.jobs.scale_out import ScaleOut
from orchestrator.plays.runner import Play
from tests.unit.orchestrator.hands_rig import KEY, RELEASE, Hands, beat


@pytest.fixture
def hands(tmp_path: Path) -> Iterator[Hands]:
    hands = Hands(tmp_path)

    def configured(play: Play) -> None:
        for name in play.limit:
            if name not in hands.plays.bad:
                hands.bus_view.on_beat(beat(hands.inventory.hosts()[name].address))

    hands.plays.on_run = configured
    yield hands
    hands.db.close()


def test_two_machines_become_capacity(hands: Hands) -> None:
    hands.ssh.pinned["10.0.0.3"] = "of a machine that had this address before"
    done = ScaleOut().plan(hands.services, {"pool": "dea", "count": 2})
    assert done.locks == {"pool:dea", "machine:dea3", "machine:dea4"}
    ended = hands.job(ScaleOut(), {"pool": "dea", "count": 2})
    assert ended.why == ""
    rows = {row.name: row for row in machines.rows(hands.services)}
    assert [(r.state, r.address, r.host_key, r.pool) for r in rows.values()] == [
        (READY, "10.0.0.3", KEY, "dea"),
        (READY, "10.0.0.4", KEY, "dea"),
    ]
    assert hands.inventory.hosts()["dea4"].groups == ("dea", "lab")
    (play,) = hands.plays.ran
    assert (play.key, play.playbook, list(play.limit), play.release) == (
        "7-configure",
        "scale_out.yml",
        ["dea3", "dea4"],
        RELEASE,
    )
    assert "dea3, dea4: ready; pool dea has 4" in ended.job.said


def test_every_step_may_be_done_twice(hands: Hands) -> None:
    kind = ScaleOut()
    job = hands.context(kind.plan(hands.services, {"pool": "dea"}).facts)
    for step in kind.steps(hands.services, job.facts):
        step.run(job)
        step.run(job)
    assert [row.state for row in machines.rows(hands.services)] == [READY]
    assert [m.name for m in hands.providers["rack"].machines()] == ["dea3"]


def test_a_machine_that_never_answers_is_deleted(hands: Hands) -> None:
    hands.ssh.silent.add("10.0.0.3")
    ended = hands.job(ScaleOut(), {"pool": "dea"})
    assert (ended.step, ended.why) == ("reach", "dea3: dea3 (10.0.0.3) did not accept the login")
    assert "dea3: deleted again." in ended.remedy
    assert "Pool dea has 2." in ended.remedy
    assert machines.rows(hands.services) == []
    assert hands.providers["rack"].machines() == []
    assert "dea3" not in hands.inventory.hosts()


def test_a_play_that_fails_on_one_lets_the_other_join(hands: Hands) -> None:
    hands.plays.bad["dea4"] = "the disk is full"
    ended = hands.job(ScaleOut(), {"pool": "dea", "count": 2})
    assert (ended.step, ended.why) == ("settle", "dea4: Install: the disk is full")
    assert "dea3: ready, in the pool. dea4: deleted again. Pool dea has 3." in ended.remedy
    assert [(row.name, row.state) for row in machines.rows(hands.services)] == [("dea3", READY)]
    assert sorted(hands.inventory.hosts()) == ["dea1", "dea2", "dea3"]
    assert list(hands.ssh.pinned) == ["10.0.0.3"]


def test_another_release_is_no_capacity(hands: Hands) -> None:
    hands.plays.on_run = lambda _: hands.bus_view.on_beat(beat("10.0.0.3", release="0.9.0"))
    ended = hands.job(ScaleOut(), {"pool": "dea"})
    assert (ended.step, ended.why) == ("capacity", "dea3: runs release 0.9.0, not 1.0.0 after 0 s")
    assert machines.rows(hands.services) == []


def test_a_machine_that_cannot_be_deleted_is_named(hands: Hands, monkeypatch: pytest.MonkeyPatch) -> None:
    hands.ssh.silent.add("10.0.0.3")

    def refuse(_name: str) -> None:
        raise ProviderError("the provider is away")

    monkeypatch.setattr(hands.providers["rack"], "delete", refuse)
    ended = hands.job(ScaleOut(), {"pool": "dea"})
    assert "dea3 could not be deleted: the provider is away." in ended.remedy
    assert "ingot pool scale-in dea --machine dea3" in ended.remedy
    assert [(r.state, r.message) for r in machines.rows(hands.services)] == [(FAILED, "the provider is away")]


def test_a_provider_that_has_no_more_ends_the_job(tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    hands = Hands(tmp_path / "small", hosts=0)
    ended = hands.job(ScaleOut(), {"pool": "dea"})
    assert ended.step == "create"
    assert "all 0 hosts are assigned" in ended.why
    assert machines.rows(hands.services) == []
    hands.db.close()


def test_what_cannot_be_begun_is_refused_and_changes_nothing(hands: Hands) -> None:
    def refused(request: dict[str, object], said: str, status: int) -> None:
        with pytest.raises(RefusedError, match=said) as raised:
            ScaleOut().plan(hands.services, request)
        assert raised.value.status == status

    refused({"pool": "nobody"}, "there is no pool nobody; known: dea", 404)
    refused({"pool": "dea", "count": 3}, "may have 4: 3 more are too many", 400)
    with hands.db.session() as session:
        session.delete(session.get(Image, ("rack", "none")))
    refused({"pool": "dea"}, "image none of provider rack is not registered", 409)
    (hands.inventory.folder / "16-release.yml").unlink()
    refused({"pool": "dea"}, "no release is recorded", 409)
    assert machines.rows(hands.services) == []
