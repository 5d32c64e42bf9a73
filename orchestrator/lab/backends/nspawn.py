"""Machines as systemd-nspawn containers that boot a whole Debian.

Each has an overlay over the image, and a veth on the bridge. The supervisor (a shell around systemd-nspawn) is a session of
its own and outlives the daemon. This rests on three facts: SIGKILL of the machine's PID 1 ends the machine at once, SIGKILL
of nspawn alone does not, and SIGTERM to it is a clean stop.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path

from components.common.filesystem.files import write_atomically
from orchestrator.lab.backends.console import tail
from orchestrator.lab.backends.interface import File, Spec
from orchestrator.lab.errors import BadRequestError, LabError
from orchestrator.lab.host import cgroups, processes
from orchestrator.lab.host.run import run
from orchestrator.lab.journal import Life

_LEADER_DEADLINE = 20.0
_KILL_DEADLINE = 10.0
# The signal that systemd as PID 1 takes for "power off".
_POWER_OFF = signal.SIGRTMIN + 4
_PROGRAM = "systemd-nspawn"
# The supervisor: it runs nspawn in the machine's control groups ("GROUP FILE... -- NSPAWN ARGUMENT..."), again when
# the machine rebooted (nspawn reports that with status 133 and leaves it to a service manager), and passes SIGTERM
# on.
_SUPERVISE = r"""
trap 'kill -TERM "$child"' TERM
while :; do
    (
        while [ "$1" != -- ]; do sh -c 'echo "$PPID" > "$1"' sh "$1"; shift; done
        shift
        exec "$@"
    ) &
    child=$!
    wait "$child"
    status=$?
    while kill -0 "$child" 2> /dev/null; do wait "$child"; status=$?; done
    [ "$status" = 133 ] || exit "$status"
