"""After a roll: every machine runs the second build, in its own daemons' words, and keeps the first for the way back."""

from __future__ import annotations

import json
from typing import Any

import pytest

SECOND = "mol-second"
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
    return known


def test_every_daemon_is_ready_and_says_which_release_it_is(host: Any, facts: dict[str, Any]) -> None:
    for group in set(PORTS) & set(facts["group_names"]):
        answer = host.run(f"curl -sS http://127.0.0.1:{PORTS[group]}/readyz")
        assert json.loads(answer.stdout) == {"ready": True, "reasons": [], "release": SECOND}, group


def test_the_first_release_is_kept(host: Any, facts: dict[str, Any]) -> None:
    if not set(PORTS) & set(facts["group_names"]):
        pytest.skip("runs no release")
    assert host.file("/opt/ingot/current").linked_to == f"/opt/ingot/releases/{SECOND}"
    previous = facts["ingot_release_previous"]
    assert host.file(f"/opt/ingot/releases/{previous}/RELEASE.json").exists


def test_bus_and_database_run_on(host: Any, facts: dict[str, Any]) -> None:
    if "nats" not in facts["group_names"]:
        pytest.skip("not theirs")
    staged = float(host.run("stat -c %Y /opt/ingot/releases/mol-second/RELEASE.json").stdout)
    now, uptime = (
        float(word) for word in host.run("echo $(date +%s) $(cut -d' ' -f1 /proc/uptime)").stdout.split()
    )
    for unit in ("nats-server", "postgresql"):
        since = host.run("systemctl show -P ActiveEnterTimestampMonotonic %s", unit).stdout
        assert now - uptime + int(since) / 1e6 < staged, unit
