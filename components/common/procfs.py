"""Facts of processes from /proc (proc(5))."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")
_GONE = "ZX"


class ProcessStat(NamedTuple):
    """The facts in /proc/PID/stat.

    Attributes:
        state: a letter; Z is a zombie.
        parent: its pid.
        session: the pid of the session's leader.
        ticks: processor time in clock ticks, its ended children's included.
        threads: their number.
        born: when it started, in clock ticks since the machine's start.
        pages: memory that it holds, shared pages in full.
    """

    state: str
    parent: int
    session: int
    ticks: int
    threads: int
    born: int
    pages: int

    @property
    def alive(self) -> bool:
        """Return whether it has not ended."""
        return self.state not in _GONE


def parse_stat(text: str) -> ProcessStat:
    """Return the facts in the text of /proc/PID/stat; the name in it may hold anything. Pure."""
    fields = text.rpartition(")")[2].split()
    return ProcessStat(
        state=fields[0],
        parent=int(fields[1]),
        session=int(fields[3]),
        ticks=sum(int(field) for field in fields[11:15]),
        threads=int(fields[17]),
        born=int(fields[19]),
        pages=int(fields[21]),
    )


def read_stat(pid: int, root: Path = PROC) -> ProcessStat | None:
    """Return the facts of a process; None where there is none."""
    try:
        return parse_stat((root / str(pid) / "stat").read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return None


def pids(root: Path = PROC) -> Iterator[int]:
    """Yield the numbers of all processes."""
    return (int(folder.name) for folder in root.iterdir() if folder.name.isdigit())
