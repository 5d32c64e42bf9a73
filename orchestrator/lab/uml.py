"""Machines with a kernel of their own: User Mode Linux, a Linux that runs as a process and needs no virtualization.

The machine's disk is a copy-on-write file over a link to the image's disk; its cable is a tap device on the lab's bridge.
Files get in through a directory of the host (`uml_image`). Facts this rests on: the kernel makes a session of its own, which
holds its many processes, and they do not end with it when it is killed. With
`noreboot` it ends when it would reboot; by itself it would start again with its tap device still open, and so without a cable.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import signal
import subprocess
import tarfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from orchestrator.lab import mconsole, network, processes, uml_image
from orchestrator.lab.backend import File, Spec
from orchestrator.lab.console import tail
from orchestrator.lab.errors import BadRequestError, LabError
from orchestrator.lab.journal import Life
from orchestrator.lab.run import run

PROGRAM = "linux.uml"
# Where the kernels have their consoles. Short, as a socket's path has 107 characters at most.
CONSOLES = Path("/run/ingot-uml")
DEFAULT_MEMORY = 512
LEAST_MEMORY = 128
_TAP = "vt-"
_START_DEADLINE = 30.0
_KILL_DEADLINE = 10.0
_APPLY_DEADLINE = 10.0
# The supervisor ("FILE KERNEL ARGUMENT..."): starts the kernel again where the machine left the file, as it does when it reboots.
# A panic aborts the kernel: no dump of its whole memory for that.
_SUPERVISE = r"""
ulimit -c 0
reboot=$1
shift
while :; do
    "$@"
    status=$?
    echo "ingot-lab: the kernel ended with status $status"
    [ -e "$reboot" ] || exit "$status"
    rm -f "$reboot"
