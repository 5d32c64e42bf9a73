"""Machines with a kernel of their own: tests of the kernel itself, and of the lab's promises for such machines."""

import contextlib
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from orchestrator.lab import addresses
from orchestrator.lab.backends import accelerator
from orchestrator.lab.backends.accelerator import BY_TCG
from orchestrator.lab.cli import evidence
from orchestrator.lab.errors import BadRequestError, ConflictError
from orchestrator.lab.host import network, processes
from orchestrator.lab.images import recipes
from orchestrator.lab.layout import SHARE
from tests.lab.kernel_lab import IMAGE, MEMORY, ODD, KernelLab

pytestmark = [
    pytest.mark.lab,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="machines are made by root"),
]

BOOT = 300.0


def test_machine_has_a_kernel_of_its_own_and_is_one_of_the_lab(kernels: KernelLab) -> None:
    version, *rest = kernels.ssh(
        "own",
        "uname -r; hostname; systemctl is-system-running --wait; stat -f -c %T /sys/fs/cgroup; getent hosts plain | wc -l",
    ).splitlines()
    assert version != os.uname().release
    assert rest == ["own", "running", "cgroup2fs", "1"]
    kernels.ssh("own", "ping -c1 -W5 plain")
    kernels.ssh("plain", "ping -c1 -W5 own")
    assert kernels.client.status().accelerator.startswith(("kvm (", "tcg ("))
    megabytes = int(kernels.ssh("own", "awk '/^MemTotal/ {print int($2 / 1024)}' /proc/meminfo"))
    assert 0.8 * MEMORY < megabytes < MEMORY


def test_guest_of_a_probe_says_that_it_runs(kernels: KernelLab) -> None:
    folder = kernels.paths.machine(kernels.name, "own")
    assert accelerator.refused(BY_TCG, folder / recipes.KERNEL, folder / recipes.INITRD, deadline=BOOT) == ""
    said = accelerator.refused(BY_TCG, folder / recipes.KERNEL, folder / recipes.INITRD, deadline=0.2)
    assert said == "no end after 0 s"


def test_limits_of_control_groups_are_hard(kernels: KernelLab) -> None:
    said = kernels.ssh(
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
        "'; systemctl reset-failed",
    )
    assert said.splitlines() == ["oom-kill", "7"]


def test_clock_is_the_machines_own(kernels: KernelLab) -> None:
    def ahead(machine: str) -> float:
        return int(kernels.ssh(machine, "date +%s")) - time.time()

    kernels.ssh("own", "date -s '+1 hour'")
    assert abs(ahead("own") - 3600) < 60
    assert abs(ahead("plain")) < 60
    kernels.ssh("own", "date -s '-1 hour'")
    assert abs(ahead("own")) < 60


def test_quota_of_a_project_refuses_what_is_beyond_it(kernels: KernelLab) -> None:
    said = kernels.ssh(
        "own",
        "mkdir /srv/limited && chown nobody /srv/limited && chattr -p 7 +P /srv/limited && setquota -P 7 0 8192 0 0 /;"
        " cd /srv/limited; setpriv --reuid=nobody --clear-groups sh -c"
        " 'head -c 4M /dev/zero > within && echo within; head -c 16M /dev/zero 2>&1 > beyond';"
        " du -s --block-size=M /srv/limited; head -c 16M /dev/zero > /srv/free && echo free; rm -r /srv/limited /srv/free",
    )
    within, beyond, used, free = said.splitlines()
    assert (within, used.split()[0], free) == ("within", "8M", "free")
    assert "Disk quota exceeded" in beyond


def test_kernel_exports_and_mounts_over_nfs(kernels: KernelLab) -> None:
    said = kernels.ssh(
        "own",
        "mkdir -p /srv/nfs /mnt/nfs; echo '/srv/nfs own(rw,no_subtree_check,no_root_squash)' > /etc/exports;"
        " systemctl start nfs-server && mount -t nfs4 own:/srv/nfs /mnt/nfs && echo here > /mnt/nfs/file;"
        " cat /srv/nfs/file; stat -f -c %T /mnt/nfs; umount /mnt/nfs; systemctl stop nfs-server",
    )
    assert said.split() == ["here", "nfs"]


