"""Machines with a kernel of their own: QEMU, with the processor's virtualization or in software.

The machine's disk is an overlay over a link to the image's disk; its cable is a tap device on the lab's bridge.
Files get in through a directory of the host (`qemu_image`). This rests on two facts: the machine is one process, which also
reboots it, and `-daemonize` returns only when it has all its devices.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import signal
import tarfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from components.common.filesystem.files import PUBLIC, write_atomically
from orchestrator.lab.backends.accelerator import PROGRAM, Accelerator, choose
from orchestrator.lab.backends.console import tail
from orchestrator.lab.backends.interface import File, Spec
from orchestrator.lab.errors import BadRequestError, LabError
from orchestrator.lab.host import network, processes
from orchestrator.lab.host.run import run
from orchestrator.lab.images import qemu_image, recipes
from orchestrator.lab.journal import Life

DEFAULT_MEMORY = 512
LEAST_MEMORY = 256
_TAP = "vt-"
_START_DEADLINE = 60.0
_KILL_DEADLINE = 10.0
_APPLY_DEADLINE = 10.0


class Qemu:
    """The backend for tests that need a kernel of their own.

    Args:
        found: the file of this host's accelerator.
    """

    name = "qemu"
    interface = "eth0"

    def __init__(self, found: Path) -> None:
        self._found = found
        self._guard = threading.Lock()

    def check(self, spec: Spec) -> None:
        """Refuse memory with which Debian does not boot, and binds that the first program cannot read."""
        if spec.memory < LEAST_MEMORY:
            raise BadRequestError(f"machine {spec.hostname}: must have at least {LEAST_MEMORY} MiB of memory")
        if any("\n" in bind.target for bind in spec.binds):
            raise BadRequestError(f"machine {spec.hostname}: no line breaks in the paths of its binds")

    def create(self, spec: Spec) -> None:
        """Link the image's files into the folder, so that they stay with the machine, and make the disk an overlay over them."""
        host_folder(spec).mkdir(parents=True, exist_ok=True)
        for name in (recipes.DISK, recipes.KERNEL, recipes.INITRD):
            _link(spec.image.with_name(name), spec.folder / name)
        if not _disk(spec).exists():
            fresh = _disk(spec).with_suffix(".new")
            backing = str(spec.folder / recipes.DISK)
            run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", backing, str(fresh)])
            fresh.rename(_disk(spec))
        lines = [
            f"{_bind_tag(number)} {'ro' if bind.read_only else 'rw'} {bind.target}\n"
            for number, bind in enumerate(spec.binds)
        ]
        write_atomically(host_folder(spec) / qemu_image.BINDS, "".join(lines), mode=PUBLIC)

    def write(self, spec: Spec, files: Mapping[str, File]) -> None:
        """Leave an archive; a running machine has unpacked it when this returns, any other does at its next start."""
        folder = host_folder(spec)
        with self._guard:
            numbers = [int(path.stem) for path in folder.glob("*.tar")]
            number = max(numbers, default=0) + 1
            write_atomically(folder / f"{number}.tar", archive(files))
        processes.wait_until(lambda: not 0 < _applied(spec) < number, _APPLY_DEADLINE)

    def start(self, spec: Spec) -> Life:
        """Plug in the cable and switch the machine on."""
        self.create(spec)
        self._clear(spec)
        accelerator = choose(self._found, spec.folder / recipes.KERNEL, spec.folder / recipes.INITRD)
        network.create_tap(_tap(spec), spec.bridge, spec.mtu)
        env = {"PATH": os.environ.get("PATH", os.defpath), processes.MARK: spec.mark}
        try:
            run(command(spec, accelerator), timeout=_START_DEADLINE, env=env)
        except LabError:
            self.kill(spec, None)
            raise
        leader = processes.identify(int(_pid_file(spec).read_text()))
        if leader is None:
            self.kill(spec, None)
            raise LabError(f"machine {spec.hostname} ended at once: {tail(spec.console) or 'no output'}")
        return Life(None, leader)

    def alive(self, life: Life | None) -> Life | None:
        """Return the life of the recorded process; a reboot is no new life."""
        return life if life and processes.lives(life.leader) else None

    def stop(self, spec: Spec, life: Life, deadline: float) -> None:
        """Ask the machine to power off, which it does as soon as its units run."""
        (host_folder(spec) / qemu_image.POWEROFF).touch()
        processes.wait_until(lambda: self.alive(life) is None, deadline, pause=0.1)
        self.kill(spec, life)

    def kill(self, spec: Spec, life: Life | None) -> None:
        """Kill the process and remove the cable."""
        if life is not None:
            processes.end(life.leader, signal.SIGKILL)
            if not processes.wait_until(lambda: self.alive(life) is None, _KILL_DEADLINE):
                raise LabError(f"machine {spec.hostname} does not end: {life}")
        self._clear(spec)
        network.remove_tap(_tap(spec))

    def cut(self, spec: Spec) -> None:
        """Take the tap device off the bridge."""
        run(["ip", "link", "set", _tap(spec), "nomaster"])

    def mend(self, spec: Spec) -> None:
        """Put the tap device back on the bridge."""
        run(["ip", "link", "set", _tap(spec), "master", spec.bridge])

    def remove(self, spec: Spec) -> None:
        """Remove the folder with the disk."""
        if spec.folder.is_dir():
            shutil.rmtree(spec.folder)

    def _clear(self, spec: Spec) -> None:
        for name in (qemu_image.APPLIED, qemu_image.POWEROFF):
            (host_folder(spec) / name).unlink(missing_ok=True)
        _pid_file(spec).unlink(missing_ok=True)


