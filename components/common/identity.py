"""The identity of a component: its id, its start time, and its announcement (protocol 2.2)."""

from __future__ import annotations

import os
import secrets
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from components.common.bus.messages import ComponentAnnouncement
from components.common.filesystem.files import PUBLIC, write_atomically


def new_id() -> str:
    """Return a new id: 32 lower-case hex characters, 16 random bytes."""
    return secrets.token_hex(16)


def persistent_id(path: Path, index: int) -> str:
    """Return a component's id from a file, made at its first start, so that a restart is recognised as the same.

    Args:
        path: the file; its folder must exist.
        index: the id starts with it, `<index>-<hex>`.
    """
    try:
        known = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        known = ""
    if known.startswith(f"{index}-"):
        return known
    fresh = f"{index}-{new_id()}"
    write_atomically(path, fresh + "\n", mode=PUBLIC)
    return fresh


@dataclass(frozen=True, slots=True)
class Identity:
    """One component's identity. `kind` is the announced type: CloudController, DEA, HealthManager, Router, Stager."""

    kind: str
    index: int
    uuid: str
    started: float = field(default_factory=time.time)

    @classmethod
    def fresh(cls, kind: str, index: int) -> Identity:
        """Return a new identity for this run."""
        return cls(kind, index, f"{index}-{new_id()}")

    def announcement(
        self, host: str, credentials: list[str], *, uptime: bool = False
    ) -> ComponentAnnouncement:
        """Return the announcement for the bus; `host` is `address:port` of the probes."""
        start = datetime.fromtimestamp(self.started).astimezone().strftime("%Y-%m-%d %H:%M:%S %z")
        return ComponentAnnouncement(
            type=self.kind,
            index=self.index,
            uuid=self.uuid,
            host=host,
            credentials=credentials,
            start=start,
            uptime=format_uptime(time.time() - self.started) if uptime else None,
        )

    def varz(self) -> dict[str, object]:
        """Return the part of `/varz` that all components share (protocol 3.5): memory in KB, cpu in percent of one core."""
        seconds = max(time.time() - self.started, 0.001)
        spent = os.times()
        return {
            "type": self.kind,
            "index": self.index,
            "uuid": self.uuid,
            "start": datetime.fromtimestamp(self.started).astimezone().strftime("%Y-%m-%d %H:%M:%S %z"),
            "uptime": format_uptime(seconds),
            "num_cores": os.cpu_count() or 1,
            "mem": resident_kb(),
            "cpu": round(100 * (spent.user + spent.system) / seconds, 1),
        }


def format_uptime(seconds: float) -> str:
    """Return a duration as `0d:1h:2m:3s`."""
    whole = int(seconds)
    return f"{whole // 86400}d:{whole // 3600 % 24}h:{whole // 60 % 60}m:{whole % 60}s"


def resident_kb() -> int:
    """Return this process's resident memory, in KB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024