def test_directories_of_the_host_are_seen_inside(kernels: KernelLab) -> None:
    share, odd = kernels.folder / "share", kernels.folder / ODD
    (share / "given").write_text("by the host\n")
    (odd / "given").write_text("by its odd one\n")
    assert kernels.ssh("own", f"cat {SHARE}/given; echo taken > {SHARE}/back") == "by the host"
    assert (share / "back").read_text() == "taken\n"
    assert kernels.ssh("own", f"cat '/srv/{ODD}/given'; touch '/srv/{ODD}/back' 2>&1 || :").splitlines() == [
        "by its odd one",
        f"touch: cannot touch '/srv/{ODD}/back': Read-only file system",
    ]


def test_what_cannot_be_is_refused(kernels: KernelLab) -> None:
    with pytest.raises(BadRequestError, match="at least 256 MiB"):
        kernels.client.create_machine(kernels.name, "small", IMAGE, memory=64)
    with pytest.raises(BadRequestError, match="kernel of their own"):
        kernels.client.create_machine(kernels.name, "limited", "bookworm-bare", memory=512)
    with pytest.raises(ConflictError, match="in use"):
        kernels.client.remove_image(IMAGE)
    assert [m.name for m in kernels.client.lab(kernels.name).machines] == ["own", "plain"]


def test_cut_machine_learns_the_names_of_others_and_outlives_the_daemon(kernels: KernelLab) -> None:
    client, name = kernels.client, kernels.name
    client.cut(name, "own")
    with pytest.raises(AssertionError):
        kernels.ssh("plain", "ping -c1 -W1 own")
    before = client.machine(name, "own").pid
    daemon = client.status().pid
    os.kill(daemon, signal.SIGKILL)
    assert processes.wait_until(lambda: processes.identify(daemon) is None, 10)
    assert client.machine(name, "own").pid == before
    client.create_machine(name, "late", "bookworm-bare")
    client.mend(name, "own")
    client.wait(name, "own", BOOT)
    assert kernels.ssh("own", "getent hosts late")
    client.delete_machine(name, "late")
    assert "late" not in kernels.ssh("own", "cat /etc/hosts")


def test_reboot_from_within_and_power_loss_keep_the_disk(kernels: KernelLab) -> None:
    client, name = kernels.client, kernels.name

    def start() -> str:
        with contextlib.suppress(AssertionError):
            return kernels.ssh("own", "cat /proc/sys/kernel/random/boot_id")
        return ""

    before = start()
    kernels.ssh("own", "echo kept > /root/kept; sync; systemd-run -q systemctl reboot")
    assert processes.wait_until(lambda: start() not in ("", before), BOOT, 0.5)
    assert client.kill(name, "own").state == "stopped"
    assert processes_of(name, "own") == []
    client.start(name, "own")
    client.wait(name, "own", BOOT)
    assert kernels.ssh("own", "cat /root/kept; cat /proc/sys/kernel/hostname") == "kept\nown"


def test_sweep_takes_what_a_crash_left_and_nothing_else(kernels: KernelLab) -> None:
    client, home, name = kernels.client, kernels.home, f"{kernels.name}-lost"
    lost = client.create_lab(name, home / "project")
    client.create_machine(name, "other", IMAGE)
    client.start(name, "other")
    assert processes_of(name, "other")
    os.kill(client.status().pid, signal.SIGKILL)
    # As after a crash that also took the journal.
    (kernels.paths.lab(name) / "lab.json").unlink()
    client.sweep()
    index = addresses.bridge_index(lost.bridge)
    assert index is not None
    assert processes_of(name, "other") == []
    assert not kernels.paths.lab(name).exists()
    links = {entry["ifname"] for entry in _links()}
    assert {link for link in links if link.startswith((f"vt-ing{index}-", f"vb-ing{index}-"))} == set()
    assert lost.bridge not in links
    assert addresses.table_name(index) not in network.tables()
    assert f"/{name}/" not in Path("/proc/self/mounts").read_text()
    assert client.machine(kernels.name, "own").state == "running"


def test_clean_stop_is_one(kernels: KernelLab, tmp_path: Path) -> None:
    assert kernels.client.stop(kernels.name, "own", BOOT).state == "stopped"
    evidence.collect(kernels.client.lab(kernels.name), kernels.paths.log, tmp_path)
    said = (tmp_path / "own" / "console.txt").read_text()
    assert "Started ssh.service" in said
    assert "reboot: Power down" in said
    assert processes_of(kernels.name, "own") == []


def processes_of(lab: str, machine: str) -> list[str]:
    """Return the command lines that name the machine's folder."""
    folder = f"/{lab}/machines/{machine}/"
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