def clear(prefix: str) -> None:
    """Remove taps of removed machines, by the beginning of their short names."""
    for link in network.INTERFACES.glob(f"{_TAP}{prefix}*"):
        network.remove_tap(link.name)


def command(spec: Spec, accelerator: Accelerator) -> list[str]:
    """Return the machine's command line; it holds no secret, because every user can read it."""
    argv = [
        PROGRAM,
        *("-daemonize", "-pidfile", str(_pid_file(spec))),
        *("-name", spec.key, "-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35"),
        *accelerator.options(),
        *("-m", str(spec.memory), "-rtc", "base=utc,clock=host"),
        *(
            "-chardev",
            f"file,id=console,path={_escaped(spec.console)},append=on",
            "-serial",
            "chardev:console",
        ),
        # The host does not lose its power here: SIGKILL cannot undo the machine's writes.
        *("-drive", f"if=virtio,format=qcow2,cache=unsafe,discard=unmap,file={_escaped(_disk(spec))}"),
        *("-netdev", f"tap,id=cable,ifname={_tap(spec)},script=no,downscript=no"),
        *("-device", f"virtio-net-pci,netdev=cable,mac={mac(spec.key)},host_mtu={spec.mtu},romfile="),
        *("-device", "virtio-rng-pci"),
    ]
    shares = [(qemu_image.HOST_TAG, host_folder(spec), False)]
    shares += [(_bind_tag(n), Path(bind.source), bind.read_only) for n, bind in enumerate(spec.binds)]
    for tag, path, read_only in shares:
        access = ",readonly=on" if read_only else ""
        argv += ["-fsdev", f"local,id={tag},security_model=passthrough,path={_escaped(path)}{access}"]
        argv += ["-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]
    argv += ["-kernel", str(spec.folder / recipes.KERNEL), "-initrd", str(spec.folder / recipes.INITRD)]
    # Names with a dot are systemd's.
    words = [
        *("console=ttyS0", "net.ifnames=0", "panic=10", "quiet"),
        # A machine of a test needs no protection from itself; in software each protection costs more than on a
        # processor.
        *("mitigations=off", "init_on_alloc=0", "audit=0"),
        # On a busy host the kernel's check whether timers tick comes too early, and a service starts as slowly as the
        # whole machine does elsewhere.
        *("no_timer_check", "systemd.default_timeout_start_sec=600"),
        # The disk of a dead machine cannot be read from the host, so the journal goes to a file of the host.
        *("systemd.journald.forward_to_console=1", "systemd.show_status=0"),
    ]
    return [*argv, "-append", " ".join(words)]


def mac(key: str) -> str:
    """Return a locally administered hardware address for a machine, the same after each start."""
    octets = (2, *hashlib.sha256(key.encode()).digest()[:5])
    return ":".join(f"{octet:02x}" for octet in octets)


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


def _link(source: Path, target: Path) -> None:
    if target.exists():
        return
    try:
        os.link(source, target)
    except OSError:
        # It is another file system.
        run(["cp", "--sparse=always", str(source), str(target)])


def _disk(spec: Spec) -> Path:
    return spec.folder / "disk.qcow2"


def _pid_file(spec: Spec) -> Path:
    return spec.folder / "qemu.pid"


def _tap(spec: Spec) -> str:
    return f"{_TAP}{spec.key}"


def _bind_tag(number: int) -> str:
    return f"bind{number}"


def _escaped(path: Path) -> str:
    """Return a path as a value within one of QEMU's options."""
    return str(path).replace(",", ",,")


def _applied(spec: Spec) -> int:
    """Return the number of the last archive that the machine unpacked; 0 while it reports none."""
    try:
        # Empty while the machine writes it; then it runs, so the number is at least 1.
        return int((host_folder(spec) / qemu_image.APPLIED).read_text() or "1")
    except (FileNotFoundError, ValueError):
        return 0
