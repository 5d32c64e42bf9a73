"""The saved state of a DEA's agent for the next one: the instances, the resting ports and the last uid."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from pathlib import Path

import msgspec

from components.common import log
from components.common.filesystem.files import write_atomically
from components.dea.instances.instance import Instance
from components.dea.instances.number_ring import RingState

_Table = dict[str, dict[str, Instance]]
logger = log.get(__name__)


class Snapshot:
    """The files `applications.json` and `tasks.json` (application id to id to record), `ports.json`, `uids.json`, `files.json`, `evacuating`.

    A full disk stops no caller: a failed write is in `problem`, and is repeated when the disk has room
    and a caller asks again.

    Args:
        directory: must exist.
    """

    def __init__(self, directory: Path) -> None:
        self._instances = directory / "applications.json"
        self._ports = directory / "ports.json"
        self._uids = directory / "uids.json"
        self._tasks = directory / "tasks.json"
        self._evacuating = directory / "evacuating"
        self._credentials = directory / "files.json"
        # By file: the reason of its last failed write.
        self._problems: dict[str, str] = {}
        self._evacuates = self._evacuating.exists()

    def load(self) -> list[Instance]:
        """Read the records; a file that cannot be understood is put aside and counts as none."""
        return [*_read(self._instances), *_read(self._tasks)]

    @property
    def problem(self) -> str | None:
        """Return in words the failed writes; None where there is none."""
        return next((f"{name}: {why}" for name, why in self._problems.items()), None)

    def save(self, instances: Iterable[Instance]) -> bool:
        """Write the records, all or nothing of each file.

        Returns:
            Whether they are on the disk.
        """
        apps: _Table = {}
        tasks: _Table = {}
        for instance in instances:
            table = tasks if instance.is_task else apps
            table.setdefault(str(instance.droplet), {})[instance.id] = instance
        saved = self._write(self._instances, msgspec.json.encode(apps))
        # Apart, so that an agent of an earlier release, which knows no tasks, takes none for an instance.
        if tasks or self._tasks.exists():
            saved &= self._write(self._tasks, msgspec.json.encode(tasks))
        return saved

    def load_ports(self) -> RingState | None:
        """Return the saved state of the ports' ring."""
        return _read_ring(self._ports)

    def save_ports(self, state: RingState) -> None:
        """Save the state of the ports' ring."""
        self._write(self._ports, msgspec.json.encode(state))

    def load_uids(self) -> RingState | None:
        """Return the saved state of the uids' ring."""
        return _read_ring(self._uids)

    def save_uids(self, state: RingState) -> None:
        """Save the state of the uids' ring."""
        self._write(self._uids, msgspec.json.encode(state))

    def credentials(self) -> list[str]:
        """Return user and password of the files' port; made once, so that a reader goes on over a restart of the agent."""
        try:
            known = msgspec.json.decode(self._credentials.read_bytes(), type=tuple[str, str])
        except (FileNotFoundError, msgspec.MsgspecError):
            known = (secrets.token_hex(16), secrets.token_hex(16))
            self._write(self._credentials, msgspec.json.encode(known))
        return list(known)

    @property
    def evacuating(self) -> bool:
        """Return whether the DEA evacuates; it goes on doing so after a restart, until told otherwise."""
        return self._evacuates

    @evacuating.setter
    def evacuating(self, value: bool) -> None:
        self._evacuates = value
        try:
            if value:
                self._evacuating.touch()
            else:
                self._evacuating.unlink(missing_ok=True)
        except OSError as error:
            self._note(self._evacuating, error)
        else:
            self._problems.pop(self._evacuating.name, None)

    def _write(self, path: Path, content: bytes) -> bool:
        try:
            write_atomically(path, content)
        except OSError as error:
            self._note(path, error)
            return False
        self._problems.pop(path.name, None)
        return True

    def _note(self, path: Path, error: OSError) -> None:
        why = error.strerror or str(error)
        if self._problems.get(path.name) != why:
            logger.error("state_not_saved", file=path.name, reason=why)
        self._problems[path.name] = why


def _read(path: Path) -> list[Instance]:
    try:
        found = msgspec.json.decode(path.read_bytes(), type=_Table)
    except FileNotFoundError:
        return []
    except msgspec.MsgspecError as error:
        aside = path.with_suffix(".broken")
        path.replace(aside)
        logger.error("snapshot_unreadable", reason=str(error), kept_as=str(aside))  # noqa: TRY400 - the reason says all
        return []
    return [instance for of_app in found.values() for instance in of_app.values()]


def _read_ring(path: Path) -> RingState | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=RingState)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None
