"""The stager on its machine: it builds, and a build sees and reaches nothing that is not its own."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.infra.units import hold_exposure, hostile

# Stands in the controller's place: hands out one application, asks for its staging, prints the reply as JSON.
CONTROLLER = """
import asyncio, http.server, io, json, sys, threading, zipfile
import nats, yaml

files, framework = json.loads(sys.argv[1]), sys.argv[2]
package = io.BytesIO()
with zipfile.ZipFile(package, "w") as archive:
    for name, text in files.items():
        archive.writestr(name, text)
received = []

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.reply(package.getvalue())
    def do_POST(self):
        received.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.reply(b"")
    def reply(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
uri = f"http://stager:x@127.0.0.1:{server.server_address[1]}/"

async def main():
    bus = yaml.safe_load(open("/etc/ingot/stager.yml"))["bus"]
    password = open("/root/probe.password").read().strip()
    client = await nats.connect(bus["urls"], user="controller", password=password, inbox_prefix=b"_INBOX_controller")
    request = {"app_id": 7, "properties": {"framework": framework, "runtime": ""}, "download_uri": uri, "upload_uri": uri}
    reply = await client.request("staging", json.dumps(request).encode(), timeout=100)
    await client.close()
    print(json.dumps({**json.loads(reply.data), "droplets": len(received), "bytes": sum(map(len, received))}))

asyncio.run(main())
"""

# What foreign code finds out inside a build: pip imports it as the application's own build program.
SPY = """
import glob, json, os, pwd, socket

def attempt(what):
    try:
        return str(what())[:200]
    except Exception as error:
        return type(error).__name__

def connect(host, port):
    with socket.create_connection((host, port), 3):
        return "connected"

def write(path):
    open(path, "w").write("x")
    return "written"

facts = {
    "uid": os.getuid(),
    "gid": os.getgid(),
    "groups": os.getgroups(),
    "capabilities": [l.split()[1] for l in open("/proc/self/status") if l.startswith(("CapEff", "CapBnd", "CapPrm"))],
    "no_new_privileges": [l.split()[1] for l in open("/proc/self/status") if l.startswith("NoNewPrivs")],
    "config": attempt(lambda: open("/etc/ingot/stager.yml").read()),
    "etc_ingot": attempt(lambda: os.listdir("/etc/ingot")),
    "password": attempt(lambda: open("/root/probe.password").read()),
    "tasks": attempt(lambda: len(os.listdir("/var/lib/ingot/stager/tasks"))),
    "caches": attempt(lambda: os.listdir("/var/lib/ingot/stager/cache")),
    "units": attempt(lambda: os.listdir("/var/lib/ingot/stager/units")),
    "release": attempt(lambda: write("/opt/ingot/current/x")),
    "system": attempt(lambda: write("/usr/local/bin/x")),
    "cron": attempt(lambda: write("/etc/cron.d/x")),
    "bus": attempt(lambda: connect(NATS, 4222)),
    "probes": attempt(lambda: connect("127.0.0.1", 9041)),
    "ssh": attempt(lambda: connect("127.0.0.1", 22)),
    "run": sorted(glob.glob("/run/*") + glob.glob("/run/systemd/*")),
    "run_written": attempt(lambda: write("/run/x")),
    "account": attempt(lambda: (pwd.getpwuid(os.getuid()).pw_name, pwd.getpwuid(os.getuid()).pw_dir == os.environ["HOME"])),
    "accounts": sorted(a.pw_name for a in pwd.getpwall()),
    "dbus": attempt(lambda: os.system("busctl --system --no-pager call org.freedesktop.systemd1 "
        "/org/freedesktop/systemd1 org.freedesktop.systemd1.Manager StopUnit ss ssh.service fail >/dev/null 2>&1")),
    "foreign_processes": [p for p in glob.glob("/proc/[0-9]*") if os.stat(p).st_uid != os.getuid()],
    "environment": sorted(os.environ),
    "home": attempt(lambda: write(os.path.expanduser("~/mine"))),
}
print("SPY " + json.dumps(facts), flush=True)
raise SystemExit(1)
"""
# Runs a build as the stager does, but in an environment that is hostile to it; prints whose programs left notes in its cache, and
# what `systemd-analyze` says of the unit. The stager's own builds take no such variable from anybody.
HOSTILE = """
import asyncio, io, json, pathlib, subprocess, sys, zipfile
from components.common import config
from components.stager import sandbox
from components.stager.config import StagerConfig

async def main():
    given = json.loads(sys.argv[1])
    read = config.load(pathlib.Path("/etc/ingot/stager.yml"), StagerConfig)
    box_of = sandbox.Sandbox(read)
    box = await box_of.open("hostile", 9)
    box.cache.chmod(0o777)
    sandbox.build_environment = lambda *_: {
        "PATH": "/usr/bin:/bin", "HOME": str(box.path / "home"), **{k: v.replace("@", str(box.cache)) for k, v in given.items()}
    }
    with zipfile.ZipFile(box.package, "w") as archive:
        archive.writestr("index.html", "x")
    box.package.chmod(0o644)
    await box_of.start(box, {"framework": "static"})
    own = box.uid
    status = await box_of.wait(box)
    notes = sorted(box.cache.glob("ld.*"))
    print(json.dumps({"own": own, "status": status.describe(), "owners": [n.stat().st_uid for n in notes]}))
    await box_of.close(box)
    await box_of.shut()

asyncio.run(main())
"""
BACKEND = '[build-system]\nrequires = []\nbuild-backend = "own"\nbackend-path = ["."]\n'
HELLO = "def application(environ, start_response):\n    start_response('200 OK', [])\n    return [b'hello']\n"


@pytest.fixture
def facts(host: Any) -> dict[str, Any]:
    known: dict[str, Any] = host.ansible.get_variables()
    if known["inventory_hostname"] not in known["groups"]["stager"]:
        pytest.skip("not a stager")
    return known


def stage(host: Any, files: dict[str, str], framework: str = "") -> dict[str, Any]:
    done = host.run(
        "/opt/ingot/current/venv/bin/python -c %s %s %s", CONTROLLER, json.dumps(files), framework
    )
    if done.rc != 0:
        pytest.fail(done.stderr + host.run("journalctl -u ingot-stager -n 50 --no-pager").stdout)
    reply: dict[str, Any] = json.loads(done.stdout)
    return reply


def with_build_program(program: str) -> dict[str, str]:
    """Give an application whose requirements run a program, with no index asked."""
    return {
        "wsgi.py": HELLO,
        "requirements.txt": "./own\n",
        "own/pyproject.toml": BACKEND,
        "own/own.py": program,
    }


def test_it_runs_and_starts_with_the_machine(host: Any, facts: dict[str, Any]) -> None:
    service = host.service("ingot-stager")
    if not service.is_running:
        pytest.fail(host.run("journalctl -u ingot-stager -n 50 --no-pager").stdout)
    assert service.is_enabled
    assert host.run("curl -fsS http://127.0.0.1:9041/readyz").rc == 0


def test_the_configuration_keeps_its_passwords(host: Any, facts: dict[str, Any]) -> None:
    config = host.file("/etc/ingot/stager.yml")
    assert (config.user, config.group, config.mode) == ("root", "ingot-stager", 0o640)


def test_an_application_is_staged_without_any_index(host: Any, facts: dict[str, Any]) -> None:
    reply = stage(host, {"wsgi.py": HELLO}, "wsgi")
    assert reply.get("error") is None, reply["error"]
    assert reply["droplets"] == 1
    assert "framework wsgi on python3" in reply["task_log"]


def test_node_is_staged(host: Any, facts: dict[str, Any]) -> None:
    reply = stage(host, {"server.js": "1", "package.json": "{}"})
    assert reply.get("error") is None, reply["error"]


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"config.ru": "run ->(_) { [200, {}, []] }"}, "framework rack on ruby: config.ru"),
        (
            {
                "main.rb": "require 'sinatra'",
                "Gemfile": 'source "https://gems.example.com"\ngem "puma"\ngem "sinatra"\n',
            },
            "gems: ",
        ),
        (
            {"WEB-INF/web.xml": "<web-app/>", "index.jsp": '<%@ page import="javax.servlet.http.*" %>'},
            "written for javax.servlet: converted to jakarta.servlet",
        ),
        ({"index.php": "<?php"}, "framework php on php: index.php"),
    ],
    ids=["rack", "sinatra", "war", "php"],
)
def test_what_builds_of_each_language_use_is_there(
    host: Any, facts: dict[str, Any], files: dict[str, str], says: str
) -> None:
    reply = stage(host, files)
    assert reply.get("error") is None, reply["error"]
    assert says in reply["task_log"]


def test_a_build_sees_and_reaches_nothing_that_is_not_its_own(host: Any, facts: dict[str, Any]) -> None:
    bus = host.run("getent hosts %s", facts["groups"]["nats"][0]).stdout.split()[0]
    reply = stage(host, with_build_program(f"NATS = {bus!r}\n{SPY}"), "wsgi")
    told = [line for line in reply["task_log"].splitlines() if "SPY " in line]
    assert told, reply["task_log"]
    spied = json.loads(told[0].partition("SPY ")[2])
    assert 49000 <= spied["uid"] <= 49099
    assert spied["gid"] == spied["uid"]
    assert spied["groups"] in ([], [spied["gid"]])
    assert spied["capabilities"] == ["0000000000000000"] * 3
    assert spied["no_new_privileges"] == ["1"]
    assert spied["config"] == "PermissionError"
    assert spied["etc_ingot"] == "PermissionError"
    assert spied["password"] in ("PermissionError", "FileNotFoundError")
    assert spied["tasks"] == "1"
    assert spied["caches"] == "['7']"
    assert spied["units"] == "FileNotFoundError"
    for place in ("release", "system", "cron"):
        assert spied[place] in ("OSError", "PermissionError"), place
    for port in ("bus", "probes", "ssh"):
        assert spied[port] in ("ConnectionRefusedError", "TimeoutError"), port
    assert spied["dbus"] != "0"
    assert spied["foreign_processes"] == []
    assert not [name for name in spied["environment"] if "NATS" in name or "INGOT" in name]
    assert spied["home"] == "written"
    assert set(spied["run"]) <= {"/run/systemd", "/run/systemd/incoming", "/run/systemd/resolve"}
    assert spied["run_written"] == "OSError"
    assert spied["account"] == "('app', True)"
    assert spied["accounts"] == ["app", "nobody", "root"]


def test_no_line_of_a_build_runs_as_root(host: Any, facts: dict[str, Any]) -> None:
    done = host.run("cd / && /opt/ingot/current/venv/bin/python -c %s %s", HOSTILE, json.dumps(hostile("@")))
    assert done.rc == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["status"] == "exited with status 0"
    assert 49000 <= seen["own"] <= 49099
    # Each program left its note, the first of the unit too.
    assert set(seen["owners"]) == {seen["own"]}


def test_a_build_is_as_closed_as_the_docs_say(
    host: Any, facts: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    sleep = json.dumps(with_build_program("import time\ntime.sleep(20)\nraise SystemExit(1)\n"))
    script = (
        "/opt/ingot/current/venv/bin/python -c %s %s wsgi >/dev/null 2>&1 & "
        "for i in $(seq 300); do systemctl list-units --plain --no-legend 'ingot-staging-*.service' | grep -q . && break; sleep 0.1; done; "
        "systemctl list-units --plain --no-legend 'ingot-staging-*.service'"
    )
    unit = host.check_output(script, CONTROLLER, sleep).split()[0].removesuffix(".service")
    hold_exposure(host, unit, "ingot-staging", capsys)
    host.check_output("systemctl kill --signal=SIGKILL %s", unit)


def test_nothing_of_a_build_stays(host: Any, facts: dict[str, Any]) -> None:
    background = (
        "import subprocess\n"
        "subprocess.Popen(['sleep', '3600'], start_new_session=True, stdout=-3, stderr=-3)\n"
        "raise SystemExit(1)\n"
    )
    reply = stage(host, with_build_program(background), "wsgi")
    assert "compile failed" in reply["error"]
    assert host.run("ls /var/lib/ingot/stager/tasks").stdout.strip() == ""
    assert host.run("systemctl list-units --all --plain --no-legend 'ingot-staging-*.service'").stdout == ""
    left = host.run("ps -eo uid=,args= | awk '$1 >= 49000 && $1 <= 49099'")
    assert left.stdout == ""


def test_a_killed_stager_comes_back_and_clears_up(host: Any, facts: dict[str, Any]) -> None:
    sleep = json.dumps(with_build_program("import time\nprint('asleep', flush=True)\ntime.sleep(600)\n"))
    script = (
        "/opt/ingot/current/venv/bin/python -c %s %s wsgi >/dev/null 2>&1 & asker=$!; "
        "for i in $(seq 200); do ls /var/lib/ingot/stager/tasks/*/box/home >/dev/null 2>&1 && break; sleep 0.1; done; "
        "systemctl kill --signal=SIGKILL ingot-stager; kill $asker; "
        'for i in $(seq 200); do [ -z "$(ls /var/lib/ingot/stager/tasks)" ] && '
        "curl -fsS http://127.0.0.1:9041/readyz >/dev/null 2>&1 && exit 0; sleep 0.1; done; exit 1"
    )
    done = host.run(script, CONTROLLER, sleep)
    assert done.rc == 0, host.run("journalctl -u ingot-stager -n 50 --no-pager").stdout
    assert host.run("ps -eo uid=,args= | awk '$1 >= 49000 && $1 <= 49099'").stdout == ""
    assert stage(host, {"index.html": "x"}).get("error") is None
