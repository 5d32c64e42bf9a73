"""The folders of instances: the server's files, and the node's record. All calls block."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec

from components.common import log
from components.common.filesystem import trees
from components.common.filesystem.files import write_atomically
from components.common.units import UnitSpec
from components.services.base import store
from components.services.redis import acl, settings, uids
from components.services.redis.config import RedisNodeConfig
from components.services.redis.records import Record

_RECORD, _SETTINGS, _USERS, _DATA, _LOG = "instance.json", "redis.conf", "users.acl", "data", "redis.log"
_LAST_PORT = "last_port"
_TAIL_BYTES = 4096
logger = log.get(__name__)


class Folders:
    """The folders of all instances, `<base_dir>/instances/<name>`.

    With the sandbox `systemd`, a folder is root's; its server, as a user of its own, reads its two files and owns `data` alone.
    """

    def __init__(self, config: RedisNodeConfig) -> None:
        self._config = config
        self._base = Path(config.base_dir)
        self._instances = self._base / "instances"
        self._as_root = config.sandbox == "systemd"
        self._instances.mkdir(parents=True, exist_ok=True)
        # Not by `mkdir`, whose mode the daemon's umask narrows: servers must reach their own folders.
        self._instances.chmod(0o711)

    def load(self) -> list[Record]:
        """Return all records; a folder whose record cannot be read is not touched, because its data may belong to an owner."""
        records = []
        for folder in sorted(self._instances.iterdir()):
            try:
                record = store.load(folder / _RECORD, Record)
            except (OSError, msgspec.MsgspecError) as error:
                logger.error("record_unreadable", folder=folder.name, reason=str(error))  # noqa: TRY400 - no bug here
                continue
            if record is None:
                logger.warning("folder_without_record", folder=folder.name)
            else:
                records.append(record)
        return records

    def make(self, record: Record) -> None:
        """Make an instance's folder with all its files.

        Raises:
            OSError: the disk refuses.
        """
        folder = self.of(record.name)
        folder.mkdir(mode=0o700, exist_ok=True)
        data = folder / _DATA
        data.mkdir(mode=0o700, exist_ok=True)
        folder.chmod(0o750)
        self.hand_over(record)

    def hand_over(self, record: Record) -> None:
        """Make an instance's folder its server's, and write the record. No server may run on it.

        Raises:
            OSError: the disk refuses.
        """
        folder = self.of(record.name)
        if self._as_root and record.uid is not None:
            uids.hand_over(folder, folder / _DATA, record.uid)
        self.save(record)

    def save(self, record: Record) -> None:
        """Write the record, and the files that the server reads at its start.

        Raises:
            OSError: the disk refuses.
        """
        folder = self.of(record.name)
        group = record.uid if self._as_root else None
        mode = 0o600 if group is None else 0o640
        config = self._config
        text = settings.render(
            folder,
            bind=config.bind,
            port=record.port,
            memory_mb=config.memory_mb,
            max_clients=config.max_clients,
        )
        write_atomically(folder / _SETTINGS, text, mode=mode, group=group, durable=True)
        write_atomically(folder / _USERS, acl.file(record), mode=mode, group=group, durable=True)
        store.save(folder / _RECORD, record)

    def remove(self, name: str) -> None:
        """Remove an instance's folder with its data; a missing one is no error.

        Raises:
            OSError: a part of it is left.
        """
        trees.remove(self.of(name))

    def of(self, name: str) -> Path:
        """Return an instance's folder."""
        return self._instances / name

    def last_words(self, name: str) -> str:
        """Return the last line of a server's log, as the reason of its end; empty where there is none."""
        with contextlib.suppress(OSError):
            with (self.of(name) / _LOG).open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
                lines = file.read().decode(errors="replace").split("\n")
            return next((line.strip() for line in reversed(lines) if line.strip()), "")
        return ""

    def last_port(self) -> int:
        """Return the port handed out last, 0 where there is none."""
        return store.load(self._base / _LAST_PORT, int) or 0

    def save_last_port(self, port: int) -> None:
        """Record the port handed out last."""
        store.save(self._base / _LAST_PORT, port)

    def spec(self, record: Record) -> UnitSpec:
        """Return the description of its unit. The server gets passwords in a file, because everyone can read its arguments."""
        config, folder = self._config, self.of(record.name)
        return UnitSpec(
            name=record.unit,
            argv=[config.executable, str(folder / _SETTINGS)],
            directory=folder,
            environment={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
            uid=record.uid if self._as_root else None,
            memory_mb=config.unit_memory_mb,
            nofile=config.max_clients + 64,
            # Each server has a uid of its own, and sees its own folder alone.
            empty=[Path("/var/lib/ingot"), *_outside(self._instances, Path("/var/lib/ingot"))],
            hidden=[Path(p) for p in ("/etc/ingot", "/opt/ingot", "/srv/ingot", "/root")],
            stdout=folder / _LOG,
            stderr=folder / _LOG,
            slice=config.slice,
        )


def _outside(path: Path, parent: Path) -> list[Path]:
    return [] if path.is_relative_to(parent) else [path]
