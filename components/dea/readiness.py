"""Whether an instance has come up (section 4.4, step 9)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import stat
import time
from pathlib import Path

from components.dea.config import DeaConfig
from components.dea.instance import Instance, State

_CONNECT_SECONDS = 0.25
# Quick at first, as most are; then as patient as 2011's.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 0.5
_MOST_STATE_BYTES = 64 * 1024


async def ready(instance: Instance, directory: Path, config: DeaConfig) -> bool:
    """Wait until an instance serves; False when it does not in its time, or is no longer starting."""
    if instance.port is None and instance.state_file is None:
        return True
    seconds = config.state_file_timeout if instance.state_file else config.start_timeout
    deadline = time.time() + seconds
    pause = _FIRST_PAUSE
    while instance.state is State.STARTING and time.time() < deadline:
        if instance.state_file is not None:
            if await asyncio.to_thread(says_running, directory / instance.state_file):
                return True
        elif instance.port is not None and await listens(config.address, instance.port):
            return True
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE)
    return False


async def listens(address: str, port: int) -> bool:
    """Judge whether somebody answers at a port."""
    try:
        _reader, writer = await asyncio.wait_for(asyncio.open_connection(address, port), _CONNECT_SECONDS)
    except (OSError, TimeoutError):
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


def says_running(path: Path) -> bool:
    """Judge a state file: JSON `{"state": "RUNNING"}`. It is the application's: no link is followed. Blocks."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return False
        content = json.loads(os.read(handle, _MOST_STATE_BYTES))
    except (OSError, ValueError):
        return False
    finally:
        os.close(handle)
    return isinstance(content, dict) and content.get("state") == "RUNNING"
