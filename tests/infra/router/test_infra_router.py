"""The front door on its machine: both halves run, meet in a folder of their own, and serve what the bus says."""

from __future__ import annotations

import json
from typing import Any

import pytest

# Serves itself under a host of its own on the machine it runs on, and says what the router answers.
PROBE = """
import asyncio, http.server, threading, urllib.error, urllib.request, json
import nats, yaml

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"served")

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()

def ask():
    request = urllib.request.Request("http://127.0.0.1/", headers={"Host": "probe.infra.test"})
    try:
        return urllib.request.urlopen(request, timeout=10).status
    except urllib.error.HTTPError as error:
        return error.code

async def main():
    bus = yaml.safe_load(open("/etc/ingot/router.yml"))["bus"]
    # The orchestrator may register; the scenario left its password here.
    password = open("/root/probe.password").read().strip()
    client = await nats.connect(bus["urls"], user="orchestrator", password=password)
    message = {"host": "127.0.0.1", "port": server.server_address[1], "uris": ["probe.infra.test"], "tags": {}}
    seen = []
    for subject, wanted in (("router.register", 200), ("router.unregister", 404)):
        await client.publish(subject, json.dumps(message).encode())
        await client.flush()
        for _ in range(200):
            status = await asyncio.to_thread(ask)
            if status == wanted:
                break
            await asyncio.sleep(0.05)
        seen.append(status)
    await client.close()
    print(json.dumps(seen))

asyncio.run(main())
"""


@pytest.fixture
def facts(host: Any) -> dict[str, Any]:
    known: dict[str, Any] = host.ansible.get_variables()
    if known["inventory_hostname"] not in known["groups"]["router"]:
        pytest.skip("not a router")
    return known


@pytest.mark.parametrize("unit", ["nginx", "ingot-router"])
def test_both_halves_run_and_start_with_the_machine(host: Any, facts: dict[str, Any], unit: str) -> None:
    service = host.service(unit)
    if not service.is_running:
        pytest.fail(host.run("journalctl -u %s -n 50 --no-pager", unit).stdout)
    assert service.is_enabled


def test_the_sockets_are_their_groups_alone(host: Any, facts: dict[str, Any]) -> None:
    folder = host.file("/run/ingot-router")
    assert (folder.user, folder.group, folder.mode) == ("ingot-router", "ingot-router", 0o2770)
    for name in ("data.sock", "miss.sock", "router.sock"):
        socket = host.file(f"/run/ingot-router/{name}")
        assert socket.is_socket
        assert (socket.group, socket.mode) == ("ingot-router", 0o660)
    refused = host.run("runuser -u nobody -- ls /run/ingot-router")
    assert refused.rc != 0


def test_the_configuration_keeps_its_passwords(host: Any, facts: dict[str, Any]) -> None:
    config = host.file("/etc/ingot/router.yml")
    assert (config.user, config.group, config.mode) == ("root", "ingot-router", 0o640)


def test_a_route_said_on_the_bus_is_served_until_it_is_taken_back(host: Any, facts: dict[str, Any]) -> None:
    answer = host.run("/opt/ingot/current/venv/bin/python -c %s", PROBE)
    assert answer.rc == 0, answer.stderr
    assert json.loads(answer.stdout) == [200, 404]


def test_an_endpoint_that_falls_silent_is_given_up_soon(host: Any, facts: dict[str, Any]) -> None:
    assert host.sysctl("net.ipv4.tcp_retries2") == 4
    assert host.sysctl("net.ipv4.tcp_keepalive_time") == 3


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ("nginx.service restart", 101),
        ("--quiet nginx restart", 101),
        ("nginx upgrade", 0),
        ("nginx reload", 0),
        ("nginx.service start", 0),
        ("ssh restart", 0),
    ],
)
def test_packages_may_not_restart_nginx(host: Any, facts: dict[str, Any], asked: str, code: int) -> None:
    assert host.run(f"/usr/sbin/policy-rc.d {asked}").rc == code


def test_the_probes_want_a_password_where_there_is_something_to_tell(
    host: Any, facts: dict[str, Any]
) -> None:
    assert host.run("curl -fsS http://127.0.0.1:9031/readyz").rc == 0
    assert "401" in host.run("curl -sS -o /dev/null -w '%{http_code}' http://127.0.0.1:9031/varz").stdout


def test_the_access_log_is_one_json_object_a_line(host: Any, facts: dict[str, Any]) -> None:
    assert host.run("curl -sS -H 'Host: log.infra.test' http://127.0.0.1/").rc == 0
    script = "for i in $(seq 50); do grep -h log.infra.test /var/log/nginx/access.log && exit; sleep 0.1; done; exit 1"
    line = host.run(script).stdout.splitlines()[-1]
    assert json.loads(line)["status"] == 404
