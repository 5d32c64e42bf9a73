"""Facts of processes from /proc: state, start time, parent, mark."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from orchestrator.lab.journal import Life, Process

PROC = Path("/proc")
MARK = "INGOT_LAB_MACHINE"


def stat(pid: int) -> tuple[str, int, int] | None:
    """Return state letter, parent and start time of a process; None where there is none."""
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    return parse_stat(text)


def parse_stat(text: str) -> tuple[str, int, int]:
    """Return state letter, parent and start time from /proc/PID/stat (the name in it may hold anything)."""
    fields = text.rpartition(")")[2].split()
    return fields[0], int(fields[1]), int(fields[19])


def identify(pid: int) -> Process | None:
    """Return the living process of this number; a zombie is none."""
    found = stat(pid)
    return Process(pid, found[2]) if found and found[0] not in "ZX" else None


def lives(process: Process | None) -> bool:
    """Return whether this very process still runs."""
    return process is not None and identify(process.pid) == process


def end(process: Process | None, number: int) -> None:
    """Send a signal (its number), unless the process has gone or its number has another owner now."""
    if process is None:
        return
    try:
        # The descriptor pins the process, so that check and signal reach the same one.
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    try:
        if lives(process):
            signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return
    finally:
        os.close(descriptor)


def leader_of(supervisor: int) -> Process | None:
    """Return the grandchild that is PID 1 of a PID namespace of its own."""
    stats = {pid: found for pid in pids() if (found := stat(pid)) and found[0] not in "ZX"}
    for pid, (_, parent, start) in stats.items():
        if parent in stats and stats[parent][1] == supervisor and _is_init(pid):
            return Process(pid, start)
    return None


def parent_of(process: Process | None, program: str) -> Process | None:
    """Return the parent of a living process, where it runs this program."""
    if process is None or not lives(process) or (found := stat(process.pid)) is None:
        return None
    # The kernel keeps 15 characters of a program's name.
    return identify(found[1]) if _name(found[1]) == program[:15] else None


def marks() -> Iterator[tuple[Process, str]]:
    """Yield the host's processes and the machines' first ones that carry the lab's mark in their environment."""
    for pid in pids():
        if not (namespaced := _namespaced(pid)) or (len(namespaced) > 1 and namespaced[-1] != "1"):
            continue
        try:
            environment = (PROC / str(pid) / "environ").read_bytes()
        except OSError:
            continue
        for entry in environment.split(b"\0"):
            name, _, value = entry.partition(b"=")
            if name == MARK.encode() and (process := identify(pid)):
                yield process, value.decode(errors="replace")
                break


def marked(state: str) -> dict[Process, tuple[str, str]]:
    """Return the processes whose mark names this state directory, with (lab, machine) of the mark."""
    found = {}
    for process, mark in marks():
        where, _, machine = mark.rpartition(":")
        where, _, lab = where.rpartition(":")
        if where == state:
            found[process] = (lab, machine)
    return found


def session(leader: Process) -> list[Process]:
    """Return the processes of a session that this process leads or led; none where its number has a new owner."""
    now = identify(leader.pid)
    if now is not None and now != leader:
        return []
    found = []
    for pid in pids():
        try:
            # While a session has members, no other process gets its number.
            if os.getsid(pid) == leader.pid and (process := identify(pid)):
                found.append(process)
        except ProcessLookupError:
            continue
    return found


def of_life(life: Life | None) -> set[Process]:
    """Return the host's processes of a running machine: those that may carry its mark."""
    known: set[Process] = set()
    for process in (life.supervisor, life.leader) if life else ():
        if process is not None:
            known |= {process, *session(process)}
    return known


def end_session(leader: Process, number: int) -> None:
    """Send a signal to a process and to its whole session."""
    for process in {leader, *session(leader)}:
        end(process, number)


def pids() -> list[int]:
    """Return the numbers of all processes."""
    return [int(path.name) for path in PROC.iterdir() if path.name.isdigit()]


def wait_until(condition: Callable[[], bool], deadline: float, pause: float = 0.02) -> bool:
    """Test a condition until it holds; return False where the deadline (seconds from now) passed first."""
    ends = time.monotonic() + deadline
    while not condition():
        if time.monotonic() >= ends:
            return False
        time.sleep(pause)
    return True


def _name(pid: int) -> str:
    try:
        return (PROC / str(pid) / "comm").read_text().strip()
    except OSError:
        return ""


def _is_init(pid: int) -> bool:
    numbers = _namespaced(pid)
    return len(numbers) > 1 and numbers[-1] == "1"


def _namespaced(pid: int) -> list[str]:
    """Return the process's numbers, from the host's PID namespace inwards; empty where it is gone."""
    try:
        status = (PROC / str(pid) / "status").read_text()
    except OSError:
        return []
    for line in status.splitlines():
        if line.startswith("NSpid:"):
            return line.split()[1:]
    return []
