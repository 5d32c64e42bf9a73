"""A control group per machine. Without one, machines share `payload`, and a unit holds the processes of its namesakes.

It stays as long as the machine, so it counts the processor time of all the machine's lives.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

PARENT = "ingot-lab"
_MOUNTS = Path("/proc/self/mounts")
_CONTROLLERS = ("cpu", "io", "memory", "pids")


def hierarchies(mounts: str) -> list[Path]:
    """Return the hierarchies in which systemd keeps its units, from the text of /proc/mounts.

    cgroup v2 alone: that one. Hybrid: the named v1 hierarchy and, beside it, the unified one.
    """
    found = []
    for line in mounts.splitlines():
        _, target, kind, options, *_ = line.split(" ")
        if kind == "cgroup2" or (kind == "cgroup" and "name=systemd" in options.split(",")):
            found.append(Path(target))
    return found


def create(key: str) -> list[Path]:
    """Make the machine's group in every hierarchy; return their `cgroup.procs`, which the supervisor writes to."""
    files = []
    for top in hierarchies(_MOUNTS.read_text()):
        group = top / PARENT / key
        group.mkdir(parents=True, exist_ok=True)
        # v2 delegates a controller level by level; where the host lacks it, there is nothing to delegate.
        for level in (top, top / PARENT):
            for controller in _CONTROLLERS:
                with contextlib.suppress(OSError):
                    (level / "cgroup.subtree_control").write_text(f"+{controller}")
        files.append(group / "cgroup.procs")
    return files


def adopt(key: str, pids: Iterable[int]) -> None:
    """Move running processes into the machine's group; their children follow, and one that ended does not matter."""
    files = create(key)
    for pid in pids:
        for file in files:
            with contextlib.suppress(ProcessLookupError):
                file.write_text(str(pid))


def clear(key: str) -> None:
    """Remove the groups that an ended machine made below its own."""
    for top in hierarchies(_MOUNTS.read_text()):
        group = top / PARENT / key
        for folder, _, _ in os.walk(group, topdown=False):
            if Path(folder) != group:
                _rmdir(Path(folder))


def remove(key: str) -> None:
    """Remove the machine's groups, and the lab's own when it was the last."""
    clear(key)
    for top in hierarchies(_MOUNTS.read_text()):
        _rmdir(top / PARENT / key)
        _rmdir(top / PARENT)


def processor_seconds(key: str) -> float:
    """Return the processor time of all processes that were ever in the machine's group; 0 where cgroup v2 does not count it."""
    for top in hierarchies(_MOUNTS.read_text()):
        with contextlib.suppress(OSError):
            return used((top / PARENT / key / "cpu.stat").read_text())
    return 0.0


def used(stat: str) -> float:
    """Return the seconds of processor time in the text of a `cpu.stat`."""
    found = dict(line.split(" ", 1) for line in stat.splitlines())
    return int(found.get("usage_usec", "0")) / 1e6


def _rmdir(group: Path) -> None:
    # A group with members, or with children of other machines, stays until the next removal.
    with contextlib.suppress(OSError):
        group.rmdir()
