"""Two controllers over one database: what one is told, the other knows; passwords stay where they belong."""

from __future__ import annotations

import json
import secrets
from typing import Any

import pytest
import yaml

LOCAL = "http://127.0.0.1:9022"


@pytest.fixture
def facts(host: Any) -> dict[str, Any]:
    known: dict[str, Any] = host.ansible.get_variables()
    if known["inventory_hostname"] not in known["groups"]["controller"]:
        pytest.skip("no controller's machine")
    return known


def ask(host: Any, method: str, url: str, body: Any = None, token: str = "") -> tuple[int, str]:
    """Send a request from the machine; secrets go by standard input, as they would for a person."""
    options = [f'header = "AUTHORIZATION: {token}"'] if token else []
    if body is not None:
        options += ['header = "Content-Type: application/json"', f"data = {json.dumps(json.dumps(body))}"]
    script = (
        "printf '%s' "
        + _quoted("\n".join(options))
        + f" | curl -sS -m 30 -K - -X {method} -w '\\n%{{http_code}}' {url}"
    )
    text, _, status = host.check_output(script).rpartition("\n")
    return int(status), text


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def test_it_runs_as_its_own_user_and_is_ready(host: Any, facts: dict[str, Any]) -> None:
    service = host.service("ingot-controller")
    if not service.is_running:
        pytest.fail(host.run("journalctl -u ingot-controller -n 60 --no-pager").stdout)
    assert service.is_enabled
    assert ask(host, "GET", f"{LOCAL}/readyz")[0] == 200
    assert {p.user for p in host.process.filter(comm="ingot-controlle")} == {"ingot-controller"}


def test_the_configuration_keeps_its_secrets(host: Any, facts: dict[str, Any]) -> None:
    config = host.file("/etc/ingot/controller.yml")
    assert (config.user, config.group, config.mode) == ("root", "ingot-controller", 0o640)
    shown = host.run("journalctl -u ingot-controller --no-pager").stdout + host.run("ps -eo args").stdout
    for secret in (facts["ingot_ccdb_password"], facts["ingot_admin_password"], facts["ingot_bulk_password"]):
        assert secret not in shown


def test_varz_and_metrics_want_the_password(host: Any, facts: dict[str, Any]) -> None:
    assert ask(host, "GET", f"{LOCAL}/healthz") == (200, "ok\n")
    for path in ("varz", "metrics"):
        assert ask(host, "GET", f"{LOCAL}/{path}")[0] == 401
    assert ask(host, "GET", f"http://status:{facts['ingot_status_password']}@127.0.0.1:9022/varz")[0] == 200


def test_what_one_controller_is_told_the_other_knows(host: Any, facts: dict[str, Any]) -> None:
    names = facts["groups"]["controller"]
    other = next(n for n in names if n != facts["inventory_hostname"])
    admin, password = facts["ingot_admin_email"], facts["ingot_admin_password"]
    status, text = ask(host, "POST", f"{LOCAL}/users/{admin}/tokens", {"password": password})
    assert status == 200, text
    token = json.loads(text)["token"]
    name = f"app-{secrets.token_hex(4)}"
    body = {
        "name": name,
        "staging": {"framework": "standalone", "runtime": None},
        "uris": [f"{name}.{facts['ingot_domain']}"],
        "instances": 1,
        "resources": {"memory": 64},
    }
    status, text = ask(host, "POST", f"{LOCAL}/apps", body, token)
    assert status == 302, text
    address = host.check_output("getent hosts %s", other).split()[0]
    status, text = ask(host, "GET", f"http://{address}:9022/apps/{name}", token=token)
    assert status == 200, text
    assert json.loads(text)["state"] == "STOPPED"
    assert ask(host, "DELETE", f"http://{address}:9022/apps/{name}", token=token)[0] == 200
    assert ask(host, "GET", f"{LOCAL}/apps/{name}", token=token)[0] == 404


def test_a_gateway_is_known_by_its_token(host: Any, facts: dict[str, Any]) -> None:
    url = f"{LOCAL}/services/v1/offerings/redis-0.0"
    assert ask(host, "GET", url, {})[0] == 403
    wanted = json.dumps(facts["ingot_service_tokens"], sort_keys=True)
    found = yaml.safe_load(host.file("/etc/ingot/controller.yml").content_string)["service_tokens"]
    assert json.dumps(found, sort_keys=True) == wanted
    header = f'header = "X-VCAP-Service-Token: {facts["ingot_service_tokens"]["redis"]}"'
    kind = 'header = "Content-Type: application/json"'
    script = f"printf '%s\\n' {_quoted(header)} {_quoted(kind)} | curl -sS -m 30 -K - {url}"
    assert json.loads(host.check_output(script))["code"] == 500, "the token holds; there is no such offering"


def test_a_wrong_password_is_refused(host: Any, facts: dict[str, Any]) -> None:
    status, text = ask(
        host, "POST", f"{LOCAL}/users/{facts['ingot_admin_email']}/tokens", {"password": "wrong"}
    )
    assert status == 403
    assert json.loads(text)["code"] == 200


def test_a_broken_configuration_is_reported_whole(host: Any, facts: dict[str, Any]) -> None:
    host.check_output("printf 'bus: {urls: [nowhere]}\\nport: many\\n' > /root/broken.yml")
    done = host.run("/opt/ingot/current/venv/bin/ingot-controller --config /root/broken.yml --check-config")
    assert done.rc == 2
    for wanted in ("bus.urls", "port", "database_url", "token_keys"):
        assert wanted in done.stderr
