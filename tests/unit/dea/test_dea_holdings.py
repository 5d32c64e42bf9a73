"""Ports and uids of instances, over a restart of the agent."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.common.bus.messages import DeaStart, Limits
from components.common.config import parse
from components.dea.config import DeaConfig
from components.dea.errors import NoRoomError
from components.dea.instances.holdings import Holdings
from components.dea.instances.instance import Instance
from components.dea.instances.snapshot import Snapshot

UIDS = {"first": 50001, "last": 50004}
LIMITS = Limits(mem=1, disk=1)


def holdings(folder: Path) -> Holdings:
    """Make those of an agent that has just started."""
    config = parse({"bus": {"urls": ["nats://h:4222"]}, "sandbox": "systemd", "uids": UIDS}, DeaConfig)
    return Holdings(config, Snapshot(folder))


def instance(uris: list[str]) -> Instance:
    return Instance.of(
        DeaStart(droplet=1, name="a", version="v", uris=uris, index=0, limits=LIMITS), "a" * 32, 1
    )


def taken(found: Holdings) -> Instance:
    record = instance([])
    found.take(record)
    return record


def test_an_agent_that_returns_hands_out_the_uid_that_was_free_the_longest(tmp_path: Path) -> None:
    found = holdings(tmp_path)
    lives, ends = taken(found), taken(found)
    found.give_back(ends)
    assert (lives.uid, ends.uid) == (50001, 50002)
    # Killed: nothing was written down at its end.
    found = holdings(tmp_path)
    found.claim(lives)
    found.claim(ends)
    assert [taken(found).uid, taken(found).uid, taken(found).uid] == [50003, 50004, 50002]


def test_an_agent_that_ends_in_order_writes_it_down_too(tmp_path: Path) -> None:
    found = holdings(tmp_path)
    taken(found)
    (tmp_path / "uids.json").unlink()
    found.save()
    assert taken(holdings(tmp_path)).uid == 50002


def test_what_lacks_its_uid_keeps_no_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("components.dea.instances.holdings.port_free", lambda _port: True)
    found = holdings(tmp_path)
    for _ in range(4):
        taken(found)
    late = instance(["a.example"])
    with pytest.raises(NoRoomError, match="50001 to 50004"):
        found.take(late)
    assert late.released
    assert late.port in found.ports.state().resting
