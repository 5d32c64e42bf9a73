"""Health managers on their machines: they run, trust their state, and exactly one of them leads."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

UNIT = "ingot-health-manager"


@pytest.fixture
def facts(host: Any) -> dict[str, Any]:
    known: dict[str, Any] = host.ansible.get_variables()
    if known["inventory_hostname"] not in known["groups"]["health_manager"]:
        pytest.skip("not a health manager")
    return known


def varz(host: Any, address: str) -> dict[str, Any]:
    """Read /varz as the configuration says one may; the password stays on the machine."""
    script = (
        "import base64, json, urllib.request, yaml\n"
        "s = yaml.safe_load(open('/etc/ingot/health_manager.yml'))['status']\n"
        "t = base64.b64encode((s['user'] + ':' + s['password']).encode()).decode()\n"
        f"r = urllib.request.Request('http://{address}:9061/varz', headers={{'Authorization': 'Basic ' + t}})\n"
        "print(urllib.request.urlopen(r, timeout=10).read().decode())\n"
    )
    answer = host.run("/opt/ingot/current/venv/bin/python -c %s", script)
    assert answer.rc == 0, answer.stderr
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


def test_it_runs_and_starts_with_the_machine(host: Any, facts: dict[str, Any]) -> None:
    service = host.service(UNIT)
    if not service.is_running:
        pytest.fail(host.run("journalctl -u %s -n 50 --no-pager", UNIT).stdout)
    assert service.is_enabled


def test_it_runs_as_its_own_user_with_nothing_more(host: Any, facts: dict[str, Any]) -> None:
    pid = host.run("systemctl show -P MainPID %s", UNIT).stdout.strip()
    status = host.file(f"/proc/{pid}/status").content_string
    assert "\nUid:\t803\t803\t803\t803" in status
    assert "\nCapEff:\t0000000000000000" in status
    assert "\nNoNewPrivs:\t1" in status


def test_the_configuration_keeps_its_passwords(host: Any, facts: dict[str, Any]) -> None:
    config = host.file("/etc/ingot/health_manager.yml")
    assert (config.user, config.group, config.mode) == ("root", "ingot-health-manager", 0o640)
    journal = host.run("journalctl -u %s --no-pager", UNIT).stdout
    for line in config.content_string.splitlines():
        key, _, value = line.strip().partition(": ")
        if "password" in key:
            assert value.strip('"') not in journal


def test_it_trusts_its_picture(host: Any, facts: dict[str, Any]) -> None:
    answer = host.run("curl -sS http://127.0.0.1:9061/readyz")
    said = json.loads(answer.stdout)
    assert (said["ready"], said["reasons"]) == (True, [])
    assert said["release"]


def test_the_probes_want_a_password_where_there_is_something_to_tell(
    host: Any, facts: dict[str, Any]
) -> None:
    assert "401" in host.run("curl -sS -o /dev/null -w '%{http_code}' http://127.0.0.1:9061/varz").stdout


def test_exactly_one_leads_and_all_know_it(host: Any, facts: dict[str, Any]) -> None:
    group = facts["groups"]["health_manager"]
    addresses = [host.run("getent hosts %s", name).stdout.split()[0] for name in group]
    # A leader that was killed a moment ago is followed when its lease ends.
    deadline = time.monotonic() + 30
    while True:
        told = [varz(host, address) for address in addresses]
        leaders = [t["uuid"] for t in told if t["leader"]]
        if (len(leaders) == 1 and {t["lease_holder"] for t in told} == set(leaders)) or (
            time.monotonic() > deadline
        ):
            break
        time.sleep(0.5)
    assert len(leaders) == 1
    assert {t["lease_holder"] for t in told} == set(leaders)
