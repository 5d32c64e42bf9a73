"""Phases of a long operation: announced, timed, and reported as JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.control.progress import ProgressWriter, parts

_PROGRESS = ProgressWriter()


@dataclass
class Phases:
    """A timer of named phases. `started` is the beginning of the whole, seconds since 1970."""

    started: float = field(default_factory=time.time)
    done: list[dict[str, Any]] = field(default_factory=list)

    @contextmanager
    def phase(self, name: str, what: str) -> Iterator[None]:
        """Announce a phase and time it; it counts as done only when it did not raise."""
        say(f"{name}: {what}")
        began = time.monotonic()
        try:
            yield
        finally:
            end_step()
        self.add(name, time.monotonic() - began)

    def add(self, name: str, seconds: float) -> None:
        """Add a phase that was timed elsewhere."""
        self.done.append({"name": name, "seconds": round(seconds, 1)})

    def write(self, path: Path, **facts: object) -> dict[str, Any]:
        """Write `{"phases", "total_seconds", ...facts}`; return what was written."""
        report = {"phases": self.done, "total_seconds": round(time.time() - self.started, 1), **facts}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        return report


def say(line: str) -> None:
    """Write a permanent line of progress, now."""
    _PROGRESS.say(line)


def step(line: str) -> None:
    """Show the present step; figures in brackets at its end tell its progress and do not make it another step."""
    _PROGRESS.step(*parts(line))


def end_step() -> None:
    """End the present step: the next output begins a line."""
    _PROGRESS.end()
