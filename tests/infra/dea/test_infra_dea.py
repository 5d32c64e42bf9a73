"""The DEA on its machine: instances are units of their own, see and reach nothing that is not theirs, and outlive the agent."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from typing import Any

import pytest

# Stands in the controller's place. `start` serves a droplet, asks the DEA to start it, waits, prints what it hears
# of it; `find` prints the instances; `stop` stops them all.
CONTROLLER = r"""
import asyncio, hashlib, http.server, io, json, sys, tarfile, threading
import nats, yaml

verb, more = sys.argv[1], json.loads(sys.argv[2])
SERVER = '''
import http.server, os, sys, subprocess, urllib.parse
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        asked = urllib.parse.unquote(self.path[1:])
        done = subprocess.run(["bash", "-c", asked], capture_output=True)
        body = done.stdout + done.stderr
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
class S(http.server.ThreadingHTTPServer):
    def server_bind(self):
        http.server.socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "x", 1
S(("0.0.0.0", int(sys.argv[1])), H).serve_forever()
'''
STARTUP = '''#!/bin/bash
cd "$(dirname "$0")/app"
exec %VCAP_LOCAL_RUNTIME% server.py "$2" >>../logs/stdout.log 2>>../logs/stderr.log
'''

def droplet():
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, text in (("startup", STARTUP), ("app/server.py", SERVER), ("logs/x", "")):
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(text), 0o755
            tar.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
    def log_message(self, *_): pass

content = droplet()
config = yaml.safe_load(open("/etc/ingot/dea.yml"))
dea = open("/var/lib/ingot/dea/id").read().strip()

async def find(client, **wanted):
    inbox = client.new_inbox()
    listener = await client.subscribe(inbox)
    await client.publish("dea.find.droplet", json.dumps({"droplet": 7, "include_stats": True, **wanted}).encode(), reply=inbox)
    found = []
    while True:
        try:
            message = await listener.next_msg(timeout=0.3)
        except nats.errors.TimeoutError:
            return found
        if message.data:
            found.append(json.loads(message.data))

async def main():
    password = open("/root/probe.password").read().strip()
    client = await nats.connect(config["bus"]["urls"], user="controller", password=password, inbox_prefix=b"_INBOX_controller")
    exited = await client.subscribe("droplet.exited")
    if verb == "start":
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        sha1 = hashlib.sha1(content).hexdigest()
        message = {"droplet": 7, "name": "probe", "version": "v", "uris": ["probe.x"], "runtime": "python3", "framework": "standalone",
            "sha1": sha1, "executableFile": "/nowhere/" + sha1, "executableUri": f"http://127.0.0.1:{server.server_address[1]}/{sha1}",
            "limits": {"mem": 128, "disk": 64, "fds": 256}, "index": 0, "env": ["HUSH=wellkeptsecret"], **more}
        await client.publish(f"dea.{dea}.start", json.dumps(message).encode())
        for _ in range(100):
            found = [f for f in await find(client, states=["RUNNING"]) if f["index"] == message["index"]]
            if found:
                print(json.dumps(found[0]))
                return
        raise SystemExit("it did not start")
    if verb == "find":
        print(json.dumps(await find(client)))
    if verb == "exited":
        import subprocess
        subprocess.run(more["after"], check=True, stdout=subprocess.DEVNULL)
        print((await exited.next_msg(timeout=20)).data.decode())
    if verb == "stop":
        await client.publish("dea.stop", b'{"droplet": 7}')
        for _ in range(60):
            if not await find(client):
                break
    await client.close()

