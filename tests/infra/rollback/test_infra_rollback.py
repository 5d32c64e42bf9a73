"""After a rollback: every machine runs the release before, its daemons are well, and nothing of the broken one is at work."""

from __future__ import annotations

import json
from typing import Any

import pytest

# Of what runs a release, as far as the lab has it.
PORTS = {
    "controller": 9022,
    "stager": 9041,
    "health_manager": 9061,
    "router": 9031,
    "dea": 9051,
    "services": 9081,
    "orchestrator": 9071,
}


@pytest.fixture
def facts(host: Any) -> dict[str, Any]:
    known: dict[str, Any] = host.ansible.get_variables()
    if not set(PORTS) & set(known["group_names"]):
        pytest.skip("runs no release")
    return known


def test_every_daemon_is_ready_and_says_which_release_it_is(host: Any, facts: dict[str, Any]) -> None:
    release = facts["ingot_release"]
    assert host.file("/opt/ingot/current").linked_to == f"/opt/ingot/releases/{release}"
    for group in set(PORTS) & set(facts["group_names"]):
        answer = host.run(f"curl -sS http://127.0.0.1:{PORTS[group]}/readyz")
        assert json.loads(answer.stdout) == {"ready": True, "reasons": [], "release": release}, group


def test_nothing_is_left_drained(host: Any, facts: dict[str, Any]) -> None:
    assert not host.file("/run/ingot-controller/drain").exists
    assert not host.file("/run/ingot-router/drain").exists
    assert host.run("systemctl list-units --failed --plain --no-legend 'ingot-*'").stdout == ""
