"""The DEA on its machine: instances are units of their own, see and reach nothing that is not theirs, and outlive the agent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import testinfra

from tests.infra.dea_probe import asking, controller, inside, main_pid

# The bus answers by itself; for the others, somebody stands in.
PLATFORM_PORTS = [4222, 5432, 9022, 9051, 12345, 61001]
SERVICE_PORTS = [5000]


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
    itself = ("127.0.0.1", instance["stats"]["port"])
    places += [("127.0.0.1", other), itself]
    # Of those the machine itself reaches, which is each of them, the application reaches what is left.
    dial = "; ".join(
        f"timeout 5 bash -c 'exec 3<>/dev/tcp/{a}/{p}' 2>/dev/null && echo {a} {p}" for a, p in places
    )
    assert host.run(f"{{ {dial}; }} || true").stdout.splitlines() == [f"{a} {p}" for a, p in places]
    reached = [tuple(line.split()) for line in inside(host, instance, dial).splitlines()]
    assert reached == [(a, str(p)) for a, p in [*((listeners, port) for port in SERVICE_PORTS), itself]]


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