done
"""


class Uml:
    """The backend for what only a kernel can prove."""

    name = "uml"
    interface = "vec0"

    def __init__(self, consoles: Path = CONSOLES) -> None:
        self._consoles = consoles
        self._children: list[subprocess.Popen[bytes]] = []
        self._guard = threading.Lock()

    def check(self, spec: Spec) -> None:
        """Refuse memory a Debian does not boot with, and paths the kernel's command line has no room for."""
        if spec.memory < LEAST_MEMORY:
            raise BadRequestError(f"machine {spec.hostname}: want at least {LEAST_MEMORY} MiB of memory")
        if any(c.isspace() or c == "," for b in spec.binds for c in b.source + b.target):
            raise BadRequestError(f"machine {spec.hostname}: no blanks or commas in the paths of its binds")

    def create(self, spec: Spec) -> None:
        """Link the image's disk into the folder, so that it stays as long as the machine; the kernel makes the copy-on-write file."""
        folder = host_folder(spec)
        folder.mkdir(parents=True, exist_ok=True)
        base = _base(spec)
        if not base.exists():
            try:
                os.link(spec.image, base)
            except OSError:
                # Another file system. Its time must not change: the copy-on-write file names it.
                run(["cp", "--sparse=always", "--preserve=timestamps", str(spec.image), str(base)])
        lines = []
        for number, bind in enumerate(spec.binds):
            link = folder / f"bind{number}"
            link.unlink(missing_ok=True)
            link.symlink_to(bind.source)
            lines.append(f"{link.name} {'ro' if bind.read_only else 'rw'} {bind.target}\n")
        (folder / uml_image.BINDS).write_text("".join(lines))

    def write(self, spec: Spec, files: Mapping[str, File]) -> None:
        """Leave an archive; a machine that runs has unpacked it when this returns, any other does at its next start."""
        folder = host_folder(spec)
        with self._guard:
            numbers = [int(path.stem) for path in folder.glob("*.tar")]
            number = max(numbers, default=0) + 1
            fresh = folder / ".new"
            fresh.touch(mode=0o600)
            fresh.write_bytes(archive(files))
            fresh.rename(folder / f"{number}.tar")
        processes.wait_until(lambda: not 0 < _applied(spec) < number, _APPLY_DEADLINE)

    def start(self, spec: Spec) -> Life:
        """Plug in the cable, start the kernel and wait for its management console."""
        self.create(spec)
        self._clear(spec)
        network.create_tap(_tap(spec), spec.bridge, spec.mtu)
        self._consoles.mkdir(mode=0o700, parents=True, exist_ok=True)
        with spec.console.open("ab") as console:
            child = subprocess.Popen(
                [
                    "/bin/sh",
                    "-c",
                    _SUPERVISE,
                    "ingot-lab",
                    str(host_folder(spec) / uml_image.REBOOT),
                    *command(spec, self._consoles),
                ],
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
        console_socket = self._socket(spec)
        processes.wait_until(lambda: child.poll() is not None or console_socket.is_socket(), _START_DEADLINE)
        leader = processes.child_of(child.pid, PROGRAM)
        if supervisor is None or leader is None or not console_socket.is_socket():
            self.kill(spec, Life(supervisor, leader))
            raise LabError(f"machine {spec.hostname} did not start: {tail(spec.console) or 'no output'}")
        return Life(supervisor, leader)

    def alive(self, life: Life | None) -> Life | None:
        """Look for the recorded kernel; where the machine rebooted, for the supervisor's new child."""
        self._reap()
        if life is None or processes.lives(life.leader):
            return life
        if life.supervisor and processes.lives(life.supervisor):
            leader = processes.child_of(life.supervisor.pid, PROGRAM)
            return Life(life.supervisor, leader) if leader else None
        return None

    def stop(self, spec: Spec, life: Life, deadline: float) -> None:
        """Press Ctrl-Alt-Del, which the image takes for "power off", once systemd is there to see it."""
        # Before, the kernel itself would take it, and reboot.
        if processes.wait_until(lambda: self.alive(life) is None or _applied(spec) > 0, deadline, pause=0.1):
            with contextlib.suppress(LabError):
                mconsole.ask(self._socket(spec), "cad")
                processes.wait_until(lambda: self.alive(life) is None, deadline, pause=0.1)
        self.kill(spec, life)

    def kill(self, spec: Spec, life: Life | None) -> None:
        """Kill the supervisor and the kernel with all its processes, and take the cable away."""
        if life is not None:
            current = self.alive(life) or life
            # The supervisor first, or it might start the kernel anew.
            leaders = [p for p in (current.supervisor, current.leader, life.leader) if p is not None]

            def gone() -> bool:
                for process in leaders:
                    processes.end_session(process, signal.SIGKILL)
                self._reap()
                return not any(map(processes.session, leaders))

            if not processes.wait_until(gone, _KILL_DEADLINE):
                raise LabError(f"machine {spec.hostname} does not end: {life}")
        self._reap()
        self._clear(spec)
        network.remove_tap(_tap(spec))

    def cut(self, spec: Spec) -> None:
        """Take the tap device off the bridge."""
        run(["ip", "link", "set", _tap(spec), "nomaster"])

    def mend(self, spec: Spec) -> None:
        """Put it back."""
        run(["ip", "link", "set", _tap(spec), "master", spec.bridge])

    def remove(self, spec: Spec) -> None:
        """Remove the folder with the disk."""
        if spec.folder.is_dir():
            shutil.rmtree(spec.folder)

    def _clear(self, spec: Spec) -> None:
        for name in (uml_image.APPLIED, uml_image.REBOOT):
            (host_folder(spec) / name).unlink(missing_ok=True)
        shutil.rmtree(self._socket(spec).parent, ignore_errors=True)

    def _socket(self, spec: Spec) -> Path:
        return self._consoles / spec.key / "mconsole"

    def _reap(self) -> None:
        with self._guard:
            self._children = [child for child in self._children if child.poll() is None]


def clear(prefix: str, consoles: Path = CONSOLES) -> None:
    """Remove taps and consoles of machines that are gone, by the beginning of their short names."""
    for link in network.INTERFACES.glob(f"{_TAP}{prefix}*"):
        network.remove_tap(link.name)
    for folder in consoles.glob(f"{prefix}*"):
        shutil.rmtree(folder, ignore_errors=True)


def command(spec: Spec, consoles: Path = CONSOLES) -> list[str]:
    """Return the kernel's command line. Names with a dot are systemd's; it has no secret, as everybody can read it."""
    return [
        PROGRAM,
        f"mem={spec.memory}M",
        "noreboot",
        f"umid={spec.key}",
        f"uml_dir={consoles}/",
        f"ubd0={spec.folder / 'disk.cow'},{_base(spec)}",
        "root=/dev/ubda",
        "rw",
        f"init={uml_image.INIT_PATH}",
        # The machine sees this directory of the host, and what `binds` links there.
        f"hostfs={host_folder(spec)}",
        f"vec0:transport=tap,ifname={_tap(spec)},depth=128,mtu={spec.mtu},mac={mac(spec.key)}",
        "con0=null,fd:1",
        "con=null",
        "ssl=null",
        # The disk of a dead machine cannot be read from the host, so the journal goes where it can.
        "systemd.journald.forward_to_console=1",
        "systemd.show_status=0",
    ]


def mac(key: str) -> str:
    """Return a locally administered hardware address for a machine, the same after each start."""
    tail_ = hashlib.sha256(key.encode()).digest()[:5]
    return ":".join(f"{octet:02x}" for octet in (2, *tail_))


def archive(files: Mapping[str, File]) -> bytes:
    """Return a tar archive of files (by absolute path), owned by root, to be unpacked in the machine's root."""
    stream, now = io.BytesIO(), int(time.time())
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, file in files.items():
            member = tarfile.TarInfo(name.lstrip("/"))
            text = file.text.encode()
            member.mtime = now
            member.size, member.mode = len(text), file.mode
            tar.addfile(member, io.BytesIO(text))
    return stream.getvalue()


def host_folder(spec: Spec) -> Path:
    """Return the directory of the host that the machine has mounted."""
    return spec.folder / "host"


def _base(spec: Spec) -> Path:
    return spec.folder / "base.ext4"


def _tap(spec: Spec) -> str:
    return f"{_TAP}{spec.key}"


def _applied(spec: Spec) -> int:
    """Return the number of the last archive the machine unpacked; 0 while it does not say."""
    try:
        # Empty while the machine writes it; then it runs, so the least it can say is 1.
        return int((host_folder(spec) / uml_image.APPLIED).read_text() or "1")
    except (FileNotFoundError, ValueError):
        return 0
