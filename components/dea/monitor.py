"""What instances use: memory and processor time from /proc, disk from their folders; and what is too much."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from components.common.messages import Limits

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_KB = os.sysconf("SC_PAGE_SIZE") // 1024
_MB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Process:
    """A process: `rss_kb` counts pages it shares with others in full, `ticks` is processor time since it began."""

    pid: int
    uid: int
    session: int
    ticks: int
    rss_kb: int


@dataclass(frozen=True, slots=True)
class Usage:
    """A sample (section 4.7): percent of a core, KB, bytes; `ticks` is what the next percentage is reckoned from."""

    time: float
    cpu: float
    mem: float
    disk: int
    ticks: int = 0


def processes(root: Path = Path("/proc")) -> list[Process]:
    """Read all processes; those that end meanwhile are left out."""
    found = []
    for folder in root.iterdir():
        if not folder.name.isdigit():
            continue
        try:
            fields = (
                (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            )
            uid = folder.stat().st_uid
        except OSError:
            continue
        ticks = int(fields[11]) + int(fields[12])
        found.append(Process(int(folder.name), uid, int(fields[3]), ticks, int(fields[21]) * _PAGE_KB))
    return found


def proportional_kb(pids: Iterable[int], root: Path = Path("/proc")) -> int:
    """Sum memory with shared pages divided among those who share them; dear, so asked only when it matters."""
    total = 0
    for pid in pids:
        try:
            lines = (root / str(pid) / "smaps_rollup").read_text(encoding="ascii").splitlines()
        except OSError:
            continue
        total += next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
    return total


def disk_bytes(directory: Path) -> int:
    """Sum what a folder takes on the disk; what vanishes meanwhile is left out."""
    total = 0
    pending = [os.fspath(directory)]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
        except OSError:
            continue
    return total


def group(found: Iterable[Process], owner: Callable[[Process], str | None]) -> Mapping[str, list[Process]]:
    """Sort processes by the instance they belong to."""
    table: dict[str, list[Process]] = {}
    for process in found:
        name = owner(process)
        if name is not None:
            table.setdefault(name, []).append(process)
    return table


def sample(own: Iterable[Process], disk: int, now: float, before: Usage | None) -> Usage:
    """Reckon an instance's usage from its processes and its previous sample."""
    own = list(own)
    ticks = sum(p.ticks for p in own)
    cpu = 0.0
    if before is not None and now > before.time:
        # A process that ended took its time with it: no negative percentages.
        cpu = max(0.0, 100 * (ticks - before.ticks) / _TICKS / (now - before.time))
    return Usage(now, round(cpu, 1), float(sum(p.rss_kb for p in own)), disk, ticks)


def excess(memory_kb: float, disk: int, limits: Limits) -> str | None:
    """Say what an instance has too much of, in words; None when nothing."""
    if memory_kb > limits.mem * 1024:
        return f"memory over {limits.mem} MB ({memory_kb / 1024:.0f} MB)"
    if disk > limits.disk * _MB:
        return f"disk over {limits.disk} MB ({disk / _MB:.0f} MB)"
    return None
