"""Numbered lines of several instances as one answer (pure): what a reader has seen, what is asked of each DEA, what is shown.

A reader's place is `{instance id: the number of the last line it was given}`. It travels in a cursor, so that any
controller can go on where another stopped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

# Instances read for one answer; of more, those with the lowest indices.
MOST_INSTANCES = 100
# A place remembers some that did not answer this time: they may be back the next.
MOST_PLACES = 150
MOST_LINES = 1000


class Line(msgspec.Struct, frozen=True):
    """One line of an instance's window; `at` is seconds since 1970."""

    n: int
    at: float
    stream: str
    text: str


class Window(msgspec.Struct, frozen=True):
    """What a DEA answers: lines of an instance, and the numbers of the first and last it still has."""

    instance: str = ""
    first: int = 1
    last: int = 0
    lines: list[Line] = []


@dataclass(frozen=True, slots=True)
class Source:
    """Where an instance's lines are read."""

    instance: str
    index: int
    uri: str
    user: str = ""
    password: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """One answer: `lines` and `missed` as in docs/platform.md, where the reader stands then, and how many answered."""

    lines: list[dict[str, Any]]
    missed: list[dict[str, Any]]
    place: dict[str, int]
    answered: int = 0


def chosen(sources: Iterable[Source]) -> list[Source]:
    """Give the sources that one answer reads, each instance once."""
    once = {s.instance: s for s in sources if s.uri}
    return sorted(once.values(), key=lambda s: (s.index, s.instance))[:MOST_INSTANCES]


def share(sources: int) -> int:
    """Give how many lines each of so many instances may add to one answer."""
    return max(1, MOST_LINES // max(1, sources))


def merge(place: Mapping[str, int], answers: Iterable[tuple[Source, Window]]) -> Reading:
    """Join windows read from a reader's place on.

    What lies between the last line a reader was given and the first that is kept was missed.
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
        lines.extend(_shown(source, line) for line in fresh)
    return Reading(_ordered(lines), missed, _kept(place, reached), len(reached))


def newest(answers: Iterable[tuple[Source, Window]], count: int) -> Reading:
    """Give the newest lines of all windows together; nothing was missed by one who has just come."""
    known = list(answers)
    lines = _ordered([_shown(source, line) for source, window in known for line in window.lines])
    reached = {
        source.instance: max(window.last, max((line.n for line in window.lines), default=0))
        for source, window in known
    }
    return Reading(lines[-count:] if count else [], [], _kept({}, reached), len(reached))


def joined(before: Reading, after: Reading) -> Reading:
    """Give two answers to one reader, read one after the other, as one."""
    return Reading(
        [*before.lines, *after.lines], [*before.missed, *after.missed], after.place, after.answered
    )


def valid_place(value: object) -> dict[str, int] | None:
    """Give a place out of a cursor, or None where it is none."""
    if not isinstance(value, dict) or len(value) > MOST_PLACES + MOST_INSTANCES:
        return None
    if not all(
        isinstance(k, str) and isinstance(v, int) and not isinstance(v, bool) for k, v in value.items()
    ):
        return None
    return dict(value)


def _shown(source: Source, line: Line) -> dict[str, Any]:
    return {
        "instance": source.index,
        "id": source.instance,
        "n": line.n,
        "at": line.at,
        "stream": line.stream,
        "text": line.text,
    }


def _ordered(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """By time; lines of one instance never change places, whatever its clock did."""
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
