"""The events of a running play, reduced to the lines of a journal; pure.

`reduce` makes a line from one of ansible-runner's events, `PlaySummary` reads the lines again. Results that a task hides with
`no_log` are hidden by Ansible before they arrive here, and are marked as hidden.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

_LONGEST = 2000
_HIDDEN = "hidden, as the task has no_log"
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_TAIL_LINES = 60
# Ansible's own first task of every role; it tells nothing unless it fails.
_UNNAMED = "Validating arguments against arg spec"


class Event(msgspec.Struct, omit_defaults=True):
    """One line. `kind` is play, task, changed, failed, unreachable or stats; `recap` comes with the last, by host."""

    kind: str
    name: str = ""
    host: str = ""
    message: str = ""
    recap: dict[str, dict[str, int]] = {}

    def line(self) -> str:
        """Return the line of progress; empty where it is no progress."""
        if self.kind == "play":
            return f"play: {self.name}"
        if self.kind == "task":
            return self.name
        if self.kind == "changed":
            return f"{self.host}: changed: {self.name}"
        if self.kind in ("failed", "unreachable"):
            return f"{self.host}: {self.kind}: {self.name}: {self.message}"
        return ""


@dataclass(frozen=True, slots=True)
class Recap:
    """The result of a play on one host, in tasks."""

    ok: int = 0
    changed: int = 0
    failed: int = 0
    unreachable: int = 0


@dataclass(frozen=True, slots=True)
class Failure:
    """A task that failed on a host; `message` is hidden where the task has `no_log`."""

    host: str
    task: str
    message: str


@dataclass(slots=True)
class PlaySummary:
    """The events so far."""

    recap: dict[str, Recap] = field(default_factory=dict)
    _failures: list[Failure] = field(default_factory=list)

    def add(self, event: Event) -> None:
        """Add an event."""
        if event.kind in ("failed", "unreachable"):
            self._failures.append(Failure(event.host, event.name, event.message))
        elif event.kind == "stats":
            self.recap = {host: Recap(**numbers) for host, numbers in event.recap.items()}

    @property
    def failures(self) -> tuple[Failure, ...]:
        """Return the failures of hosts that ended as failed: a rescued one is none."""
        if not self.recap:
            return tuple(self._failures)
        bad = {host for host, recap in self.recap.items() if recap.failed or recap.unreachable}
        return tuple(f for f in self._failures if f.host in bad)


def reduce(event: Mapping[str, Any]) -> Event | None:
    """Return a line for one of ansible-runner's events; None where the journal does not need it."""
    data: Mapping[str, Any] = event.get("event_data") or {}
    match event.get("event"):
        case "playbook_on_play_start":
            return Event("play", name=str(data.get("name") or data.get("play") or ""))
        case "playbook_on_task_start" | "playbook_on_handler_task_start":
            name = _task(data)
            return None if name.startswith(_UNNAMED) else Event("task", name=name)
        case "playbook_on_stats":
            return Event("stats", recap=_recap(data))
        case what:
            return _of_host(str(what), data)


def _of_host(what: str, data: Mapping[str, Any]) -> Event | None:
    result = data.get("res") or {}
    kind = ""
    if what == "runner_on_ok" and result.get("changed"):
        kind = "changed"
    elif what == "runner_on_failed" and not data.get("ignore_errors"):
        kind = "failed"
    elif what == "runner_on_unreachable":
        kind = "unreachable"
    if not kind:
        return None
    return Event(
        kind, name=_task(data), host=_host(data), message="" if kind == "changed" else message(result)
    )


def message(result: object) -> str:
    """Return the words in a task's result that tell why it failed."""
    if not isinstance(result, Mapping):
        return ""
    if "censored" in result:
        return _HIDDEN
    items = [r for r in result.get("results") or [] if isinstance(r, Mapping) and r.get("failed")]
    if items:
        return _short("; ".join(m for item in items if (m := message(item))))
    found = [result.get(key) for key in ("msg", "stderr", "module_stderr", "stdout", "reason")]
    words = [w for f in found if (w := _words(f))]
    # The output of a command tells more than that its return code was not zero.
    return _short(
        ": ".join(words[:2]) if words[:1] == ["non-zero return code"] else words[0] if words else ""
    )


def tail(output: str, lines: int = _TAIL_LINES) -> str:
    """Return the end of a play's output without its colours."""
    return "\n".join(_COLOUR.sub("", output).rstrip().splitlines()[-lines:])


def _task(data: Mapping[str, Any]) -> str:
    return str(data.get("task") or data.get("name") or "")


def _host(data: Mapping[str, Any]) -> str:
    return str(data.get("host") or data.get("remote_addr") or "")


def _words(value: object) -> str:
    if isinstance(value, list):
        return "; ".join(str(v) for v in value)
    return str(value).strip() if value else ""


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."


def _recap(data: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    names = {"ok": "ok", "changed": "changed", "failed": "failures", "unreachable": "dark"}
    counted = {ours: data.get(theirs) or {} for ours, theirs in names.items()}
    hosts = sorted({host for counts in counted.values() for host in counts})
    return {host: {ours: int(counts.get(host, 0)) for ours, counts in counted.items()} for host in hosts}
