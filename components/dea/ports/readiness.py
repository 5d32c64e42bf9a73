"""The check that an instance has come up (protocol 4.4, step 9; `meta.health` in docs/platform.md)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from pathlib import Path
from urllib.parse import quote

from components.common.bus.messages import HealthCheck
from components.common.filesystem.plain_files import open_plain
from components.common.states import InstanceState
from components.dea.config import DeaConfig
from components.dea.errors import StartError
from components.dea.instances.instance import Instance
from components.dea.ports import listeners

_CONNECT_SECONDS = 0.25
# Short at first, because most start fast; then as patient as DEAs of 2011.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 0.5
_MOST_STATE_BYTES = 64 * 1024
# The timeout of one health request; an application may be slow at first.
_ANSWER_SECONDS = 10.0
_MOST_HEAD_BYTES = 16 * 1024
_LONGEST_TIMEOUT = 3600.0


class NotReadyError(StartError):
    """An instance did not come up in its time; the text is for its owner."""


async def ready(instance: Instance, directory: Path, config: DeaConfig) -> bool:
    """Wait until an instance serves; return False when it is no longer starting.

    Raises:
        NotReadyError: it does not in its time, or another program has its port.
    """
    if instance.port is None and instance.state_file is None:
        return True
    health = instance.health
    path = None if health is None or instance.port is None else health.path
    seconds = _seconds(instance, config, health)
    deadline = time.monotonic() + seconds
    pause = _FIRST_PAUSE
    last = ""
    while instance.state is InstanceState.STARTING and time.monotonic() < deadline:
        if path is None:
            served = await _serves(instance, directory, config)
        else:
            last = await answer(config.address, instance, path, min(_ANSWER_SECONDS, seconds))
            served = last[:1] in {"2", "3"}
        if served and await _itself(instance):
            return True
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE)
    if instance.state is InstanceState.STARTING:
        raise NotReadyError(f"{_late(instance, path, last)} within {seconds:g} s")
    return False


async def _serves(instance: Instance, directory: Path, config: DeaConfig) -> bool:
    if instance.state_file is not None:
        return await asyncio.to_thread(says_running, directory / instance.state_file)
    return instance.port is not None and await listens(config.address, instance.port)


async def _itself(instance: Instance) -> bool:
    """Return whether the instance itself answered. One with a state file need not listen yet.

    Raises:
        NotReadyError: others listen on its port, and waiting does not help.
    """
    if instance.port is None:
        return True
    table = await asyncio.to_thread(listeners.read)
    others = listeners.strangers(instance, table)
    if others:
        raise NotReadyError(listeners.taken(instance, others))
    return instance.state_file is not None or listeners.holds(instance, table)


def _late(instance: Instance, path: str | None, last: str) -> str:
    if path is not None:
        return f"health check: {path} did not answer 2xx or 3xx (last: {last})"
    if instance.state_file:
        return f"did not report RUNNING in {instance.state_file}"
    return f"did not open its port {instance.port}"


async def answer(address: str, instance: Instance, path: str, seconds: float) -> str:
    """Send an HTTP request to an instance; return the status of its answer, or in words why there is none."""
    host = instance.uris[0] if instance.uris else address
    # The path is a user's: no part of it may begin a header.
    target = quote(path if path.startswith("/") else f"/{path}", safe="/%?&=+:;,@!~*'()$-._")
    asked = f"GET {target} HTTP/1.1\r\nHost: {quote(host, safe=':.-_')}\r\nUser-Agent: ingot-dea\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(address, instance.port, limit=_MOST_HEAD_BYTES)
            try:
                writer.write(asked.encode("ascii"))
                line = (await reader.readline()).decode("latin-1").split()
            finally:
                writer.close()
    except TimeoutError:
        return f"no answer within {seconds:g} s"
    except (OSError, ValueError) as error:
        return "its port is closed" if isinstance(error, ConnectionRefusedError) else "it spoke no HTTP"
    if len(line) < 2 or not line[0].startswith("HTTP/") or not (line[1].isascii() and line[1].isdigit()):
        return "it spoke no HTTP"
    return line[1]


def _seconds(instance: Instance, config: DeaConfig, health: HealthCheck | None) -> float:
    if health is not None and 0 < health.timeout <= _LONGEST_TIMEOUT:
        return health.timeout
    return config.state_file_timeout if instance.state_file else config.start_timeout


async def listens(address: str, port: int) -> bool:
    """Return whether a port is open."""
    try:
        _reader, writer = await asyncio.wait_for(asyncio.open_connection(address, port), _CONNECT_SECONDS)
    except (OSError, TimeoutError):
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


def says_running(path: Path) -> bool:
    """Return whether a state file is JSON `{"state": "RUNNING"}`. The application controls it: no link is followed. Blocks."""
    try:
        # A program may give the finished file its name by a second link.
        handle = open_plain(path, only_name=False)
    except OSError:
        return False
    try:
        content = json.loads(os.read(handle, _MOST_STATE_BYTES))
    except (OSError, ValueError, RecursionError):
        return False
    finally:
        os.close(handle)
    return isinstance(content, dict) and content.get("state") == "RUNNING"
