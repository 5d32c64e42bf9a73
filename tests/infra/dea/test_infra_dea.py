"""The DEA on its machine: instances are units of their own, see and reach nothing that is not theirs, and outlive the agent."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import testinfra

from tests.infra.units import hold_exposure, hostile

# The bus answers by itself; for the others, somebody stands in.
PLATFORM_PORTS = [4222, 5432, 9022, 9051, 12345, 61001]
SERVICE_PORTS = [5000]
# `/dev/shm` is the one place of an instance that root without its powers could write to as well.
SHM = "/dev/shm"
HOSTILE = [f"{name}={value}" for name, value in hostile(SHM).items()]
WHOSE = f"stat -c %u {SHM}/ld.* | sort -u"
# Stands in the controller's place. `start` serves a droplet, asks the DEA to start it, waits, prints what it hears
# of it; `find` prints the instances; `stop` stops them all; `task` runs one, does something meanwhile, prints its ends.
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
    ended = await client.subscribe("ingot.task.ended")
    if verb in ("start", "task"):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        sha1 = hashlib.sha1(content).hexdigest()
        message = {"droplet": 7, "name": "probe", "version": "v", "uris": ["probe.x"], "runtime": "python3", "framework": "standalone",
            "sha1": sha1, "executableFile": "/nowhere/" + sha1, "executableUri": f"http://127.0.0.1:{server.server_address[1]}/{sha1}",
            "limits": {"mem": 128, "disk": 64, "fds": 256}, "index": 0, "env": more.get("env", ["HUSH=wellkeptsecret"]), **(more if verb == "start" else {})}
    if verb == "start":
        await client.publish(f"dea.{dea}.start", json.dumps(message).encode())
        for _ in range(100):
            found = [f for f in await find(client, states=["RUNNING"]) if f["index"] == message["index"]]
            if found:
                print(json.dumps(found[0]))
                return
        raise SystemExit("it did not start")
    if verb == "task":
        task = {"task": more["task"], "command": more["command"], "timeout": 60, "start": message}
        reply = await client.request(f"ingot.dea.{dea}.task", json.dumps(task).encode(), timeout=5)
        assert "error" not in json.loads(reply.data), reply.data
        import subprocess
        if more.get("meanwhile"):
            await asyncio.to_thread(subprocess.run, more["meanwhile"], check=True, stdout=subprocess.DEVNULL)
        ends = [json.loads((await ended.next_msg(timeout=60)).data)]
        try:
            while True:
                ends.append(json.loads((await ended.next_msg(timeout=2)).data))
        except nats.errors.TimeoutError:
            print(json.dumps(ends))
    if verb == "beat":
        import base64, urllib.request
        beats = await client.subscribe("ingot.dea.beat")
        beat = json.loads((await beats.next_msg(timeout=20)).data)
        status = config["status"]
        who = base64.b64encode(f"{status['user']}:{status['password']}".encode()).decode()
        ask = urllib.request.Request(f"http://127.0.0.1:{status['port']}/varz", headers={"Authorization": f"Basic {who}"})
        print(json.dumps([beat, json.load(urllib.request.urlopen(ask))]))
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


@pytest.fixture
def hostile_instance(host: Any, facts: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield controller(host, "start", env=HOSTILE)
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
    assert "No such" in inside(host, instance, "ls /run/dbus")
    assert set(inside(host, instance, "ps -eo uid= | sort -u").split()) == {inside(host, instance, "id -u")}
    assert "denied" in inside(host, instance, f"kill -0 {main_pid(host, other)} || echo denied")
    for port in (4222, 22):
        assert inside(host, instance, f"(exec 3<>/dev/tcp/{bus}/{port}) 2>/dev/null && echo open") == ""
    assert inside(host, instance, "touch ~/mine /tmp/mine && echo written") == "written"


def test_no_line_of_an_instance_runs_as_root(host: Any, hostile_instance: dict[str, Any]) -> None:
    def told(command: str) -> str:
        # What follows is the loader's complaint.
        return inside(host, hostile_instance, command).splitlines()[0]

    own = told("id -u")
    assert told(f"{WHOSE} | paste -s") == own
    # Each program left its note, the first of the unit too.
    assert int(told(f"ls {SHM} | wc -l")) > 2
    assert told("echo $GLIBC_TUNABLES") == "glibc.malloc.perturb=1"
    told(f"echo 'id -u >>{SHM}/shells' >{SHM}/env.sh; echo")
    assert told(f"sort -u {SHM}/shells | paste -s") == own


def test_no_line_of_a_task_runs_as_root(host: Any, facts: dict[str, Any]) -> None:
    (ended,) = controller(host, "task", task="ld", command=f"id -u; {WHOSE}", env=HOSTILE)
    own, *owners = [line for line in ended["tail"].splitlines() if line.isdigit()]
    assert 50000 <= int(own) <= 52047
    assert owners == [own]


def test_an_instance_and_a_task_are_as_closed_as_the_docs_say(
    host: Any, instance: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    hold_exposure(host, f"ingot-app-{instance['instance']}", "ingot-app", capsys)
    analyse = "until systemctl is-active -q ingot-task-closed; do sleep 0.1; done; systemd-analyze security --no-pager ingot-task-closed"
    kept = "/root/exposure"
    meanwhile = ["sh", "-c", f"{{ {analyse}; }} >{kept}"]
    controller(host, "task", task="closed", command="sleep 5", meanwhile=meanwhile)
    whole = host.check_output(f"cat {kept}; rm {kept}").splitlines()[-1]
    instances = host.check_output("systemd-analyze security --no-pager ingot-app-%s", instance["instance"])
    assert whole.split()[-3:] == instances.splitlines()[-1].split()[-3:]


def test_an_instance_has_an_account_and_its_neighbours_names_stay_unknown(
    host: Any, instance: dict[str, Any]
) -> None:
    home = f"/var/lib/ingot/dea/instances/{instance['instance']}"
    uid = inside(host, instance, "id -u")
    assert inside(host, instance, "getent passwd $(id -u)") == f"app:x:{uid}:{uid}::{home}:/bin/bash"
    assert inside(host, instance, "id -un; id -gn").split() == ["app", "app"]
    assert inside(host, instance, "cut -d: -f1 /etc/passwd").split() == ["root", "app", "nobody"]
    assert inside(host, instance, "node -p 'require(\"os\").userInfo().homedir'") == home
    python = "python3 -c 'import os, pwd; print(pwd.getpwuid(os.getuid()).pw_dir)'"
    assert inside(host, instance, python) == home
    java = "java -XshowSettings:properties -version 2>&1 | sed -n 's/ *user\\.\\(home\\|name\\) = //p'"
    assert inside(host, instance, java).split() == [home, "app"]
    assert "user app\nhostname x" in inside(host, instance, "ssh -G x")


def test_an_instance_sees_nothing_of_run(host: Any, instance: dict[str, Any]) -> None:
    assert inside(host, instance, "find /run -mindepth 1 -maxdepth 2 2>/dev/null | sort").split() in (
        ["/run/systemd", "/run/systemd/incoming"],
        ["/run/systemd", "/run/systemd/incoming", "/run/systemd/resolve"],
    )
    assert "Read-only" in inside(host, instance, "touch /run/x")
    assert "No such" in inside(host, instance, "touch /run/lock/x")
    name = host.check_output("getent hosts core1").split()[1]
    assert name in inside(host, instance, "getent hosts core1")


def test_log_files_are_the_agents_own_making(host: Any, instance: dict[str, Any]) -> None:
    assert inside(host, instance, "stat -Lc '%a %h' /proc/self/fd/2 ~/logs/stdout.log").splitlines()[1:] == [
        "600 1"
    ]


def test_a_machine_without_the_accounts_is_told_which(host: Any, facts: dict[str, Any]) -> None:
    config = "sed 's/last: 52047/last: 52049/' /etc/ingot/dea.yml >/root/dea.yml"
    check = "/opt/ingot/current/venv/bin/ingot-dea --config /root/dea.yml --check-config"
    done = host.run(f"{config}; {check}; status=$?; rm /root/dea.yml; exit $status")
    assert done.rc == 2
    assert "no account for 52048-52049" in done.stderr
    assert "apply the role dea" in done.stderr


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


def test_one_that_an_earlier_release_started_asks_for_a_successor(
    host: Any, instance: dict[str, Any]
) -> None:
    beat, varz = controller(host, "beat")
    assert (beat["leaving"], varz["old_units"]) == ([], 0)
    unit, uid = f"ingot-app-{instance['instance']}", inside(host, instance, "id -u")
    other = controller(host, "start", index=1)
    earlier = (
        f"setpriv --reuid={uid} --regid={uid} --clear-groups --inh-caps=-all --bounding-set=-all -- sleep 600"
    )
    anew = f"systemctl stop {unit} && systemd-run -q --unit={unit} --slice=ingot-apps.slice -p RemainAfterExit=yes {earlier}"
    wait = "for i in $(seq 100); do curl -fsS http://127.0.0.1:9051/readyz && exit 0; sleep 0.1; done; exit 1"
    done = host.run(f"systemctl stop ingot-dea && {anew} && systemctl start ingot-dea && {wait}")
    assert done.rc == 0, done.stderr
    beat, varz = controller(host, "beat")
    assert (beat["leaving"], varz["old_units"]) == ([instance["instance"]], 1)
    assert {f["instance"] for f in controller(host, "find")} == {instance["instance"], other["instance"]}
    assert host.run("systemctl stop %s", unit).rc == 0
    gone = f"for i in $(seq 100); do systemctl is-active -q {unit} || exit 0; sleep 0.1; done; exit 1"
    assert host.run(gone).rc == 0
    beat, varz = controller(host, "beat")
    assert (beat["leaving"], varz["old_units"]) == ([], 0)


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


@pytest.fixture
def listeners(request: pytest.FixtureRequest, facts: dict[str, Any]) -> Iterator[str]:
    """On another machine: what answers on ports of the platform, and on one of a data service; gives the address."""
    inventory = request.config.option.ansible_inventory
    core = testinfra.get_host("ansible://core1", ansible_inventory=inventory)
    ports = " ".join(str(port) for port in PLATFORM_PORTS[1:] + SERVICE_PORTS)
    begin = f"for p in {ports}; do systemd-run -q --unit=listener-$p python3 -m http.server --directory /var/empty $p || exit 1; done"
    wait = f"for p in {ports}; do for i in $(seq 100); do ss -Hltn sport = :$p | grep -q . && continue 2; sleep 0.1; done; exit 1; done"
    done = core.run(f"{begin}; {wait}")
    assert done.rc == 0, done.stderr
    yield str(core.ansible.get_variables()["ansible_host"])
    core.run("systemctl stop 'listener-*'")


def test_an_application_reaches_its_services_and_nothing_of_the_platform(
    host: Any, instance: dict[str, Any], listeners: str
) -> None:
    own = str(instance["stats"]["host"])
    other = controller(host, "start", index=1)["stats"]["port"]
    places = [(listeners, port) for port in PLATFORM_PORTS + SERVICE_PORTS]
    places += [(own, 9051), (own, 12345), (own, other), ("127.0.0.1", 9051), ("127.0.0.1", 12345)]
    # Of those the machine itself reaches, which is each of them, the application reaches what is left.
    dial = "; ".join(
        f"timeout 5 bash -c 'exec 3<>/dev/tcp/{a}/{p}' 2>/dev/null && echo {a} {p}" for a, p in places
    )
    assert host.run(f"{{ {dial}; }} || true").stdout.splitlines() == [f"{a} {p}" for a, p in places]
    reached = [tuple(line.split()) for line in inside(host, instance, dial).splitlines()]
    assert reached == [(listeners, str(port)) for port in SERVICE_PORTS]


def test_a_task_has_the_sandbox_of_an_instance_and_its_end_is_told_once(
    host: Any, facts: dict[str, Any]
) -> None:
    command = "id -u; ls /var/lib/ingot/dea; cat /etc/ingot/dea.yml; echo ${PORT-none} $HUSH; exit 3"
    (ended,) = controller(host, "task", task="one", command=command)
    assert ended["exit_status"] == 3
    said = ended["tail"].splitlines()
    assert 50000 <= int(said[0]) <= 59999
    assert said[1] == "tasks"
    assert any("denied" in line for line in said)
    assert "none wellkeptsecret" in said
    runs = "until systemctl is-active -q ingot-task-two; do sleep 0.1; done"
    away = ["sh", "-c", f"{runs}; systemctl stop ingot-dea; sleep 4; systemctl start ingot-dea"]
    (ended,) = controller(host, "task", task="two", command="sleep 2; echo bye; exit 7", meanwhile=away)
    assert (ended["task"], ended["exit_status"], ended["tail"]) == ("two", 7, "bye\n")
    assert host.run("systemctl list-units --all --plain --no-legend 'ingot-task-*.service'").stdout == ""
    assert host.run("ls /var/lib/ingot/dea/tasks").stdout == ""


def log_of(host: Any, instance: dict[str, Any], after: int) -> dict[str, Any]:
    (now,) = [f for f in controller(host, "find") if f["instance"] == instance["instance"]]
    url, password = now["log_uri"], ":".join(now["credentials"])
    page: dict[str, Any] = json.loads(
        host.run(f"curl -fsS -u {password} '{url}?after={after}&wait=10'").stdout
    )
    return page


def test_log_lines_are_numbered_over_a_restart_of_the_agent(host: Any, instance: dict[str, Any]) -> None:
    inside(host, instance, "echo one >>~/logs/stdout.log; echo two >>~/logs/stdout.log")
    page = log_of(host, instance, 0)
    while page["last"] < 2:
        page = log_of(host, instance, 0)
    assert [(line["n"], line["text"]) for line in page["lines"]] == [(1, "one"), (2, "two")]
    assert host.run("systemctl kill --signal=SIGKILL ingot-dea").rc == 0
    inside(host, instance, "echo three >>~/logs/stderr.log")
    wait = "for i in $(seq 100); do curl -fsS http://127.0.0.1:9051/readyz && exit 0; sleep 0.1; done; exit 1"
    assert host.run(wait).rc == 0
    lines = [(line["n"], line["stream"], line["text"]) for line in log_of(host, instance, 2)["lines"]]
    assert lines == [(3, "stderr", "three")]


@pytest.mark.parametrize(
    ("doing", "why"),
    [
        # Without a control group of tasks it is its uid that has a limit, and the agent that sees it stand there.
        ("while :; do sleep 300 & done", "too many tasks (512)"),
        ("bomb() { bomb | bomb & }; bomb", ("too many tasks (512)", "memory over 128 MB")),
        ("head -c 100000000 /dev/zero >~/app/filling; sleep 300", "disk over 64 MB"),
        ("exec 3>~/app/x; rm ~/app/x; head -c 100000000 /dev/zero >&3; sleep 300", "disk over 64 MB"),
    ],
)
def test_who_takes_too_much_ends_and_the_neighbour_and_the_agent_do_not_notice(
    host: Any, instance: dict[str, Any], doing: str, why: str | tuple[str, ...]
) -> None:
    agent, pid = host.run("systemctl show -P MainPID ingot-dea").stdout, main_pid(host, instance)
    bad = controller(host, "start", index=1)
    exited = controller(host, "exited", after=asking(bad, f"({doing}) >/dev/null 2>&1 &"))
    assert (exited["instance"], exited["reason"]) == (bad["instance"], "CRASHED")
    assert exited["detail"].startswith(why)
    assert main_pid(host, instance) == pid
    assert inside(host, instance, "echo well") == "well"
    assert host.run("systemctl show -P MainPID ingot-dea").stdout == agent
    # The answer to its crash waits for the last of its processes.
    wait = "for i in $(seq 200); do ps -eo args | grep -q '[s]leep 300' || exit 0; sleep 0.1; done; ps -ef; exit 1"
    assert host.run(wait).rc == 0


def test_an_endless_writer_fills_no_disk(host: Any, instance: dict[str, Any]) -> None:
    inside(
        host, instance, "(while :; do yes line | head -c 2000000; sleep 0.1; done) >>~/logs/stdout.log 2>&1 &"
    )
    logs = f"/var/lib/ingot/dea/instances/{instance['instance']}/logs"
    wait = f"for i in $(seq 200); do [ -e {logs}/stdout.log.1 ] && exit 0; sleep 0.1; done; exit 1"
    assert host.run(wait).rc == 0
    after = log_of(host, instance, 0)["last"]
    page = log_of(host, instance, after)
    assert page["last"] > after
    assert int(host.run(f"du -sk {logs}").stdout.split()[0]) < 40_000
    assert [f["state"] for f in controller(host, "find")] == ["RUNNING"]
