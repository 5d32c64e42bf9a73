"""The lab's own promises, on real machines: they boot, die, come back, lose their cable, outlive the daemon, and leave nothing.

The tests have a daemon of their own (`INGOT_LAB_HOME`), so that killing it harms no other lab.
"""

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.lab import addresses, up, wire
from orchestrator.lab.cli import evidence
from orchestrator.lab.client import SPENT, LabClient
from orchestrator.lab.errors import BadRequestError, ConflictError, NotFoundError, NotReadyError
from orchestrator.lab.host import network, processes
from orchestrator.lab.journal import Process
from orchestrator.lab.layout import Layout, PlannedBind, PlannedMachine
from orchestrator.lab.paths import CACHE, HOST_SETTINGS, Paths

pytestmark = [
    pytest.mark.lab,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="machines are made by root"),
]

BOOT = 60.0
SHARE = (PlannedBind("share", "/srv/share"),)
SHARE_RO = (PlannedBind("share", "/srv/share", read_only=True),)
TWO = Layout(
    machines=(PlannedMachine("one", ("router",), SHARE), PlannedMachine("two", ("dea",), SHARE_RO)),
    image="bookworm",
)


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    # Not pytest's own: a Unix socket's path has 107 characters at most.
    path = Path(tempfile.mkdtemp(prefix="ingot-lab-", dir="/var/tmp"))
    (path / "project").mkdir()
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def paths(home: Path) -> Paths:
    return Paths(state=home / "state", run=home / "run", cache=CACHE, log=home / "lab.log")


@pytest.fixture(scope="module")
def client(home: Path, paths: Paths) -> Iterator[LabClient]:
    with pytest.MonkeyPatch.context() as patch, LabClient(paths) as made:
        patch.setenv("INGOT_LAB_HOME", str(home))
        try:
            yield made
        finally:
            with contextlib.suppress(Exception):
                for left in made.labs():
                    made.delete_lab(left.name)
            made.shutdown()


@pytest.fixture(scope="module")
def name() -> str:
    return f"t-{secrets.token_hex(4)}"


@pytest.fixture(scope="module")
def lab(client: LabClient, home: Path, name: str) -> wire.LabView:
    return up.bring_up(client, home / "project", name, TWO).lab


