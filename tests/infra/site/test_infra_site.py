"""A platform on one machine of Debian 13: a folder that is pushed answers through its router."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from components.common.plain_http import NO_TLS

ROOT = Path(__file__).resolve().parents[3]
LAB = "mol-site"
INVENTORY = ROOT / "build" / "labs" / LAB / "inventory"
BIN = ROOT / "build" / "venv" / "bin"
HELLO = "hello.ingot.localhost"
MOVED = yaml.safe_load((ROOT / "molecule" / "site" / "ports.yml").read_text())
# Of an application or a one-off task.
GUEST = 50000

Ingot = Callable[..., str]


def output(*command: str, **environment: str) -> str:
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def port() -> int:
    """Return the port on the host that is relayed to the router."""
    labs = json.loads(output(str(BIN / "ingot-lab"), "list", "--json"))
    return next(int(lab["port"]) for lab in labs if lab["name"] == LAB)


@pytest.fixture(scope="module")
def ingot(port: int, tmp_path_factory: pytest.TempPathFactory) -> Ingot:
    """Return the client, logged in as administrator."""
    known = yaml.safe_load((INVENTORY / "15-secrets.yml").read_text())["all"]["vars"]
    home = str(tmp_path_factory.mktemp("home"))

    def run(*arguments: str) -> str:
        secret = {"INGOT_HOME": home, "INGOT_PASSWORD": known["ingot_admin_password"]}
        return output(str(BIN / "ingot"), *arguments, **secret)

    run("target", f"http://api.ingot.localhost:{port}")
    run("login", "admin@ingot.localhost")
    return run


def test_machine_is_debian_13(host: Any) -> None:
    assert host.system_info.codename == "trixie"
    assert host.run("nginx -v").stderr.startswith("nginx version: nginx/1.26.")


def test_pushed_folder_answers(ingot: Ingot, port: int) -> None:
    ingot("push", "hello", "--path", str(ROOT / "tests" / "apps" / "hello"), "--instances", "2")
    seen = set()
    for _ in range(20):
        answer = httpx.get(f"http://127.0.0.1:{port}/", headers={"Host": HELLO}, verify=NO_TLS, timeout=20)
        assert answer.status_code == 200, answer.text
        seen.add(answer.json()["instance_id"])
    assert len(seen) == 2


def test_redis_that_is_offered_is_the_one_that_is_installed(host: Any, ingot: Ingot) -> None:
    installed = host.check_output("redis-server --version").split("v=")[1].split(".")
    offered = json.loads(ingot("services", "--json"))["offerings"]
    assert {o["version"] for o in offered if o["vendor"] == "redis"} == {".".join(installed[:2])}


def test_every_daemon_of_the_platform_runs_well(host: Any, ingot: Ingot) -> None:
    failed = host.check_output("systemctl list-units --state=failed --plain --no-legend")
    assert failed == ""
    assert json.loads(ingot("pool", "show", "dea", "--json"))["machines"]


def test_every_port_that_an_inventory_can_move_is_moved_here_but_the_routers() -> None:
    table = yaml.safe_load((ROOT / "playbooks" / "vars" / "daemons.yml").read_text())["platform_daemons"]
    inputs = {
        name for row in table if not row.get("open") for name in row["ports"] if not name.startswith("__")
    }
    assert set(MOVED) == inputs


@pytest.mark.parametrize("moved", MOVED.values(), ids=MOVED.keys())
def test_a_daemon_on_a_moved_port_is_there_and_closed_to_applications(host: Any, moved: int) -> None:
    address = host.ansible.get_variables()["ansible_host"]
    connect = f"import socket; socket.create_connection(({address!r}, {moved}), 5)"
    assert host.run("python3 -c %s", connect).rc == 0
    guest = f"setpriv --reuid={GUEST} --regid={GUEST} --clear-groups python3 -c %s"
    assert "ConnectionRefusedError" in host.run(guest, connect).stderr
