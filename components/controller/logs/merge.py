"""The merge of several instances' numbered lines into one answer for a reader (pure).

A reader's place is `{instance id: the number of the last line that the reader got}`. It travels in a cursor, so that any
controller can go on where another stopped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

# The number of instances that one answer reads; of more, those with the lowest indices.
MOST_INSTANCES = 100
# A place also keeps some instances that did not answer this time: they may answer the next.
MOST_PLACES = 150
MOST_LINES = 1000


class Line(msgspec.Struct, frozen=True):
    """One line of an instance's window; `at` is seconds since 1970."""

    n: int
    at: float
    stream: str
    text: str


class Window(msgspec.Struct, frozen=True):
    """A DEA's answer: lines of an instance, and the numbers of the first and last that it still has."""

    instance: str = ""
    first: int = 1
    last: int = 0
    lines: list[Line] = []


@dataclass(frozen=True, slots=True)
class Source:
    """The address at which an instance's lines are read."""

    instance: str
    index: int
    uri: str
    user: str = ""
    password: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """One answer: `lines` and `missed` as in docs/platform.md, the reader's next place, and the number of sources that answered."""

    lines: list[dict[str, Any]]
    missed: list[dict[str, Any]]
    place: dict[str, int]
    answered: int = 0


def chosen(sources: Iterable[Source]) -> list[Source]:
    """Return the sources that one answer reads, each instance once."""
    once = {s.instance: s for s in sources if s.uri}
    return sorted(once.values(), key=lambda s: (s.index, s.instance))[:MOST_INSTANCES]


def share(sources: int) -> int:
    """Return the number of lines that each of so many instances may add to one answer."""
    return max(1, MOST_LINES // max(1, sources))


def merge(place: Mapping[str, int], answers: Iterable[tuple[Source, Window]]) -> Reading:
    """Return the merged windows from a reader's place on.

    Lines between the last that the reader got and the first that is kept count as missed.
    """
    lines: list[dict[str, Any]] = []
    missed: list[dict[str, Any]] = []
    reached: dict[str, int] = {}
    for source, window in answers:
        after = place.get(source.instance, 0)
        fresh = sorted((line for line in window.lines if line.n > after), key=lambda line: line.n)
        begin = fresh[0].n if fresh else min(window.first, window.last + 1)
        if begin > after + 1:
            missed.append({"instance": source.index, "id": source.instance, "count": begin - after - 1})
        reached[source.instance] = fresh[-1].n if fresh else max(after, begin - 1)
        lines.extend(_to_json(source, line) for line in fresh)
    return Reading(_ordered(lines), missed, _kept(place, reached), len(reached))


def newest(answers: Iterable[tuple[Source, Window]], count: int) -> Reading:
    """Return the newest lines of all windows together; a new reader has missed nothing."""
    known = list(answers)
    lines = _ordered([_to_json(source, line) for source, window in known for line in window.lines])
    reached = {
        source.instance: max(window.last, max((line.n for line in window.lines), default=0))
        for source, window in known
    }
    return Reading(lines[-count:] if count else [], [], _kept({}, reached), len(reached))


def joined(before: Reading, after: Reading) -> Reading:
    """Return two consecutive answers to one reader as one."""
    return Reading(
        [*before.lines, *after.lines], [*before.missed, *after.missed], after.place, after.answered
    )


def valid_place(value: object) -> dict[str, int] | None:
    """Return a cursor's value as a place, or None where it is invalid."""
    if not isinstance(value, dict) or len(value) > MOST_PLACES + MOST_INSTANCES:
        return None
    if not all(
        isinstance(k, str) and isinstance(v, int) and not isinstance(v, bool) for k, v in value.items()
    ):
        return None
    return dict(value)


def _to_json(source: Source, line: Line) -> dict[str, Any]:
    return {
        "instance": source.index,
        "id": source.instance,
        "n": line.n,
        "at": line.at,
        "stream": line.stream,
        "text": line.text,
    }


def _ordered(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return lines sorted by time; those of one instance keep their order, whatever its clock did."""
    latest: dict[str, float] = {}
    keys = []
    for line in sorted(lines, key=lambda shown: (shown["id"], shown["n"])):
        at = latest[line["id"]] = max(latest.get(line["id"], 0.0), line["at"])
        keys.append(((at, line["instance"], line["id"], line["n"]), line))
    return [line for _, line in sorted(keys, key=lambda pair: pair[0])]


def _kept(place: Mapping[str, int], reached: Mapping[str, int]) -> dict[str, int]:
    room = max(0, MOST_PLACES - len(reached))
    silent = [(k, v) for k, v in place.items() if k not in reached]
    return {**dict(silent[-room:] if room else []), **reached}