def ssh(client: LabClient, lab: wire.LabView, machine: str, command: str, timeout: float = 20) -> str:
    view = client.lab(lab.name)
    address = next(m.address for m in view.machines if m.name == machine)
    done = subprocess.run(
        [
            "ssh", "-F", "none", "-i", view.key_file, "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes",
            "-o", f"UserKnownHostsFile={view.known_hosts_file}", "-o", "StrictHostKeyChecking=yes",
            "-o", "ConnectTimeout=5", f"root@{address}", command,
        ],
        capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout.strip()


def pings(client: LabClient, lab: wire.LabView, source: str, target: str) -> bool:
    with contextlib.suppress(AssertionError):
        ssh(client, lab, source, f"ping -c1 -W1 {target}")
        return True
    return False


def states(client: LabClient, lab: wire.LabView) -> dict[str, str]:
    return {m.name: m.state for m in client.lab(lab.name).machines}


def test_machines_are_whole_systems_that_know_each_other(client: LabClient, lab: wire.LabView) -> None:
    assert ssh(client, lab, "one", "hostname; systemctl is-system-running --wait") == "one\nrunning"
    assert pings(client, lab, "one", "two")
    assert pings(client, lab, "two", "one")
    ids = {ssh(client, lab, machine, "cat /etc/machine-id") for machine in ("one", "two")}
    assert len(ids) == 2
    keys = {ssh(client, lab, machine, "cat /etc/ssh/ssh_host_ed25519_key.pub") for machine in ("one", "two")}
    assert len(keys) == 2


def test_no_service_of_a_baked_package_runs_or_is_enabled(client: LabClient, lab: wire.LabView) -> None:
    units = "nginx postgresql nats-server"
    assert set(ssh(client, lab, "one", f"systemctl is-enabled {units} || :").split()) == {"disabled"}
    assert set(ssh(client, lab, "one", f"systemctl is-active {units} || :").split()) == {"inactive"}


def test_units_of_one_machine_hold_no_process_of_another(client: LabClient, lab: wire.LabView) -> None:
    for machine in ("one", "two"):
        ssh(client, lab, machine, "systemd-run -q --unit=same.service sleep 1000")
    # A process of another PID namespace shows as 0 in the group.
    members = "find /sys/fs/cgroup/ -path '*/same.service/cgroup.procs' -exec cat {} +"
    pid = ssh(client, lab, "one", "systemctl show --property=MainPID --value same.service")
    assert set(ssh(client, lab, "one", members).split()) == {pid}
    ssh(client, lab, "one", "systemctl stop same.service")
    assert ssh(client, lab, "two", "systemctl is-active same.service") == "active"
    ssh(client, lab, "two", "systemctl stop same.service")


def test_sandboxed_units_and_a_firewall_work_inside(client: LabClient, lab: wire.LabView) -> None:
    shown = ssh(
        client,
        lab,
        "one",
        "systemd-run -q --wait --pipe -p User=nobody -p ProtectSystem=strict -p MemoryMax=64M -p PrivateTmp=yes"
        " -p ProtectProc=invisible -p CapabilityBoundingSet= -p SystemCallFilter=@system-service id -u",
    )
    assert shown == "65534"
    ssh(client, lab, "one", "nft add table inet probe; nft delete table inet probe")


def test_machines_reach_what_the_host_reaches(client: LabClient, lab: wire.LabView) -> None:
    source = next(route["prefsrc"] for route in _routes() if route.get("prefsrc") not in (None, lab.gateway))
    assert ssh(client, lab, "one", f"ping -c1 -W1 {source} > /dev/null && echo yes") == "yes"
    assert lab.subnet.split("/")[0] in ssh(client, lab, "one", "ip route")


def test_share_is_written_where_it_may_be(client: LabClient, lab: wire.LabView, home: Path) -> None:
    ssh(client, lab, "one", "echo droplet > /srv/share/a")
    assert ssh(client, lab, "two", "cat /srv/share/a") == "droplet"
    assert ssh(client, lab, "two", "touch /srv/share/b 2> /dev/null || echo refused") == "refused"
    assert (home / "project" / "build" / "labs" / lab.name / "share" / "a").read_text() == "droplet\n"


def test_door_of_the_host_leads_to_the_router(client: LabClient, lab: wire.LabView) -> None:
    def fetch() -> str:
        argv = ["curl", "-sS", "--max-time", "5", f"http://127.0.0.1:{lab.port}/"]
        return subprocess.run(argv, capture_output=True, text=True, timeout=10, check=False).stdout

    assert fetch() == ""
    ssh(client, lab, "one", "systemctl start nginx")
    assert processes.wait_until(lambda: "nginx" in fetch(), 10)
    ssh(client, lab, "one", "systemctl stop nginx")


def test_power_loss_ends_a_machine_at_once_and_keeps_its_disk(client: LabClient, lab: wire.LabView) -> None:
    ssh(client, lab, "two", "echo kept > /root/kept; sync")
    client.kill(lab.name, "two")
    assert states(client, lab) == {"one": "running", "two": "stopped"}
    assert not pings(client, lab, "one", "two")
    with pytest.raises(NotReadyError, match="does not run"):
        client.wait(lab.name, "two", 1)
    client.start(lab.name, "two")
    client.wait(lab.name, "two", BOOT)
    assert ssh(client, lab, "two", "cat /root/kept") == "kept"


def test_clean_stop_and_reboot_from_within(client: LabClient, lab: wire.LabView) -> None:
    assert client.stop(lab.name, "two").state == "stopped"
    client.start(lab.name, "two")
    before = client.wait(lab.name, "two", BOOT).pid
    ssh(client, lab, "two", "systemd-run -q systemctl reboot")

    def rebooted() -> bool:
        return client.machine(lab.name, "two").pid not in (before, None)

    assert processes.wait_until(rebooted, BOOT, pause=0.2)
    client.wait(lab.name, "two", BOOT)
    assert pings(client, lab, "one", "two")


def test_pulled_cable_stays_pulled_over_a_restart(client: LabClient, lab: wire.LabView) -> None:
    client.cut(lab.name, "two")
    assert not pings(client, lab, "one", "two")
    client.kill(lab.name, "two")
    client.start(lab.name, "two")
    assert client.machine(lab.name, "two").cut
    with pytest.raises(NotReadyError, match="no SSH"):
        client.wait(lab.name, "two", 2)
    client.mend(lab.name, "two")
    client.wait(lab.name, "two", BOOT)
    assert pings(client, lab, "one", "two")


def test_machines_outlive_the_daemon(client: LabClient, lab: wire.LabView, paths: Paths) -> None:
    before = {m.name: m.pid for m in client.lab(lab.name).machines}
    assert client.shutdown()
    assert not paths.socket.exists()
    assert {m.name: m.pid for m in client.lab(lab.name).machines} == before
    first = client.status().pid
    os.kill(first, signal.SIGKILL)
    assert processes.wait_until(lambda: processes.identify(first) is None, 10)
    assert {m.name: m.pid for m in client.lab(lab.name).machines} == before
    assert pings(client, lab, "one", "two")


def test_one_daemon_at_a_time(client: LabClient, home: Path) -> None:
    client.status()
    argv = [sys.executable, "-m", "orchestrator.lab.cli.main", "serve"]
    second = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    assert second.returncode == 75
    assert "another daemon serves here" in second.stdout


def test_late_machine_is_known_to_the_others_until_it_goes(client: LabClient, lab: wire.LabView) -> None:
    client.create_machine(lab.name, "late", "bookworm")
    client.start(lab.name, "late")
    client.wait(lab.name, "late", BOOT)
    assert pings(client, lab, "one", "late")
    client.delete_machine(lab.name, "late")
    assert "late" not in ssh(client, lab, "one", "cat /etc/hosts")
    with pytest.raises(NotFoundError, match="no machine late"):
        client.machine(lab.name, "late")


def test_what_machines_used_is_counted_over_their_lives_and_after_their_end(
    client: LabClient, lab: wire.LabView, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = client.create_lab(f"{lab.name}-s", home / "project")
    client.create_machine(other.name, "m", "bookworm")
    client.start(other.name, "m")
    client.wait(other.name, "m", BOOT)
    ssh(client, other, "m", "timeout 1 sh -c 'while :; do :; done' || :")
    used = client.machine(other.name, "m").processor_seconds
    assert used > 0.1
    client.kill(other.name, "m")
    assert client.machine(other.name, "m").processor_seconds >= used
    client.start(other.name, "m")
    client.wait(other.name, "m", BOOT)
    again = client.machine(other.name, "m").processor_seconds
    assert again > used
    client.delete_machine(other.name, "m")
    assert client.lab(other.name).processor_seconds >= again
    monkeypatch.setenv(SPENT, str(tmp_path / "spent"))
    spent = client.delete_lab(other.name)
    assert spent.processor_seconds >= again
    noted = json.loads((tmp_path / "spent").read_text())
    assert noted == {"lab": other.name, "processor_seconds": spent.processor_seconds}


def test_second_up_changes_nothing(client: LabClient, lab: wire.LabView, home: Path) -> None:
    before = {m.name: m.pid for m in client.lab(lab.name).machines}
    raised = up.bring_up(client, home / "project", lab.name, TWO)
    assert raised.changed == []
    assert {m.name: m.pid for m in raised.lab.machines} == before


def test_what_collides_is_refused_and_changes_nothing(client: LabClient, lab: wire.LabView) -> None:
    with pytest.raises(ConflictError, match="belongs to"):
        client.create_lab(lab.name, Path("/elsewhere"))
    with pytest.raises(ConflictError, match="subnet"):
        client.create_lab("other", Path("/"), subnet=lab.subnet)
    with pytest.raises(ConflictError, match=f"port {lab.port}"):
        client.create_lab("other", Path("/"), port=lab.port)
    with pytest.raises(ConflictError, match="has a machine one"):
        client.create_machine(lab.name, "one", "bookworm")
    with pytest.raises(BadRequestError, match="image 'sid'"):
        client.create_machine(lab.name, "three", "sid")
    with pytest.raises(BadRequestError, match="lab 'No Name'"):
        client.create_lab("No Name", Path("/"))
    assert [found.name for found in client.labs()] == [lab.name]
    assert set(states(client, lab)) == {"one", "two"}


def test_two_labs_do_not_meet(client: LabClient, lab: wire.LabView, home: Path) -> None:
    other = client.create_lab(f"{lab.name}-b", home / "project")
    try:
        assert (other.subnet, other.port, other.bridge) != (lab.subnet, lab.port, lab.bridge)
        assert other.subnet != lab.subnet
    finally:
        client.delete_lab(other.name)
    assert states(client, lab) == {"one": "running", "two": "running"}


def test_lab_of_a_process_that_ended_is_taken_down(client: LabClient, lab: wire.LabView, home: Path) -> None:
    with subprocess.Popen(["sleep", "1000"]) as holder:
        held = processes.identify(holder.pid)
        client.create_lab(f"{lab.name}-h", home / "project", holder=held)
        holder.kill()

    def gone() -> bool:
        return [found.name for found in client.labs()] == [lab.name]

    assert processes.wait_until(gone, 30, pause=0.2)


def test_sweep_clears_what_no_journal_names(client: LabClient, lab: wire.LabView, paths: Paths) -> None:
    lost = f"{lab.name}-l"
    client.create_lab(lost, Path(tempfile.mkdtemp(dir=paths.state)))
    client.create_machine(lost, "m", "bookworm")
    client.start(lost, "m")
    bridge = client.lab(lost).bridge
    # As after a crash that also took the journal.
    os.kill(client.status().pid, signal.SIGKILL)
    (paths.lab(lost) / "lab.json").unlink()
    said = client.sweep()
    assert not paths.lab(lost).exists(), said
    assert bridge not in network.bridges()
    assert _mine(paths, lost) == {}
    assert states(client, lab) == {"one": "running", "two": "running"}


def test_evidence_also_of_the_dead(client: LabClient, lab: wire.LabView, tmp_path: Path) -> None:
    client.kill(lab.name, "two")
    evidence.collect(client.lab(lab.name), client.paths.log, tmp_path)
    for machine in ("one", "two"):
        assert "Started ssh.service" in (tmp_path / machine / "journal.txt").read_text()
        assert "login:" in (tmp_path / machine / "console.txt").read_text()
    assert "machine killed" in (tmp_path / "lab.log").read_text()


def test_down_leaves_nothing(client: LabClient, lab: wire.LabView, home: Path, paths: Paths) -> None:
    index = addresses.bridge_index(lab.bridge)
    assert index is not None
    pid = client.status().pid
    counted = json.loads(HOST_SETTINGS.read_text())
    assert up.take_down(client, home / "project", lab.name)
    assert processes.wait_until(lambda: processes.identify(pid) is None, 30)
    assert _mine(paths) == {}
    assert str(home) not in Path("/proc/self/mounts").read_text()
    assert lab.bridge not in network.bridges()
    assert addresses.table_name(index) not in network.tables()
    assert not list(paths.labs.iterdir())
    assert not (home / "project" / "build" / "labs" / lab.name).exists()
    for top in ("systemd", "unified", "."):
        assert not list(Path("/sys/fs/cgroup", top, "ingot-lab").glob(f"ing{index}-*"))
    if counted["bridges"] == [lab.bridge]:
        assert {name: Path(name).read_text().strip() for name in counted["before"]} == counted["before"]
    assert not up.take_down(client, home / "project", lab.name)


def _mine(paths: Paths, lab: str | None = None) -> dict[Process, str]:
    prefix = f"{paths.state}:" + (f"{lab}:" if lab else "")
    return {process: mark for process, mark in processes.marks() if mark.startswith(prefix)}


def _routes() -> list[dict[str, str]]:
    done = subprocess.run(["ip", "-j", "-4", "route"], capture_output=True, text=True, check=True)
    found: list[dict[str, str]] = json.loads(done.stdout)
    return found
