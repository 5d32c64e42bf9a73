"""The relay of a lab's port of the host: 127.0.0.1:PORT to port 80 of its routers in turn."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from components.common import log
from orchestrator.lab.errors import ConflictError

ROUTER_PORT = 80
_CONNECT_DEADLINE = 2.0
_CHUNK = 65536
logger = log.get(__name__)


def in_turn(targets: list[str], turn: int) -> list[str]:
    """Return all targets in the order in which this connection tries them."""
    if not targets:
        return []
    first = turn % len(targets)
    return targets[first:] + targets[:first]


class Relay:
    """The relays of all labs. `targets` returns a lab's targets at every connection, so that changes apply at once."""

    def __init__(self, targets: Callable[[str], list[str]], router_port: int = ROUTER_PORT) -> None:
        self._targets = targets
        self._router_port = router_port
        self._doors: dict[str, asyncio.Server] = {}
        self._open: dict[str, set[asyncio.Task[None]]] = {}
        self._turn = 0

    async def open(self, lab: str, port: int) -> None:
        """Listen for a lab; an open relay stays.

        Raises:
            ConflictError: the port is taken.
        """
        if lab in self._doors:
            return
        tasks = self._open.setdefault(lab, set())

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            tasks.add(task)
            try:
                await self._serve(lab, reader, writer)
            except asyncio.CancelledError:
                # The relay was closed; the connection ends with it.
                writer.transport.abort()
            finally:
                tasks.discard(task)

        try:
            self._doors[lab] = await asyncio.start_server(accept, "127.0.0.1", port, limit=_CHUNK)
        except OSError as error:
            raise ConflictError(f"port {port} of 127.0.0.1 is taken: {error.strerror}") from error

    def labs(self) -> list[str]:
        """Return the labs whose relay is open."""
        return list(self._doors)

    async def close(self, lab: str) -> None:
        """Close a lab's relay and every connection through it."""
        if door := self._doors.pop(lab, None):
            door.close()
            for task in self._open.pop(lab, set()):
                task.cancel()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(door.wait_closed(), 2)

    async def close_all(self) -> None:
        """Close every relay."""
        for lab in list(self._doors):
            await self.close(lab)

    async def _serve(self, lab: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if (found := await self._connect(lab)) is None:
                return
            far_reader, far_writer = found
            try:
                await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
            finally:
                await _close(far_writer)
        finally:
            await _close(writer)

    async def _connect(self, lab: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        self._turn += 1
        for address in in_turn(self._targets(lab), self._turn):
            try:
                return await asyncio.wait_for(
                    asyncio.open_connection(address, self._router_port, limit=_CHUNK), _CONNECT_DEADLINE
                )
            except (OSError, TimeoutError):
                continue
        logger.info("no router answers", lab=lab)
        return None


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until the end, then pass the end on; the other direction may go on."""
    with contextlib.suppress(OSError):
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
        return
    # A broken side breaks the other, which would otherwise wait for ever.
    writer.transport.abort()


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
