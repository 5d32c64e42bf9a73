"""The record of a running platform, by which `down` and `status` of another process find it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from components.common.filesystem.files import write_atomically
from orchestrator.dev.errors import DevError
from orchestrator.lab.journal import Process

FILE = "state.json"


class State(msgspec.Struct, kw_only=True):
    """The record.

    owner: the process that watches it; None where it runs by itself.
    run: the folder of the sockets.
    ports: as `choose_ports` returned them.
    processes: by name, in the order of their start.
    """

    run: str
    ports: dict[str, int]
    domain: str
    owner: Process | None = None
    processes: dict[str, Process] = msgspec.field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Write the record."""
        write_atomically(folder / FILE, msgspec.json.format(msgspec.json.encode(self)))


def load(folder: Path) -> State | None:
    """Return the record; None where nothing was started.

    Raises:
        DevError: the file is broken.
    """
    path = folder / FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=State)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        raise DevError(
            f"{path} is broken ({error}); end the processes that it names, and remove it"
        ) from error


def forget(folder: Path) -> None:
    """Remove the record."""
    (folder / FILE).unlink(missing_ok=True)
