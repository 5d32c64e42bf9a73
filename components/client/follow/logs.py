"""Log lines as they arrive: pages of a controller, with gaps marked and a colour for each instance.

A cursor is valid at every controller, so one that is replaced meanwhile costs a pause and no line.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.text import Text

from components.client.errors import ClientError, away
from components.client.output import clean, console

PATIENCE = 120.0
# The longest time for which a controller may hold the request, in seconds, and the pause before the next request
# after an empty answer.
_WAIT = 5
_PAUSE = 0.5
_COLOURS = ("cyan", "green", "magenta", "yellow", "blue", "bright_cyan", "bright_green", "bright_magenta")
ENDED = frozenset({"succeeded", "failed"})
Page = dict[str, Any]
Row = Mapping[str, Any]


def rows(page: Mapping[str, Any]) -> Iterator[Row]:
    """Yield a page's lines; a gap of an instance (it has a `count`) comes before its first line, or at the end."""
    gaps = {gap.get("id"): gap for gap in page.get("missed") or []}
    for line in page.get("lines") or []:
        if (gap := gaps.pop(line.get("id"), None)) is not None:
            yield gap
        yield line
    yield from gaps.values()


def words(row: Row) -> str:
    """Return a row without its instance: the line's text, or the number of missed lines."""
    if "count" in row:
        count = int(row["count"])
        return f"… {count} {'line' if count == 1 else 'lines'} missed (instance {row.get('instance')})"
    return clean(str(row.get("text", "")))


def rendered(row: Row, *, times: bool = False) -> Text:
    """Return a row as it is shown: `[0] text`, `[0!] text` for standard error, an instance always in one colour."""
    index = row.get("instance")
    colour = _COLOURS[index % len(_COLOURS)] if isinstance(index, int) else "dim"
    if "count" in row:
        return Text(words(row), style="yellow")
    at = row.get("at")
    stamp = time.strftime("%H:%M:%S ", time.localtime(float(at))) if times and at is not None else ""
    mark = "!" if row.get("stream") == "stderr" else ""
    name = "-" if index is None else index
    return Text.assemble((f"{stamp}[{name}{mark}] ", colour), words(row))


@dataclass(slots=True)
class LogScreen:
    """A screen that shows rows on a console (by default standard output)."""

    times: bool = False
    screen: Console = field(default_factory=console)

    def show(self, page: Mapping[str, Any]) -> None:
        """Print a page."""
        for row in rows(page):
            self.screen.print(rendered(row, times=self.times), soft_wrap=True)


@dataclass(slots=True)
class LogPager:
    """Reads pages of a log, one after the other.

    Args:
        ask: a call that takes `tail`, or `cursor` and `wait`, and returns a page.
        say: called once when the platform is away, and once when it is back.
        patience: seconds without any answer after which reading ends.
    """

    ask: Callable[..., Page]
    say: Callable[[str], None] = lambda _text: None
    patience: float = field(default_factory=lambda: PATIENCE)
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def pages(self, tail: int, *, follow: bool) -> Iterator[Page]:
        """Yield the last lines, then new ones until the log ends; only the first page without `follow`.

        Raises:
            ClientError: the platform was away too long, or refuses access.
        """
        page = self._insist(tail=tail)
        yield page
        while follow:
            if page.get("state") in ENDED and not page["lines"]:
                return
            begun = self.clock()
            page = self._insist(cursor=page.get("cursor"), wait=_WAIT)
            if page["lines"] or page["missed"]:
                yield page
            elif page.get("state") not in ENDED and self.clock() - begun < _PAUSE:
                self.sleep(_PAUSE)

    def once(self) -> Page:
        """Ask one question that changes nothing, until it is answered.

        Raises:
            ClientError: as `pages` does.
        """
        return self._insist()

    def _insist(self, **wanted: Any) -> Page:
        begun: float | None = None
        while True:
            try:
                page = self.ask(**wanted)
            except ClientError as error:
                if not away(error):
                    raise
                if begun is None:
                    begun = self.clock()
                    self.say("the platform does not answer at the moment; waiting for it")
                if self.clock() - begun > self.patience:
                    raise
                self.sleep(_PAUSE * 2)
                continue
            if begun is not None:
                self.say("it answers again")
            return page
