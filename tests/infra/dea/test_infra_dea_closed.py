"""What foreign code on a DEA is kept from: root, the machine's sockets, its neighbours' names; and what it is given."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

import pytest

from tests.infra.dea_probe import controller, inside
from tests.infra.units import hold_exposure, hostile

# `/dev/shm` is the one place of an instance that root without its powers could write to as well.
SHM = "/dev/shm"
HOSTILE = [f"{name}={value}" for name, value in hostile(SHM).items()]
WHOSE = f"stat -c %u {SHM}/ld.* | sort -u"


@pytest.fixture
def hostile_instance(host: Any, facts: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield controller(host, "start", env=HOSTILE)
    controller(host, "stop")


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


def test_values_reach_a_unit_byte_for_byte(host: Any, facts: dict[str, Any]) -> None:
    value = "'a' \"b\" $HOME ${HOME} `id` \\ \\n # ;\r\n\t\x01\x1b\x7f caf\u00e9 \ufeff \\"
    command = "python3 -c 'import os; print(ascii(os.environ[\"V\"]))'"
    (ended,) = controller(host, "task", task="bytes", command=command, env=[f"V={value}"])
    assert ast.literal_eval(ended["tail"]) == value


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
