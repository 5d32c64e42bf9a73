"""The interface of backends, which make machines. The engine knows it, and nothing of nspawn or QEMU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from orchestrator.lab.journal import Bind, Life


@dataclass(frozen=True, slots=True)
class Spec:
    """The specification of a machine for a backend.

    Attributes:
        key: short name, unique on the host (`ing0-2`).
        hostname: the machine's own name.
        folder: holds all its files on the host's disk.
        image: the root of the unpacked image, or its disk.
        bridge: the lab's bridge.
        mtu: of its interface.
        binds: directories of the host to show inside.
        memory: MiB, where the backend can limit it.
        mark: `STATE:LAB:MACHINE`, carried by every process of the machine's own on the host.
    """

    key: str
    hostname: str
    folder: Path
    image: Path
    bridge: str
    mtu: int
    binds: tuple[Bind, ...]
    mark: str
    memory: int = 0

    @property
    def root(self) -> Path:
        """Return the machine's file system on the host, for backends that have one there."""
        return self.folder / "root"

    @property
    def console(self) -> Path:
        """Return the file of the machine's console output."""
        return self.folder / "console.log"


@dataclass(frozen=True, slots=True)
class File:
    """A file to put into a machine."""

    text: str
    mode: int = 0o644


class Backend(Protocol):
    """A backend makes, runs and removes machines. Every method may be called again after a failure half way."""

    name: str
    interface: str
    """The machine's network interface, as the machine calls it."""

    def check(self, spec: Spec) -> None:
        """Refuse a machine that this backend cannot make, before anything is made.

        Raises:
            BadRequestError: the text has the reason.
        """

    def create(self, spec: Spec) -> None:
        """Make the machine's disk; an existing one is kept."""

    def write(self, spec: Spec, files: Mapping[str, File]) -> None:
        """Put files (by absolute path) into the machine, whether it runs or not."""

    def start(self, spec: Spec) -> Life:
        """Boot the machine; return once its PID 1 runs.

        Raises:
            LabError: it did not come up; nothing of it runs then.
        """

    def alive(self, life: Life | None) -> Life | None:
        """Return the present life of the machine, also after a reboot of its own; None where it does not run."""

    def stop(self, spec: Spec, life: Life, deadline: float) -> None:
        """Shut the machine down; power is cut at the deadline."""

    def kill(self, spec: Spec, life: Life | None) -> None:
        """Cut the machine's power: end all its processes with SIGKILL. The disk stays."""

    def cut(self, spec: Spec) -> None:
        """Pull the network cable of a running machine."""

    def mend(self, spec: Spec) -> None:
        """Plug the cable in again."""

    def remove(self, spec: Spec) -> None:
        """Remove the machine's disk and all its traces on the host."""
