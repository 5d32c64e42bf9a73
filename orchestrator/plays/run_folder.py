"""The folder of a run: what the runner writes for the unit's program, and what that leaves for the runner.

play.json           the order, for root alone
env/extravars       the variables, for root alone; may hold secrets
events.jsonl        the events so far
result.json         the result
said                how many bytes of the events have been reported
told                exists once the result has been returned
artifacts/run/      Ansible's output
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec

from components.common.filesystem.files import write_atomically
from orchestrator.plays.events import Event

Progress = Callable[[str], None]
SUCCESSFUL, FAILED, TIMEOUT, LOST = "successful", "failed", "timeout", "lost"
PLAY, EVENTS, RESULT, TOLD = "play.json", "events.jsonl", "result.json", "told"
VARIABLES = Path("env", "extravars")
OUTPUT = Path("artifacts", "run", "stdout")
# Files of a run that are not needed once it has ended; the first holds secrets.
_SPENT = ("env", "home", "artifacts/run/fact_cache")


class Order(msgspec.Struct):
    """The order for the unit's program (`play.json`); the variables are in a file of their own."""

    playbook: str
    plays: str
    inventory: str
    limit: str
    seconds: float


class Ending(msgspec.Struct):
    """The result that the unit's program leaves (`result.json`)."""

    status: str
    rc: int


class EventTail:
    """Reports the new events of a run; its position is kept, so that no event is reported twice."""

    def __init__(self, run: Path, say: Progress) -> None:
        self._events = run / EVENTS
        self._mark = run / "said"
        self._say = say
        self._at = int(self._mark.read_text(encoding="ascii")) if self._mark.is_file() else 0

    def report(self) -> None:
        """Report the events since the last call."""
        try:
            for line in complete_lines(self._events, self._at).splitlines(keepends=True):
                self._at += len(line)
                # The callback may end this process here, after it has taken the line.
                if told := msgspec.json.decode(line, type=Event).line():
                    self._say(told)
        finally:
            write_atomically(self._mark, str(self._at))


def complete_lines(path: Path, start: int = 0) -> bytes:
    """Return the complete lines from an offset on."""
    try:
        with path.open("rb") as file:
            file.seek(start)
            text = file.read()
    except FileNotFoundError:
        return b""
    return text[: text.rfind(b"\n") + 1]


def attempts(folder: Path) -> list[Path]:
    """Return the runs below the folder of a key."""
    return [p for p in folder.glob("*") if p.name.isdigit()]


def last_attempt(folder: Path) -> int:
    """Return the number of the last run below the folder of a key; 0 where there is none."""
    return max((int(p.name) for p in attempts(folder)), default=0)


def read_ending(run: Path) -> Ending | None:
    """Return the result of a run; None where there is none yet."""
    try:
        return msgspec.json.decode((run / RESULT).read_bytes(), type=Ending)
    except (FileNotFoundError, NotADirectoryError):
        return None


def spend(run: Path) -> None:
    """Remove the files that an ended run does not need."""
    for name in _SPENT:
        shutil.rmtree(run / name, ignore_errors=True)
