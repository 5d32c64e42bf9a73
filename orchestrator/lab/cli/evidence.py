"""The evidence of a failed run: every machine's journal and console, also of dead machines."""

from __future__ import annotations

import shutil
from pathlib import Path

from orchestrator.lab import wire
from orchestrator.lab.backends import console
from orchestrator.lab.errors import CommandError
from orchestrator.lab.host.run import run

_DEADLINE = 120.0


def collect(lab: wire.LabView, log: Path, target: Path) -> list[Path]:
    """Write journals and consoles of a lab's machines, and the daemon's log, below `target`.

    Args:
        lab: of the machines.
        log: the daemon's log.
        target: made where it is missing.

    Returns:
        The files written.
    """
    written = []
    for machine in lab.machines:
        folder = target / machine.name
        folder.mkdir(parents=True, exist_ok=True)
        said = folder / "console.txt"
        path = Path(machine.console)
        said.write_text(console.plain(path.read_text(errors="replace")) + "\n" if path.is_file() else "")
        journal = folder / "journal.txt"
        journal.write_text("see console.txt\n" if machine.kernel else _journal(Path(machine.root)))
        written += [said, journal]
    if log.is_file():
        target.mkdir(parents=True, exist_ok=True)
        written.append(Path(shutil.copy(log, target / "lab.log")))
    return written


def _journal(root: Path) -> str:
    # From the host and from the disk, so that it works for a machine that is dead, cut off or out of memory.
    argv = ["journalctl", f"--directory={root}/var/log/journal", "--no-pager", "--output=short-iso-precise"]
    try:
        return run(argv, timeout=_DEADLINE)
    except CommandError as error:
        return f"no journal: {error}\n"
