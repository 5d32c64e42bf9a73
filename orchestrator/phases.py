"""Phases of a long operation: announced, timed, and reported as JSON."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Phases:
    """Times named phases. `started` is when the whole began, seconds since 1970."""

    started: float = field(default_factory=time.time)
    done: list[dict[str, Any]] = field(default_factory=list)

    @contextmanager
    def phase(self, name: str, what: str) -> Iterator[None]:
        """Announce a phase and time it; it counts as done only when it did not raise."""
        say(f"{name}: {what}")
        began = time.monotonic()
        yield
        self.add(name, time.monotonic() - began)

    def add(self, name: str, seconds: float) -> None:
        """Enter a phase that was timed elsewhere."""
        self.done.append({"name": name, "seconds": round(seconds, 1)})

    def write(self, path: Path, **facts: object) -> dict[str, Any]:
        """Write `{"phases", "total_seconds", ...facts}`; give what was written."""
        report = {"phases": self.done, "total_seconds": round(time.time() - self.started, 1), **facts}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        return report


def say(line: str) -> None:
    """Write a line of progress, now."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
