"""Long work shown in stages, on standard error: a moving line in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.status import Status
from rich.text import Text

from components.client.output import clean, console
from components.client.units import format_seconds

_WIDEST_BAR = 24
_NARROW = 60


def bar(done: int, total: int, width: int) -> str:
    """Return a bar `[####----]` of this width, brackets included."""
    room = max(1, width - 2)
    full = room if total <= 0 else min(room, room * done // total)
    return f"[{'#' * full}{'-' * (room - full)}]"


@dataclass(slots=True)
class Progress:
    """Shows stages and records how long each took.

    Attributes:
        seconds: stage → how long it took, in the order they ended.
    """

    screen: Console = field(default_factory=lambda: console(error=True))
    seconds: dict[str, float] = field(default_factory=dict)
    _status: Status | None = None
    _stage: str = ""
    _detail: str = ""

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Run one stage; it is recorded, and its line is printed, when it succeeds."""
        self._stage, self._detail = name, ""
        begun = time.monotonic()
        if self.screen.is_terminal:
            self._status = self.screen.status(Text(name))
            self._status.start()
        try:
            yield
            spent = time.monotonic() - begun
            self.seconds[name] = round(spent, 3)
            self._stop()
            detail = f"  {self._detail}" if self._detail else ""
            self.screen.print(Text(f"{name:<10} {format_seconds(spent):>8}{detail}"))
        finally:
            self._stop()

    def detail(self, text: str) -> None:
        """Show how far the stage is; the last text stays on its line."""
        self._detail = text
        self._show(text)

    def part(self, done: int, total: int, text: str) -> None:
        """Show how much of a measurable amount is done, with a bar on a terminal."""
        self._detail = text
        wide = _WIDEST_BAR if self.screen.width >= _NARROW else 10
        self._show(f"{bar(done, total, wide)} {text}")

    def count(self, done: int, total: int, what: str) -> None:
        """Show that one more of several is done; outside of a terminal as a line of its own."""
        text = f"{done}/{total} {what}"
        self.part(done, total, text)
        if self._status is None and done:
            self.screen.print(Text(f"  | {text}", style="dim"))

    def note(self, text: str) -> None:
        """Print a remark, once."""
        self.screen.print(Text(text, style="yellow"))

    def log(self, text: str) -> None:
        """Show lines of a log that arrive while the stage runs."""
        for row in text.splitlines():
            self.screen.print(Text(f"  | {clean(row)}", style="dim"))

    def total(self) -> float:
        """Return the seconds of all stages."""
        return round(sum(self.seconds.values()), 3)

    def summary(self) -> str:
        """Return `4.2 s (packing 0.1 s, ...)`."""
        each = ", ".join(f"{name} {format_seconds(spent)}" for name, spent in self.seconds.items())
        return f"{format_seconds(self.total())} ({each})"

    def stages(self) -> list[dict[str, object]]:
        """Return `[{"name","seconds"}]` for programs."""
        return [{"name": name, "seconds": spent} for name, spent in self.seconds.items()]

    def _show(self, text: str) -> None:
        if self._status is not None:
            line = Text(f"{self._stage}  {text}", no_wrap=True, overflow="ellipsis")
            # The spinner and its gap take two cells; a wider text would be wrapped into lines that stay.
            line.truncate(max(1, self.screen.width - 3), overflow="ellipsis")
            self._status.update(line)

    def _stop(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None
