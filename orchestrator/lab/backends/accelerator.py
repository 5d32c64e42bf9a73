"""The choice between the host's virtualization and translation in software.

It is made once, by booting a guest with KVM: /dev/kvm also exists on hosts where guests hang.
"""

from __future__ import annotations

import platform
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from components.common import log
from components.common.filesystem.files import PUBLIC, write_atomically
from orchestrator.lab.errors import CommandError
from orchestrator.lab.host.run import run
from orchestrator.lab.images import qemu_image

PROGRAM = "qemu-system-x86_64"
KVM = Path("/dev/kvm")
CPU_INFO = Path("/proc/cpuinfo")
# A guest that boots does it in two seconds; one that hangs keeps a processor busy as long.
_DEADLINE = 20.0
# MiB of translated code in each machine without virtualization: on the host this memory is in addition to the
# machine's own.
_TRANSLATED = 128
# Every feature that can be translated, except those that make each look-up of an address longer or end a block of
# code at every system call.
_PROCESSOR = "max,la57=off,smap=off"
_guard = threading.Lock()
logger = log.get(__name__)


class Found(msgspec.Struct):
    """The result of a probe, and the host that it holds for."""

    host: str
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Accelerator:
    """The accelerator of machines: `kvm`, or `tcg` (translation in software); `reason` tells why this one."""

    name: str
    reason: str = ""

    def options(self) -> list[str]:
        """Return QEMU's options."""
        if self.name == "kvm":
            return ["-accel", "kvm", "-cpu", "host"]
        return ["-accel", f"tcg,thread=multi,tb-size={_TRANSLATED}", "-cpu", _PROCESSOR]


BY_KVM, BY_TCG = Accelerator("kvm"), Accelerator("tcg")


def choose(found: Path, kernel: Path, initrd: Path) -> Accelerator:
    """Return this host's accelerator; the first caller boots a guest, later ones read the result.

    Args:
        found: the file of the result.
        kernel: of an image with a kernel of its own.
        initrd: of the same image.
    """
    with _guard:
        host = fingerprint()
        if (known := remembered(found)) is None or known.host != host:
            chosen = probe(kernel, initrd)
            known = Found(host, chosen.name, chosen.reason)
            found.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(found, msgspec.json.encode(known), mode=PUBLIC)
            logger.info("accelerator chosen", accelerator=known.name, reason=known.reason)
    return Accelerator(known.name, known.reason)


def remembered(found: Path) -> Found | None:
    """Return the result of an earlier probe; None where there was none."""
    try:
        return msgspec.json.decode(found.read_bytes(), type=Found)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None


def fingerprint() -> str:
    """Return the host's identity, for which a probe's result holds: kernel, processor, and presence of /dev/kvm."""
    models = [line for line in CPU_INFO.read_text().splitlines() if line.startswith("model name")]
    kvm = "kvm" if KVM.exists() else "no kvm"
    return f"{platform.release()}; {models[0].partition(':')[2].strip() if models else ''}; {kvm}"


def probe(kernel: Path, initrd: Path) -> Accelerator:
    """Boot a guest by KVM, and return the accelerator that follows."""
    if not KVM.exists():
        return replace(BY_TCG, reason=f"this host has no {KVM}")
    if said := refused(BY_KVM, kernel, initrd):
        return replace(BY_TCG, reason=f"a guest did not boot by {KVM}: {said}")
    return replace(BY_KVM, reason=f"a guest booted by {KVM}")


def refused(
    accelerator: Accelerator,
    kernel: Path,
    initrd: Path,
    *,
    deadline: float = _DEADLINE,
    program: Sequence[str] = (PROGRAM,),
) -> str:
    """Boot a guest to its first program; return an empty text on success, else the reason in words.

    Args:
        accelerator: of the guest.
        kernel: of the guest.
        initrd: its first program prints a word and ends, which ends the guest.
        deadline: seconds.
        program: QEMU.
    """
    argv = [
        *(*program, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio"),
        *("-machine", "q35", *accelerator.options(), "-m", "256"),
        *("-kernel", str(kernel), "-initrd", str(initrd)),
        *("-append", f"console=ttyS0 quiet panic=-1 no_timer_check {qemu_image.PROBE_WORD}"),
    ]
    try:
        said = run(argv, timeout=deadline, stdin="")
    except CommandError as error:
        said = error.output
    if qemu_image.PROBE_SAID in said:
        return ""
    return (said.strip().splitlines() or ["no output"])[0]
