"""The answer of every component to `ingot.component.logs`: the last lines of its own log."""

from __future__ import annotations

import socket

from components.common import log
from components.common.bus.client import Bus, Incoming
from components.common.bus.operation_messages import LogQuery, LogReply

SUBJECT = "ingot.component.logs"
# A reply stays well below the largest message of the bus.
LARGEST_REPLY = 256 << 10


def answer_logs(bus: Bus, component: str, id_: str, ring: log.Ring | None = None) -> None:
    """Answer queries for this component's log; call before the bus starts.

    A component that the query is not about answers with no lines, so that the caller can tell it from one that is down.

    Args:
        bus: the component's own.
        component: its name, as in its lines.
        id_: the id it announces.
        ring: its lines; by default those of this process.
    """
    host = socket.gethostname()
    kept = ring or log.RING

    async def asked(message: Incoming[LogQuery]) -> None:
        lines = matching(kept, message.body) if meant(message.body, component, host) else []
        await message.respond(LogReply(component=component, id=id_, host=host, lines=lines))

    bus.subscribe(SUBJECT, LogQuery, asked)


def meant(query: LogQuery, component: str, host: str) -> bool:
    """Return whether a query is about this component on this machine."""
    return query.component in (None, component) and query.host in (None, host)


def matching(ring: log.Ring, query: LogQuery) -> list[str]:
    """Return the lines that a query asks for, oldest first; the newest ones where there are too many for a reply."""
    limit = max(0, min(query.limit, log.KEPT_LINES))
    lines = ring.lines(since=query.since, limit=limit, level=query.level, contains=query.contains)
    size = 0
    for number, text in enumerate(reversed(lines)):
        # JSON in JSON: its quotes are escaped.
        size += len(text.encode()) + text.count('"') + text.count("\\") + 4
        if size > LARGEST_REPLY:
            return lines[len(lines) - number :]
    return lines
