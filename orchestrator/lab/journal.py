"""The journal of labs: one JSON file per lab, written before its parts are made, and the decisions read from it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from components.common.filesystem.files import PUBLIC, write_atomically
from orchestrator.lab import addresses
from orchestrator.lab.errors import LabError

FILE = "lab.json"


class Process(msgspec.Struct, frozen=True):
    """A process that cannot be mistaken for a later one of the same number: pid and start time (clock ticks since boot)."""

    pid: int
    start: int


class Bind(msgspec.Struct, frozen=True):
    """A directory of the host, seen inside a machine."""

    source: str
    target: str
    read_only: bool = False


class Life(msgspec.Struct, frozen=True):
    """The processes of a running machine: its supervisor on the host and its own PID 1 (the leader)."""

    supervisor: Process | None = None
    leader: Process | None = None


class MachineRecord(msgspec.Struct):
    """A machine: its request, and its last life.

    `leaving`: its removal has begun. `maker`: its maker, where it is of no layout.
    """

    name: str
    address: str
    image: str
    image_root: str
    groups: list[str] = []
    binds: list[Bind] = []
    life: Life | None = None
    cut: bool = False
    leaving: bool = False
    host_key: str = ""
    maker: str = ""
    memory: int = 0


class LabRecord(msgspec.Struct):
    """A lab: its network, port, owner and machines.

    `owner` is the checkout it belongs to; `holder`, where given, is the process whose end makes the lab a leftover.
    `processor_seconds` is the usage of removed machines.
    """

    name: str
    index: int
    subnet: str
    port: int
    owner: str
    holder: Process | None = None
    routers: list[str] = []
    machines: dict[str, MachineRecord] = {}
    processor_seconds: float = 0.0


class Journal:
    """The journal of a state directory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self) -> dict[str, LabRecord]:
        """Return every lab.

        Raises:
            LabError: a file cannot be read as a lab.
        """
        found = {}
        for path in sorted(self._folder.glob(f"*/{FILE}")):
            try:
                found[path.parent.name] = msgspec.json.decode(path.read_bytes(), type=LabRecord)
            except msgspec.MsgspecError as error:
                raise LabError(f"{path}: {error}") from error
        return found

    def save(self, lab: LabRecord) -> None:
        """Write a lab so that a crash leaves either the old or the new text."""
        path = self._folder / lab.name / FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(
            path, msgspec.json.format(msgspec.json.encode(lab), indent=1), mode=PUBLIC, durable=True
        )

    def forget(self, name: str) -> None:
        """Remove a lab's file; the caller removes its folder."""
        (self._folder / name / FILE).unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Seen:
    """The observed state of the host.

    Attributes:
        bridges: interface name to the lab its alias names; only those whose alias names this daemon.
        foreign_bridges: every other bridge with a lab's kind of name.
        tables: names of all tables that look like a lab's, of any daemon.
        mounts: mount points below the state directory.
        processes: marked processes with the (lab, machine) their mark names.
        folders: names of the folders below `labs`.
        machine_folders: (lab, machine) of the folders below each lab's `machines`.
    """

    bridges: Mapping[str, str]
    foreign_bridges: Collection[str]
    tables: Collection[str]
    mounts: Collection[str]
    processes: Mapping[Process, tuple[str, str]]
    folders: Collection[str]
    machine_folders: Collection[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Leftovers:
    """The leftovers without an owner, in the order of their removal."""

    processes: tuple[Process, ...] = ()
    mounts: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    bridges: tuple[str, ...] = ()
    machine_folders: tuple[tuple[str, str], ...] = ()
    folders: tuple[str, ...] = ()

    def words(self) -> list[str]:
        """Return a line for each leftover."""
        return [
            *(f"process {p.pid}" for p in self.processes),
            *(f"mount {m}" for m in self.mounts),
            *(f"nftables table {t}" for t in self.tables),
            *(f"bridge {b}" for b in self.bridges),
            *(f"machine folder {lab}/{machine}" for lab, machine in self.machine_folders),
            *(f"folder {f}" for f in self.folders),
        ]


def leftovers(labs: Mapping[str, LabRecord], seen: Seen, roots: Mapping[tuple[str, str], str]) -> Leftovers:
    """Return the leftovers of a killed run.

    Args:
        labs: the journal.
        seen: the host.
        roots: the mount point of every recorded machine, by (lab, machine).
    """
    machines = {(lab.name, name) for lab in labs.values() for name in lab.machines}
    wanted_bridges = {addresses.bridge_name(lab.index): lab.name for lab in labs.values()}
    dead_bridges = sorted(b for b, lab in seen.bridges.items() if wanted_bridges.get(b) != lab)
    kept = {*wanted_bridges, *seen.foreign_bridges}
    # A lab's bridge is made before its table and removed after it, so a table without a bridge has no owner.
    dead_tables = sorted(
        t
        for t in seen.tables
        if (index := addresses.table_index(t)) is not None and addresses.bridge_name(index) not in kept
    )
    known = {roots[m] for m in machines if m in roots}
    return Leftovers(
        processes=tuple(
            sorted((p for p, who in seen.processes.items() if who not in machines), key=lambda p: p.pid)
        ),
        mounts=tuple(sorted(m for m in seen.mounts if m not in known)),
        tables=tuple(dead_tables),
        bridges=tuple(dead_bridges),
        machine_folders=tuple(sorted(m for m in seen.machine_folders if m[0] in labs and m not in machines)),
        folders=tuple(sorted(f for f in seen.folders if f not in labs)),
    )


def abandoned(
    labs: Iterable[LabRecord], dead_holders: Collection[Process], missing_owners: Collection[str]
) -> list[str]:
    """Return the labs without an owner: their holder has ended, or their checkout is gone."""
    return [
        lab.name
        for lab in labs
        if (lab.holder is not None and lab.holder in dead_holders) or lab.owner in missing_owners
    ]
