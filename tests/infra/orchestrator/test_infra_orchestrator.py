"""The orchestrator on its machine: hardened, with its inventory, its plays' tools and its provider at hand, and shut to strangers."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

# Asks the API on the machine itself; the password never shows in a process list.
ASK = """
import json, sys, urllib.error, urllib.request, base64, yaml
path, user = sys.argv[1:]
config = yaml.safe_load(open("/etc/ingot/orchestrator.yml"))
request = urllib.request.Request("http://127.0.0.1:9071" + path)
if user:
    word = config["operator_password"] if user == "operator" else "wrong"
    request.add_header("Authorization", "Basic " + base64.b64encode(("operator:" + word).encode()).decode())
try:
    answer = urllib.request.urlopen(request, timeout=10)
except urllib.error.HTTPError as error:
    answer = error
print(json.dumps([answer.status, json.loads(answer.read() or b"null")]))
"""
PYTHON = "/opt/ingot/current/venv/bin/python"
UNIT = "ingot-orchestrator.service"


@pytest.fixture
def facts(host: Any) -> dict[str, Any]:
    known: dict[str, Any] = host.ansible.get_variables()
    if known["inventory_hostname"] not in known["groups"]["orchestrator"]:
        pytest.skip("not an orchestrator")
    return known


@pytest.fixture
def config(host: Any, facts: dict[str, Any]) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(host.file("/etc/ingot/orchestrator.yml").content_string)
    return loaded


def ask(host: Any, path: str, user: str = "operator") -> tuple[int, Any]:
    status, body = json.loads(host.check_output(f"{PYTHON} -c %s %s %s", ASK, path, user))
    return status, body


def test_it_runs_and_starts_with_the_machine(host: Any, facts: dict[str, Any]) -> None:
    service = host.service(UNIT)
    if not service.is_running:
        pytest.fail(host.run("journalctl -u %s -n 50 --no-pager", UNIT).stdout)
    assert service.is_enabled
    config = host.file("/etc/ingot/orchestrator.yml")
    assert (config.user, config.mode) == ("root", 0o600)
    assert host.file("/var/lib/ingot/orchestrator").mode == 0o700


def test_it_cannot_write_where_it_has_no_business(host: Any, config: dict[str, Any]) -> None:
    shown = host.check_output("systemctl show %s -p ProtectSystem -p NoNewPrivileges -p ReadWritePaths", UNIT)
    assert "ProtectSystem=strict" in shown
    assert "NoNewPrivileges=yes" in shown
    assert config["inventory"] in shown
    assert "/opt/ingot" not in shown


def test_it_has_the_inventory_the_releases_and_the_key(
    host: Any, facts: dict[str, Any], config: dict[str, Any]
) -> None:
    inventory = config["inventory"]
    # The link leads out of the folder, into the checkout's part that is bound in beside it.
    assert host.file(f"{inventory}/group_vars/orchestrator/lab.yml").is_file
    assert host.file(f"{inventory}/10-fixed.yml").is_file
    assert host.file(config["ssh"]["private_key"]).mode == 0o600
    version = facts["ingot_release"]
    assert host.file(f"{config['releases']}/{version}/plays/playbooks/site.yml").is_file
    refused = host.run("touch %s/x", config["releases"])
    assert "Read-only" in refused.stderr


def test_it_can_run_plays(host: Any, facts: dict[str, Any]) -> None:
    assert "ansible-playbook [core" in host.check_output(
        "/opt/ingot/current/venv/bin/ansible-playbook --version"
    )
    assert host.exists("ssh")


@pytest.mark.parametrize("user", ["", "stranger"])
def test_strangers_learn_nothing(host: Any, facts: dict[str, Any], user: str) -> None:
    status, body = ask(host, "/v2/pools", user)
    assert status == 401
    assert set(body) == {"code", "description"}


def test_the_operator_sees_pools_images_and_jobs(host: Any, facts: dict[str, Any]) -> None:
    status, body = ask(host, "/v2/pools")
    assert status == 200
    pool = body["pools"][0]
    assert (pool["name"], pool["size"], pool["floor"], pool["maximum"]) == ("dea", 0, 1, 8)
    # The lab answers through its socket.
    status, body = ask(host, "/v2/images")
    assert status == 200
    assert [(i["provider"], i["name"], i["state"]) for i in body["images"]] == [("lab", "bookworm", "ready")]
    assert ask(host, "/v2/jobs") == (200, {"jobs": []})
    status, body = ask(host, "/v2/pools/nothing")
    assert (status, body["code"]) == (404, 404)
