"""Output for people (tables and lines, in a terminal, a narrow one, or a pipe) and for programs (JSON)."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

# Nothing is cut off in a pipe, because programs read it.
_PIPE_WIDTH = 4000
_GAP = 2
_STATES = {
    "RUNNING": "green",
    "STARTED": "green",
    "up": "green",
    "STARTING": "yellow",
    "pending": "yellow",
    "evacuating": "yellow",
    "STOPPED": "dim",
    "DOWN": "red",
    "FLAPPING": "red",
    "CRASHED": "red",
    "lost": "red",
    "ready": "green",
    "succeeded": "green",
    "done": "green",
    "running": "yellow",
    "draining": "yellow",
    "failed": "red",
}


def console(*, error: bool = False) -> Console:
    """Return a console on standard output, or on standard error; the library handles `NO_COLOR` and pipes."""
    stream = sys.stderr if error else sys.stdout
    shown = is_terminal(stream)
    return Console(
        file=stream,
        highlight=False,
        soft_wrap=not shown,
        force_terminal=shown or None,
        width=None if shown else _PIPE_WIDTH,
    )


def is_terminal(stream: IO[str]) -> bool:
    """Return whether a stream is a terminal."""
    return stream.isatty()


# Control characters, which move a terminal's cursor or change its colours, and invisible ones.
_CONTROL = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)


def clean(text: str) -> str:
    """Return a foreign line without characters that would control the reader's terminal."""
    return _CONTROL.sub("", text)


def line(text: str, style: str = "") -> None:
    """Print one line of words on standard output; brackets have no special meaning."""
    console().print(Text(clean(text), style=style))


def data(value: Any) -> None:
    """Print a value as JSON."""
    sys.stdout.write(json.dumps(value, indent=2, sort_keys=True, default=str) + "\n")


def result(value: Mapping[str, Any], text: str, *, as_json: bool) -> None:
    """Print a command's result: as words, or as JSON."""
    if as_json:
        data(value)
    else:
        line(text)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], empty: str) -> None:
    """Print a table; a column whose name starts with `#` holds numbers and is shown without it.

    Args:
        columns: their headings.
        rows: a cell for each column; None is shown as `-`.
        empty: the text where there is no row.
    """
    names = [column.removeprefix("#") for column in columns]
    cells = [[_cell(value) for value in row] for row in rows]
    if not cells:
        line(empty)
        return
    screen = console()
    widths = [max(len(name), *(row[n].cell_len for row in cells)) for n, name in enumerate(names)]
    if sum(widths) + _GAP * len(widths) > screen.width:
        # Too narrow for columns: a block for each row.
        for row in cells:
            facts(zip((name.lower() for name in names), row, strict=True))
            line("")
        return
    drawn = Table(box=None, header_style="bold", pad_edge=False, padding=(0, _GAP, 0, 0))
    for column, name in zip(columns, names, strict=True):
        drawn.add_column(name, justify="right" if column.startswith("#") else "left", no_wrap=True)
    for row in cells:
        drawn.add_row(*row)
    screen.print(drawn)


def facts(pairs: Iterable[tuple[str, object]]) -> None:
    """Print names and values in two columns; pairs without a value are left out."""
    drawn = Table(box=None, show_header=False, pad_edge=False, padding=(0, _GAP, 0, 0))
    drawn.add_column(style="bold", no_wrap=True)
    drawn.add_column(overflow="fold")
    for name, value in pairs:
        if value is not None and str(value):
            drawn.add_row(name, _cell(value))
    console().print(drawn)


def _cell(value: object) -> Text:
    if isinstance(value, Text):
        return value
    text = "-" if value is None else clean(str(value))
    return Text(text, style=_STATES.get(text, ""))
