"""Kernel settings of the host that labs need: set for the first lab, restored after the last."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from components.common import log
from orchestrator.lab.host.network import INTERFACES

logger = log.get(__name__)

IP_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
INOTIFY_INSTANCES = Path("/proc/sys/fs/inotify/max_user_instances")
# A machine takes about seven inotify instances of root's. The usual 128 stop the nineteenth machine of a host at boot.
LEAST_INOTIFY_INSTANCES = 1024


def acquire(counter: Path, bridge: str) -> None:
    """Set the host's settings for a lab, and record their values before the first lab.

    Args:
        counter: the host's file that names the bridges of the labs that need the settings.
        bridge: of the lab.
    """
    with _counted(counter) as state:
        if not state["bridges"]:
            state["before"] = state.get("before") or {str(path): _read(path) for path in _settings()}
        state["bridges"] = sorted({*state["bridges"], bridge})
        for path, wanted in _settings().items():
            _set(path, wanted)


def release(counter: Path, bridge: str | None = None) -> None:
    """Restore the settings once no bridge needs them; removed bridges do not count.

    Args:
        counter: as for `acquire`.
        bridge: of a lab that no longer needs them.
    """
    with _counted(counter) as state:
        state["bridges"] = [b for b in state["bridges"] if b != bridge and (INTERFACES / b).exists()]
        before = {} if state["bridges"] else state.pop("before", {})
        for name, value in before.items():
            _set(Path(name), value)


def _settings() -> dict[Path, str]:
    """Return the needed value of each setting; one that is a minimum is not lowered."""
    instances = max(LEAST_INOTIFY_INSTANCES, int(_read(INOTIFY_INSTANCES)))
    return {IP_FORWARD: "1", INOTIFY_INSTANCES: str(instances)}


def _set(path: Path, value: str) -> None:
    """Write a setting that differs; of the two, only forwarding is needed by every lab."""
    if _read(path) == value:
        return
    try:
        path.write_text(f"{value}\n")
    except OSError as error:
        if path == IP_FORWARD:
            raise
        logger.warning("setting of the host not changed", path=str(path), wanted=value, reason=error.strerror)


def _read(path: Path) -> str:
    return path.read_text().strip()


@contextmanager
def _counted(counter: Path) -> Iterator[dict[str, Any]]:
    """Hold the host's count of labs that need the settings; changes of the block are written back."""
    counter.parent.mkdir(parents=True, exist_ok=True)
    with counter.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        text = file.read()
        state: dict[str, Any] = json.loads(text) if text else {"bridges": []}
        yield state
        file.seek(0)
        file.truncate()
        json.dump(state, file)
