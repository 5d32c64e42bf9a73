"""The platform's own log: every component's last lines, merged (docs/platform.md)."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from collections.abc import Iterable
from typing import Any

from components.common.bus.client import Bus
from components.common.bus.messages import ComponentAnnouncement
from components.common.bus.operation_messages import LogQuery, LogReply

ANSWER_SECONDS = 1.0
LEVELS = ("debug", "info", "warning", "error", "critical")
# Members that are shown by themselves, or are the same in every line.
_OWN = ("timestamp", "component", "level", "event", "logger")


async def ask(bus: Bus, query: LogQuery) -> tuple[list[LogReply], list[str]]:
    """Ask every component; return the answers, and the ids of present components that did not answer.

    Raises:
        BusUnavailableError: no connection.
    """
    replies, there = await asyncio.gather(
        bus.request_many("ingot.component.logs", query, LogReply, timeout=ANSWER_SECONDS),
        bus.request_many("vcap.component.discover", None, ComponentAnnouncement, timeout=ANSWER_SECONDS),
    )
    answered = {reply.id for reply in replies}
    return replies, sorted({a.uuid for a in there} - answered)


def merge(replies: Iterable[LogReply], limit: int) -> list[dict[str, Any]]:
    """Return the newest lines of all replies, oldest first (pure).

    Each process of one daemon answers for itself; lines from before their fork are shown once.
    """
    seen: set[tuple[str, str, str]] = set()
    lines = []
    for reply in replies:
        for text in reply.lines:
            if (reply.id, reply.host, text) not in seen:
                seen.add((reply.id, reply.host, text))
                lines.append(to_json(reply, text))
    lines.sort(key=lambda line: line["at"])
    return lines[-limit:]


def to_json(reply: LogReply, text: str) -> dict[str, Any]:
    """Return one line for display: its event, and the other members as `name=value`; text that is no JSON object stays (pure)."""
    try:
        facts = json.loads(text)
    except ValueError:
        facts = None
    if not isinstance(facts, dict):
        return _line(reply, 0.0, "info", "", text)
    rest = {k: v for k, v in facts.items() if k not in _OWN}
    said = " ".join(f"{k}={v if isinstance(v, str) else json.dumps(v)}" for k, v in rest.items())
    return _line(
        reply,
        _seconds(facts.get("timestamp")),
        str(facts.get("level", "")),
        str(facts.get("event", "")),
        said,
    )


def _line(reply: LogReply, at: float, level: str, event: str, text: str) -> dict[str, Any]:
    return {
        "at": at,
        "component": reply.component,
        "id": reply.id,
        "host": reply.host,
        "level": level,
        "event": event,
        "text": text,
    }


def _seconds(stamp: object) -> float:
    try:
        return round(dt.datetime.fromisoformat(str(stamp)).timestamp(), 6)
    except ValueError:
        return 0.0