done
"""


class Nspawn:
    """The backend of the default lab."""

    name = "nspawn"
    interface = "host0"

    def __init__(self) -> None:
        self._children: list[subprocess.Popen[bytes]] = []
        self._guard = threading.Lock()

    def check(self, spec: Spec) -> None:
        """Refuse a limit of memory: the machines share the host's."""
        if spec.memory:
            raise BadRequestError(
                f"machine {spec.hostname}: only machines with a kernel of their own have memory"
            )

    def create(self, spec: Spec) -> None:
        """Make the overlay's directories and mount it."""
        for part in ("upper", "work", "root"):
            (spec.folder / part).mkdir(parents=True, exist_ok=True)
        options = ",".join(
            f"{name}={_escaped(path)}"
            for name, path in (
                ("lowerdir", spec.image),
                ("upperdir", spec.folder / "upper"),
                ("workdir", spec.folder / "work"),
            )
        )
        with self._guard:
            if not spec.root.is_mount():
                run(["mount", "-t", "overlay", f"ingot-lab-{spec.key}", "-o", options, str(spec.root)])

    def write(self, spec: Spec, files: Mapping[str, File]) -> None:
        """Write through the mounted overlay, which the running machine sees at once."""
        for name, file in files.items():
            path = spec.root / name.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, file.text, mode=file.mode)

    def start(self, spec: Spec) -> Life:
        """Start the supervisor and wait for the machine's PID 1."""
        self.create(spec)
        argv = [
            "systemd-nspawn", "--quiet", f"--directory={spec.root}", "--boot", "--register=no", "--keep-unit",
            f"--machine={spec.key}", f"--hostname={spec.hostname}", f"--network-bridge={spec.bridge}",
            "--resolv-conf=off", "--link-journal=no", "--timezone=off", f"--setenv={processes.MARK}={spec.mark}",
            *(f"--bind{'-ro' if b.read_only else ''}={_bind(b.source)}:{_bind(b.target)}" for b in spec.binds),
        ]  # fmt: skip
        groups = [str(path) for path in cgroups.create(spec.key)]
        with spec.console.open("ab") as console:
            child = subprocess.Popen(
                ["/bin/sh", "-c", _SUPERVISE, "ingot-lab", *groups, "--", *argv],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd="/",
                env={"PATH": os.environ.get("PATH", os.defpath), processes.MARK: spec.mark},
            )
        with self._guard:
            self._children.append(child)
        supervisor = processes.identify(child.pid)
        processes.wait_until(
            lambda: child.poll() is not None or processes.leader_of(child.pid) is not None, _LEADER_DEADLINE
        )
        leader = processes.leader_of(child.pid)
        if supervisor is None or leader is None:
            self.kill(spec, Life(supervisor))
            raise LabError(f"machine {spec.hostname} did not start: {tail(spec.console) or 'no output'}")
        with contextlib.suppress(LabError):
            # The veth is there as soon as PID 1 is; a machine that ended at once has none any more.
            run(["ip", "link", "set", self._link(spec), "mtu", str(spec.mtu)])
        return Life(supervisor, leader)

    def alive(self, life: Life | None) -> Life | None:
        """Return the life of the recorded PID 1; after a reboot, that of the supervisor's new child."""
        self._reap()
        if life is None:
            return None
        if processes.lives(life.leader):
            return life
        if life.supervisor and processes.lives(life.supervisor):
            leader = processes.leader_of(life.supervisor.pid)
            return Life(life.supervisor, leader) if leader else None
        return None

    def stop(self, spec: Spec, life: Life, deadline: float) -> None:
        """Ask the supervisor for a clean stop; an orphaned machine is asked directly."""
        if processes.lives(life.supervisor):
            processes.end(life.supervisor, signal.SIGTERM)
        else:
            processes.end(life.leader, _POWER_OFF)
        processes.wait_until(lambda: not self._there(life), deadline, pause=0.1)
        self.kill(spec, life)

    def kill(self, spec: Spec, life: Life | None) -> None:
        """Kill PID 1, then the supervisor, then remove the cable."""
        if life is not None:
            current = self.alive(life) or life
            between = processes.parent_of(current.leader, _PROGRAM)
            all_of_it = (current.supervisor, current.leader, between)

            def gone() -> bool:
                self._reap()
                return not any(map(processes.lives, all_of_it))

            processes.end(current.leader, signal.SIGKILL)
            # nspawn and its supervisor end with the machine; they are killed only where they do not.
            processes.wait_until(gone, _KILL_DEADLINE / 2)
            for process in all_of_it:
                processes.end(process, signal.SIGKILL)
            if not processes.wait_until(gone, _KILL_DEADLINE):
                raise LabError(f"machine {spec.hostname} does not end: {current}")
        self._reap()
        run(["ip", "link", "delete", self._link(spec)], check=False)
        cgroups.clear(spec.key)

    def cut(self, spec: Spec) -> None:
        """Set the host's end of the veth down."""
        run(["ip", "link", "set", self._link(spec), "down"])

    def mend(self, spec: Spec) -> None:
        """Set the host's end of the veth up."""
        run(["ip", "link", "set", self._link(spec), "up"])

    def remove(self, spec: Spec) -> None:
        """Unmount the overlay and remove the folder."""
        unmount(spec.root)
        if spec.folder.is_dir():
            shutil.rmtree(spec.folder)

    def _there(self, life: Life) -> bool:
        self._reap()
        return processes.lives(life.leader) or processes.lives(life.supervisor)

    def _reap(self) -> None:
        with self._guard:
            self._children = [child for child in self._children if child.poll() is None]

    def _link(self, spec: Spec) -> str:
        return f"vb-{spec.key}"


def unmount(root: Path) -> None:
    """Unmount all mounts of a root; its machine must be gone.

    Raises:
        CommandError: a process of the host still uses it.
    """
    while root.is_mount():
        run(["umount", str(root)])


def _escaped(path: Path) -> str:
    """Return a path in the form of overlayfs's options."""
    return str(path).replace("\\", "\\\\").replace(",", "\\,").replace(":", "\\:")


def _bind(path: str) -> str:
    return path.replace("\\", "\\\\").replace(":", "\\:")