asyncio.run(main())
"""


@pytest.fixture
def facts(host: Any) -> dict[str, Any]:
    known: dict[str, Any] = host.ansible.get_variables()
    if known["inventory_hostname"] not in known["groups"]["dea"]:
        pytest.skip("not a DEA")
    return known


def controller(host: Any, verb: str, **more: Any) -> Any:
    done = host.run("/opt/ingot/current/venv/bin/python -c %s %s %s", CONTROLLER, verb, json.dumps(more))
    if done.rc != 0:
        pytest.fail(done.stderr + host.run("journalctl -u ingot-dea -n 50 --no-pager").stdout)
    return json.loads(done.stdout) if done.stdout else None


@pytest.fixture
def instance(host: Any, facts: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield controller(host, "start")
    controller(host, "stop")


def asking(instance: dict[str, Any], command: str) -> list[str]:
    """Give the command that has the instance itself run something."""
    script = (
        "import sys, urllib.request, urllib.parse as p; "
        "print(urllib.request.urlopen(sys.argv[1] + p.quote(sys.argv[2], safe='')).read().decode())"
    )
    stats = instance["stats"]
    return ["python3", "-c", script, f"http://{stats['host']}:{stats['port']}/", command]


def inside(host: Any, instance: dict[str, Any], command: str) -> str:
    done = host.run(shlex.join(asking(instance, command)))
    assert done.rc == 0, done.stderr
    return str(done.stdout).strip()


def main_pid(host: Any, instance: dict[str, Any]) -> str:
    return str(host.run("systemctl show -P MainPID ingot-app-%s", instance["instance"]).stdout.strip())


def test_it_runs_and_starts_with_the_machine(host: Any, facts: dict[str, Any]) -> None:
    service = host.service("ingot-dea")
    if not service.is_running:
        pytest.fail(host.run("journalctl -u ingot-dea -n 50 --no-pager").stdout)
    assert service.is_enabled
    assert host.run("curl -fsS http://127.0.0.1:9051/readyz").rc == 0


def test_the_configuration_keeps_its_passwords(host: Any, facts: dict[str, Any]) -> None:
    config = host.file("/etc/ingot/dea.yml")
    assert (config.user, config.group, config.mode) == ("root", "root", 0o600)


def test_an_instance_is_a_unit_with_a_uid_and_no_power(host: Any, instance: dict[str, Any]) -> None:
    assert 50000 <= int(inside(host, instance, "id -u")) <= 59999
    assert inside(host, instance, "id -G") == inside(host, instance, "id -u")
    status = inside(
        host, instance, "grep -E '^(CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp):' /proc/self/status"
    )
    assert status.split()[1::2] == ["0" * 16] * 4 + ["1", "2"]
    assert inside(host, instance, "ulimit -n") == "256"
    slice_ = host.run("systemctl show -P Slice ingot-app-%s", instance["instance"]).stdout.strip()
    assert slice_ == "ingot-apps.slice"


def test_an_instance_sees_and_reaches_nothing_that_is_not_its_own(
    host: Any, instance: dict[str, Any]
) -> None:
    other = controller(host, "start", index=1)
    bus = host.run("getent hosts core1").stdout.split()[0]
    assert inside(host, instance, "ls /var/lib/ingot/dea/instances").split() == [instance["instance"]]
    assert inside(host, instance, "ls /var/lib/ingot/dea").split() == ["instances"]
    assert "denied" in inside(host, instance, "cat /etc/ingot/dea.yml")
    assert "denied" in inside(host, instance, "ls /opt/ingot")
    assert "Read-only" in inside(host, instance, "touch /usr/x /etc/x")
    assert "denied" in inside(host, instance, "ls /run/dbus")
    assert set(inside(host, instance, "ps -eo uid= | sort -u").split()) == {inside(host, instance, "id -u")}
    assert "denied" in inside(host, instance, f"kill -0 {main_pid(host, other)} || echo denied")
    for port in (4222, 22):
        assert inside(host, instance, f"(exec 3<>/dev/tcp/{bus}/{port}) 2>/dev/null && echo open") == ""
    assert inside(host, instance, "touch ~/mine /tmp/mine && echo written") == "written"


def test_its_environment_is_nobodys_business(host: Any, instance: dict[str, Any]) -> None:
    assert inside(host, instance, "echo $HUSH") == "wellkeptsecret"
    for place in (
        f"systemctl show ingot-app-{instance['instance']}",
        f"systemctl cat ingot-app-{instance['instance']}",
        "ps -eo args",
        "journalctl --no-pager",
        "cat /var/lib/ingot/dea/applications.json",
        "find /run/ingot-dea -type f",
    ):
        # The play that runs this test has the word in its own arguments nowhere: only its prefix.
        found = [
            line
            for line in host.run(place).stdout.splitlines()
            if "wellkept" in line and "python -c" not in line
        ]
        assert found == [], place


def test_restarting_or_killing_the_agent_harms_no_instance(host: Any, instance: dict[str, Any]) -> None:
    before = main_pid(host, instance)
    for command in (
        "systemctl restart ingot-dea",
        "systemctl kill --signal=SIGKILL ingot-dea",
        # What a role asks for when it changed the agent's unit: systemd reads all units again.
        "systemctl daemon-reload && systemctl restart ingot-dea",
    ):
        assert host.run(command).rc == 0
        wait = "for i in $(seq 100); do curl -fsS http://127.0.0.1:9051/readyz && exit 0; sleep 0.1; done; exit 1"
        assert host.run(wait).rc == 0
        assert main_pid(host, instance) == before
        assert [f["instance"] for f in controller(host, "find")] == [instance["instance"]]


def test_a_killed_instance_is_reported_in_words(host: Any, instance: dict[str, Any]) -> None:
    kill = ["systemctl", "kill", "--signal=SIGKILL", f"ingot-app-{instance['instance']}"]
    exited = controller(host, "exited", after=kill)
    assert (exited["instance"], exited["reason"]) == (instance["instance"], "CRASHED")
    assert exited["detail"] == "killed by signal 9"


def test_too_much_memory_ends_an_instance(host: Any, instance: dict[str, Any]) -> None:
    hog = "python3 -c 'import time; x = bytearray(200_000_000); time.sleep(60)' >/dev/null 2>&1 & echo on"
    exited = controller(host, "exited", after=asking(instance, hog))
    assert exited["detail"].startswith(("memory over 128 MB", "killed by the kernel"))


def test_stopping_leaves_nothing(host: Any, facts: dict[str, Any]) -> None:
    controller(host, "start")
    controller(host, "stop")
    wait = 'for i in $(seq 100); do [ -z "$(ls /var/lib/ingot/dea/instances)" ] && exit 0; sleep 0.1; done; exit 1'
    assert host.run(wait).rc == 0
    assert host.run("systemctl list-units --all --plain --no-legend 'ingot-app-*.service'").stdout == ""
    assert host.run("ps -eo uid= | awk '$1 >= 50000 && $1 <= 59999'").stdout == ""
