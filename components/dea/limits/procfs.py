"""Readers of /proc and of control groups: processes, their memory, their unnamed files, the limits of the kernel."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from components.common import procfs

_PAGE_KB = os.sysconf("SC_PAGE_SIZE") // 1024
_MOST_HANDLES = 2000


@dataclass(frozen=True, slots=True)
class Process:
    """A process: `rss_kb` counts pages it shares with others in full, `ticks` is processor time, its ended children's included."""

    pid: int
    uid: int
    session: int
    ticks: int
    rss_kb: int
    threads: int = 1


def processes(root: Path = procfs.PROC) -> list[Process]:
    """Return all processes; those that end meanwhile are left out."""
    found = []
    for pid in procfs.pids(root):
        if (shown := procfs.read_stat(pid, root)) is None:
            continue
        try:
            uid = (root / str(pid)).stat().st_uid
        except OSError:
            continue
        found.append(Process(pid, uid, shown.session, shown.ticks, shown.pages * _PAGE_KB, shown.threads))
    return found


def proportional_kb(pids: Iterable[int], root: Path = procfs.PROC) -> int:
    """Return their memory with shared pages divided among processes; costly, so used only when it matters."""
    total = 0
    for pid in pids:
        try:
            lines = (root / str(pid) / "smaps_rollup").read_text(encoding="ascii").splitlines()
        except OSError:
            continue
        total += next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
    return total


def unlinked_bytes(pids: Iterable[int], device: int, root: Path = procfs.PROC) -> int:
    """Return the size of a device's files that have no name but are held open; of very many, a part is checked."""
    seen: dict[int, int] = {}
    looked = 0
    for pid in pids:
        try:
            handles = list((root / str(pid) / "fd").iterdir())
        except OSError:
            continue
        for handle in handles[: max(0, _MOST_HANDLES - looked)]:
            looked += 1
            try:
                facts = handle.stat()
            except OSError:
                continue
            if facts.st_nlink == 0 and facts.st_dev == device and stat.S_ISREG(facts.st_mode):
                seen[facts.st_ino] = facts.st_blocks * 512
    return sum(seen.values())


def _control_group(pid: int, controller: str, root: Path, groups: Path) -> Path:
    lines = (root / str(pid) / "cgroup").read_text(encoding="ascii", errors="replace").splitlines()
    places = {names: path for _number, names, path in (line.split(":", 2) for line in lines)}
    # The whole hierarchy of version 2, or the pids controller's own of version 1.
    return groups / controller / places[controller][1:] if controller in places else groups / places[""][1:]


def refused_tasks(pid: int, root: Path = procfs.PROC, groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Return how often the control group of a process refused it a task; 0 where there is no such controller."""
    try:
        lines = (_control_group(pid, "pids", root, groups) / "pids.events").read_text(encoding="ascii")
        events = dict(line.split() for line in lines.splitlines())
        return int(events.get("max", 0))
    except (OSError, KeyError, ValueError):
        return 0


def held_memory(pid: int, root: Path = procfs.PROC, groups: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Return the bytes to which the kernel limits the control group of a process; None where it does not."""
    try:
        return int((_control_group(pid, "memory", root, groups) / "memory.max").read_text(encoding="ascii"))
    except (OSError, KeyError, ValueError):
        return None


def controllers(groups: Path = Path("/sys/fs/cgroup")) -> list[str]:
    """Return the controllers of version 2 of this kernel; empty where it has none."""
    try:
        return sorted((groups / "cgroup.controllers").read_text(encoding="ascii").split())
    except OSError:
        return []


def group(found: Iterable[Process], owner: Callable[[Process], str | None]) -> Mapping[str, list[Process]]:
    """Return processes by the instance that they belong to."""
    table: dict[str, list[Process]] = {}
    for process in found:
        name = owner(process)
        if name is not None:
            table.setdefault(name, []).append(process)
    return table
