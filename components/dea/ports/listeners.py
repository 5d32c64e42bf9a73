"""The listeners on the TCP ports of this machine, and the check that an instance's port is its own."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from components.dea.instances.instance import Instance

# proc(5), `/proc/net/tcp`: the state of a socket that listens.
_LISTENS = "0A"
_TABLES = ("tcp", "tcp6")

Table = Mapping[int, Collection[int]]


def read(folder: Path = Path("/proc/net")) -> Table:
    """Return the uids that listen, by port, on whatever address. Blocks.

    Args:
        folder: the folder of the kernel's tables; there is none for IPv6 where that is switched off.
    """
    found: dict[int, set[int]] = {}
    for name in _TABLES:
        try:
            with (folder / name).open(encoding="ascii") as lines:
                for port, uid in rows(lines):
                    found.setdefault(port, set()).add(uid)
        except FileNotFoundError:
            continue
    return found


def rows(lines: Iterable[str]) -> Iterator[tuple[int, int]]:
    """Yield port and uid of each listener; pure.

    Args:
        lines: the lines of one table. The kernel writes listeners first, so the connections behind them are never read.
    """
    for line in lines:
        fields = line.split()
        if len(fields) < 8 or not fields[0].endswith(":"):
            # The heading of the table.
            continue
        if fields[3] != _LISTENS:
            return
        yield int(fields[1].rpartition(":")[2], 16), int(fields[7])


def strangers(instance: Instance, table: Table) -> list[int]:
    """Return the uids other than the instance's own that listen on its port.

    Every address counts: a listener on one of them receives the traffic of that one.
    """
    return sorted(set(_holders(instance, table)) - {_uid(instance)})


def holds(instance: Instance, table: Table) -> bool:
    """Return whether an instance listens on its port."""
    return _uid(instance) in _holders(instance, table)


def taken(instance: Instance, uids: Collection[int]) -> str:
    """Return the message that others have an instance's port, for its owner and for operators."""
    whose = ", ".join(str(uid) for uid in uids)
    return f"another program of this machine (uid {whose}) listens on its port {instance.port}"


def _holders(instance: Instance, table: Table) -> Collection[int]:
    return () if instance.port is None else table.get(instance.port, ())


def _uid(instance: Instance) -> int:
    # Without uids of their own, instances run under the agent's.
    return os.geteuid() if instance.uid is None else instance.uid
