"""One machine with a kernel of its own beside one without, shared by all tests that need such a kernel: its start is the main cost."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestrator.lab import up, wire
from orchestrator.lab.client import LabClient
from orchestrator.lab.errors import DaemonError
from orchestrator.lab.layout import SHARE, Layout, PlannedBind, PlannedMachine
from orchestrator.lab.paths import CACHE, Paths

IMAGE = "bookworm-qemu"
MEMORY = 640
# Its name is one that options and scripts must quote.
ODD = "odd, a directory"
LAYOUT = Layout(
    machines=(
        PlannedMachine(
            "own",
            ("dea", "nfs_server"),
            (PlannedBind("share", SHARE), PlannedBind(ODD, f"/srv/{ODD}", read_only=True)),
            IMAGE,
            MEMORY,
        ),
        PlannedMachine("plain", ("nfs_client",)),
    ),
    image="bookworm-bare",
)


@dataclass(frozen=True)
class KernelLab:
    """The lab, its daemon's client, and their folder."""

    home: Path
    paths: Paths
    client: LabClient
    lab: wire.LabView

    @property
    def folder(self) -> Path:
        """The lab's folder in its checkout, with the sources of its binds."""
        return self.home / "project" / "build" / "labs" / self.lab.name

    @property
    def name(self) -> str:
        return self.lab.name

    def ssh(self, machine: str, command: str, timeout: float = 600) -> str:
        """Run a command as root, with the host key checked; return its output."""
        view = self.client.lab(self.name)
        address = next(m.address for m in view.machines if m.name == machine)
        done = subprocess.run(
            [
                "ssh", "-F", "none", "-i", view.key_file, "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes",
                "-o", f"UserKnownHostsFile={view.known_hosts_file}", "-o", "StrictHostKeyChecking=yes",
                "-o", "ConnectTimeout=120", f"root@{address}", command,
            ],
            capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout.strip()


@pytest.fixture(scope="session")
def kernel_lab() -> Iterator[KernelLab]:
    """Raise the lab with a daemon of its own, so that killing the daemon harms no other lab."""
    # Not pytest's own folder: a Unix socket's path has 107 characters at most.
    home = Path(tempfile.mkdtemp(prefix="ingot-lab-", dir="/var/tmp"))
    (home / "project").mkdir()
    paths = Paths(state=home / "state", run=home / "run", cache=CACHE, log=home / "lab.log")
    with LabClient(paths) as client:
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("INGOT_LAB_HOME", str(home))
                lab = up.bring_up(client, home / "project", f"k-{secrets.token_hex(4)}", LAYOUT).lab
            yield KernelLab(home, paths, client, lab)
        finally:
            with contextlib.suppress(DaemonError), pytest.MonkeyPatch.context() as patch:
                patch.setenv("INGOT_LAB_HOME", str(home))
                for left in client.labs():
                    client.delete_lab(left.name)
                client.shutdown()
            shutil.rmtree(home)


@pytest.fixture
def kernels(kernel_lab: KernelLab, monkeypatch: pytest.MonkeyPatch) -> KernelLab:
    """Give the lab to a test whose calls may start its daemon again."""
    monkeypatch.setenv("INGOT_LAB_HOME", str(kernel_lab.home))
    return kernel_lab
