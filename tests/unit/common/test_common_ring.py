"""The last lines of a component, and which of them answer a query."""

import json
import logging

from components.common import log
from components.common.bus.component_logs import LARGEST_REPLY, matching, meant
from components.common.bus.operation_messages import LogQuery


def ring_of(*lines, size=2000):
    ring = log.Ring(size)
    for at, level, text in lines:
        ring.keep(at, getattr(logging, level.upper()), text)
    return ring


SOME = [(1, "info", "a began"), (2, "warning", "b Odd"), (3, "error", "c failed"), (4, "info", "d went on")]


def test_only_the_last_lines_are_kept_and_long_ones_cut():
    ring = ring_of(*SOME, (5, "info", "x" * 20_000), size=3)
    assert [text[:8] for text in ring.lines()] == ["c failed", "d went o", "x" * 8]
    assert len(ring.lines()[-1]) == log.LONGEST_KEPT


def test_what_a_query_asks_for():
    ring = ring_of(*SOME)
    assert ring.lines(since=3) == ["c failed", "d went on"]
    assert ring.lines(limit=2) == ["c failed", "d went on"]
    assert ring.lines(level="warning") == ["b Odd", "c failed"]
    assert ring.lines(contains="oDD") == ["b Odd"]
    assert ring.lines(level="warning", limit=1) == ["c failed"]
    assert matching(ring, LogQuery(limit=-1)) == []
    assert len(matching(ring, LogQuery(limit=10**9))) == 4
    assert len(matching(ring, LogQuery(level="no such level"))) == 4


def test_a_reply_fits_the_bus():
    ring = ring_of(*((n, "info", '"' * 5000 + str(n)) for n in range(1000)))
    lines = matching(ring, LogQuery(limit=2000))
    assert 10 < len(lines) < 1000
    assert lines[-1].endswith("999")
    assert len(json.dumps(lines)) <= LARGEST_REPLY * 1.1


def test_who_is_meant():
    assert meant(LogQuery(), "dea", "dea1")
    assert meant(LogQuery(component="dea", host="dea1"), "dea", "dea1")
    assert not meant(LogQuery(component="router"), "dea", "dea1")
    assert not meant(LogQuery(host="dea2"), "dea", "dea1")
