"""Machines with a kernel of their own: what only a kernel can prove, and the lab's promises kept for them too.

A start takes ten seconds and more, so few are made: one machine with a kernel beside one without.
"""

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.lab import addresses, evidence, network, processes, uml, up, wire
from orchestrator.lab.client import LabClient
from orchestrator.lab.errors import BadRequestError, ConflictError
from orchestrator.lab.journal import Bind
from orchestrator.lab.layout import Layout, PlannedBind, PlannedMachine
from orchestrator.lab.paths import CACHE, Paths

pytestmark = [
    pytest.mark.lab,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="machines are made by root"),
    pytest.mark.skipif(shutil.which(uml.PROGRAM) is None, reason="User Mode Linux is not installed"),
]

BOOT = 120.0
IMAGE = "bookworm-uml"
MIXED = Layout(
    machines=(
        PlannedMachine("own", ("nfs_server",), (PlannedBind("share", "/srv/share"),), IMAGE, 384),
        PlannedMachine("plain", ("nfs_client",)),
    ),
    image="bookworm-bare",
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
def lab(client: LabClient, home: Path) -> wire.LabView:
    return up.bring_up(client, home / "project", f"u-{secrets.token_hex(4)}", MIXED).lab


def ssh(client: LabClient, lab: wire.LabView, machine: str, command: str, timeout: float = 60) -> str:
    view = client.lab(lab.name)
    address = next(m.address for m in view.machines if m.name == machine)
    done = subprocess.run(
        [
            "ssh", "-F", "none", "-i", view.key_file, "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes",
            "-o", f"UserKnownHostsFile={view.known_hosts_file}", "-o", "StrictHostKeyChecking=yes",
            "-o", "ConnectTimeout=10", f"root@{address}", command,
        ],
        capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout.strip()


def test_machine_has_a_kernel_of_its_own_and_is_one_of_the_lab(client: LabClient, lab: wire.LabView) -> None:
    version, *rest = ssh(
        client,
        lab,
        "own",
        "uname -r; hostname; systemctl is-system-running --wait; stat -f -c %T /sys/fs/cgroup; getent hosts plain | wc -l",
    ).splitlines()
    assert version != os.uname().release
    assert rest == ["own", "running", "cgroup2fs", "1"]
    ssh(client, lab, "own", "ping -c1 -W5 plain")
    ssh(client, lab, "plain", "ping -c1 -W5 own")
    megabytes = int(ssh(client, lab, "own", "awk '/^MemTotal/ {print int($2 / 1024)}' /proc/meminfo"))
    assert 300 < megabytes < 384


def test_limits_of_control_groups_are_hard(client: LabClient, lab: wire.LabView) -> None:
    said = ssh(
        client,
        lab,
        "own",
        "systemd-run -q --wait -u hog -p MemoryMax=64M python3 -c 'len(bytearray(200 << 20))';"
        " systemctl show --value -p Result hog;"
        " systemd-run -q --wait --pipe -p TasksMax=8 python3 -c '\n"
        "import os, time\n"
        "try:\n"
        "    for n in range(20):\n"
        "        os.fork() or time.sleep(60)\n"
        "except BlockingIOError:\n"
        "    print(n)\n"
        "';",
    )
    assert said.splitlines() == ["oom-kill", "7"]


def test_kernel_exports_and_mounts_over_nfs(client: LabClient, lab: wire.LabView) -> None:
    said = ssh(
        client,
        lab,
        "own",
        "mkdir -p /srv/nfs /mnt/nfs; echo '/srv/nfs own(rw,no_subtree_check,no_root_squash)' > /etc/exports;"
        " systemctl start nfs-server && mount -t nfs4 own:/srv/nfs /mnt/nfs && echo here > /mnt/nfs/file;"
        " cat /srv/nfs/file; stat -f -c %T /mnt/nfs; umount /mnt/nfs; systemctl stop nfs-server",
    )
    assert said.split() == ["here", "nfs"]


def test_directory_of_the_host_is_seen_inside(client: LabClient, lab: wire.LabView, home: Path) -> None:
    share = home / "project" / "build" / "labs" / lab.name / "share"
    (share / "given").write_text("by the host\n")
    assert ssh(client, lab, "own", "cat /srv/share/given; echo taken > /srv/share/back") == "by the host"
    assert (share / "back").read_text() == "taken\n"


def test_what_cannot_be_is_refused(client: LabClient, lab: wire.LabView, home: Path) -> None:
    with pytest.raises(BadRequestError, match="at least 128 MiB"):
        client.create_machine(lab.name, "small", IMAGE, memory=64)
    with pytest.raises(BadRequestError, match="kernel of their own"):
        client.create_machine(lab.name, "limited", "bookworm-bare", memory=512)
    odd = home / "a directory"
    odd.mkdir()
    with pytest.raises(BadRequestError, match="no blanks"):
        client.create_machine(lab.name, "odd", IMAGE, binds=[Bind(str(odd), "/srv/odd")])
    with pytest.raises(ConflictError, match="in use"):
        client.remove_image(IMAGE)
    assert [m.name for m in client.lab(lab.name).machines] == ["own", "plain"]


def test_cut_machine_learns_the_names_of_others_and_outlives_the_daemon(
    client: LabClient, lab: wire.LabView
) -> None:
    client.cut(lab.name, "own")
    with pytest.raises(AssertionError):
        ssh(client, lab, "plain", "ping -c1 -W1 own")
    before = client.machine(lab.name, "own").pid
    daemon = client.status().pid
    os.kill(daemon, signal.SIGKILL)
    assert processes.wait_until(lambda: processes.identify(daemon) is None, 10)
    assert client.machine(lab.name, "own").pid == before
    client.create_machine(lab.name, "late", "bookworm-bare")
    client.mend(lab.name, "own")
    client.wait(lab.name, "own", BOOT)
    assert ssh(client, lab, "own", "getent hosts late")
    client.delete_machine(lab.name, "late")
    assert "late" not in ssh(client, lab, "own", "cat /etc/hosts")


def test_reboot_from_within_and_power_loss_keep_the_disk(client: LabClient, lab: wire.LabView) -> None:
    before = client.machine(lab.name, "own").pid
    ssh(client, lab, "own", "echo kept > /root/kept; sync; systemd-run -q systemctl reboot")
    assert processes.wait_until(lambda: client.machine(lab.name, "own").pid not in (before, None), BOOT, 0.2)
    client.wait(lab.name, "own", BOOT)
    assert client.kill(lab.name, "own").state == "stopped"
    assert processes_of(lab, "own") == []
    client.start(lab.name, "own")
    client.wait(lab.name, "own", BOOT)
    assert ssh(client, lab, "own", "cat /root/kept; cat /proc/sys/kernel/hostname") == "kept\nown"


def test_clean_stop_is_one(client: LabClient, lab: wire.LabView, tmp_path: Path) -> None:
    assert client.stop(lab.name, "own", BOOT).state == "stopped"
    evidence.collect(client.lab(lab.name), client.paths.log, tmp_path)
    said = (tmp_path / "own" / "console.txt").read_text()
    assert "Started ssh.service" in said
    assert "System halted" in said
    assert processes_of(lab, "own") == []


def test_sweep_and_down_leave_nothing(client: LabClient, lab: wire.LabView, paths: Paths, home: Path) -> None:
    client.start(lab.name, "own")
    assert processes_of(lab, "own")
    os.kill(client.status().pid, signal.SIGKILL)
    # As after a crash that also took the journal.
    (paths.lab(lab.name) / "lab.json").unlink()
    client.sweep()
    index = addresses.bridge_index(lab.bridge)
    assert index is not None
    assert processes_of(lab, "own") == []
    assert not paths.lab(lab.name).exists()
    links = {entry["ifname"] for entry in _links()}
    assert {link for link in links if link.startswith((f"vt-ing{index}-", f"vb-ing{index}-"))} == set()
    assert lab.bridge not in links
    assert addresses.table_name(index) not in network.tables()
    assert str(home) not in Path("/proc/self/mounts").read_text()
    assert not list(uml.CONSOLES.glob(f"ing{index}-*"))


def processes_of(lab: wire.LabView, machine: str) -> list[str]:
    """Return the command lines that name the machine's folder: of all processes its kernel makes, not only of the first."""
    folder = f"/{lab.name}/machines/{machine}/"
    found = []
    for pid in processes.pids():
        with contextlib.suppress(OSError):
            line = Path(f"/proc/{pid}/cmdline").read_text(errors="replace").replace("\0", " ")
            if folder in line:
                found.append(line)
    return found


def _links() -> list[dict[str, str]]:
    done = subprocess.run(["ip", "-j", "link"], capture_output=True, text=True, check=True)
    found: list[dict[str, str]] = json.loads(done.stdout)
    return found
