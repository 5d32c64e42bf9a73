"""A control group per machine. Without one, machines share `payload`, and a unit holds the processes of its namesakes."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

PARENT = "ingot-lab"
_MOUNTS = Path("/proc/self/mounts")
_CONTROLLERS = ("cpu", "io", "memory", "pids")


def hierarchies(mounts: str) -> list[Path]:
    """Return the hierarchies systemd keeps its units in, from the text of /proc/mounts.

    cgroup v2 alone: that one. Hybrid: the named v1 hierarchy and, beside it, the unified one.
    """
    found = []
    for line in mounts.splitlines():
        _, target, kind, options, *_ = line.split(" ")
        if kind == "cgroup2" or (kind == "cgroup" and "name=systemd" in options.split(",")):
            found.append(Path(target))
    return found


def create(key: str) -> list[Path]:
    """Make the machine's group in every hierarchy and return their `cgroup.procs`, to be written by the supervisor."""
    files = []
    for top in hierarchies(_MOUNTS.read_text()):
        group = top / PARENT / key
        group.mkdir(parents=True, exist_ok=True)
        # v2 hands a controller down level by level; where the host has not got it, there is nothing to hand down.
        for level in (top, top / PARENT):
            for controller in _CONTROLLERS:
                with contextlib.suppress(OSError):
                    (level / "cgroup.subtree_control").write_text(f"+{controller}")
        files.append(group / "cgroup.procs")
    return files


def remove(key: str) -> None:
    """Remove the machine's groups, and the lab's own when it was the last."""
    for top in hierarchies(_MOUNTS.read_text()):
        for folder, _, _ in os.walk(top / PARENT / key, topdown=False):
            _rmdir(Path(folder))
        _rmdir(top / PARENT)


def _rmdir(group: Path) -> None:
    # A group that still has members, or children of other machines, stays; the next removal takes it.
    with contextlib.suppress(OSError):
        group.rmdir()
