"""The DEAs as their beats show them, and what this process has placed since (pure; times are handed in)."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import Any

import msgspec

from components.common.digits import whole_number
from components.common.messages import DeaBeat
from components.controller.pool.placement import Board, Candidate, Choose, Need

UP, EVACUATING, LOST = "up", "evacuating", "lost"
# A DEA is lost when it was silent for more than this many of its own intervals.
SILENT_INTERVALS = 4
REMEMBER_SECONDS = 3600.0
# A placement that no beat has shown by then did not happen.
PENDING_SECONDS = 5.0


@dataclass(slots=True)
class _Known:
    beat: DeaBeat
    # The beat's counts, by application.
    droplets: dict[int, int]
    # When it was heard: on this process's monotonic clock, and on the wall's, seconds since 1970.
    heard: float
    seen: float


@dataclass(frozen=True, slots=True)
class _Pending:
    """An instance sent to a DEA; over once the DEA's own count of the application reaches `expected`."""

    droplet: int
    memory: int
    disk: int
    at: float
    expected: int


class Pool:
    """Every DEA heard of. Safe to use from several threads."""

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}
        self._pending: dict[str, list[_Pending]] = {}
        # When a placement is over at the latest, and where it was: in the order in which they were made.
        self._due: deque[tuple[float, str]] = deque()
        self._board = Board()
        self._lock = threading.Lock()
        self._addresses: frozenset[str] = frozenset()
        # Silence counts only while one could have heard.
        self._listening_since: float | None = None

    def listening(self, now: float) -> None:
        """Note that the bus is there (again)."""
        with self._lock:
            self._listening_since = now

    def deaf(self) -> None:
        """Note that the bus is gone: nobody becomes lost for want of our own ears."""
        with self._lock:
            self._listening_since = None

    def observe(self, beat: DeaBeat, now: float, wall: float) -> None:
        """Take a beat."""
        with self._lock:
            before = self._known.get(beat.id)
            if before is not None and before.beat.droplets == beat.droplets:
                droplets = before.droplets
            else:
                numbers = ((whole_number(d), n) for d, n in beat.droplets.items())
                droplets = {d: n for d, n in numbers if d is not None}
            self._known[beat.id] = _Known(beat, droplets, now, wall)
            if beat.address not in self._addresses:
                self._note_addresses()
            self._pending[beat.id] = [
                p for p in self._pending.get(beat.id, []) if droplets.get(p.droplet, 0) < p.expected
            ]
            self._seat(beat.id, now)

    def state(self, id_: str, now: float) -> str | None:
        """Give `up`, `evacuating` or `lost`; None for one never heard by this process."""
        with self._lock:
            known = self._known.get(id_)
            return None if known is None else self._judge(known, now)

    def any_up(self, now: float) -> bool:
        """True when at least one DEA could take instances, were there room."""
        with self._lock:
            return any(self._judge(k, now) == UP for k in self._known.values())

    def reserve(self, need: Need, count: int, choose: Choose, now: float) -> list[str]:
        """Choose DEAs for `count` instances and remember it until their beats show them; shorter where room ends."""
        with self._lock:
            while self._due and now > self._due[0][0]:
                self._seat(self._due.popleft()[1], now)
            chosen: list[str] = []
            while len(chosen) < count:
                id_ = self._board.place(need, choose, lambda i: self._judge(self._known[i], now) == UP)
                if id_ is None:
                    break
                chosen.append(id_)
                expected = self._board.get(id_).droplets[need.droplet]
                self._pending.setdefault(id_, []).append(
                    _Pending(need.droplet, need.memory, need.disk, now, expected)
                )
                self._due.append((now + PENDING_SECONDS, id_))
            return chosen

    def forget_placements(self, droplet: int) -> None:
        """Drop what was remembered of an application: it was stopped."""
        with self._lock:
            for id_, pending in self._pending.items():
                left = [p for p in pending if p.droplet != droplet]
                if len(left) < len(pending):
                    self._pending[id_] = left
                    self._seat(id_, pending[-1].at)

    def beats(self) -> list[tuple[DeaBeat, float]]:
        """Give every DEA's last beat and when it was seen, seconds since 1970."""
        with self._lock:
            return [(k.beat, k.seen) for k in self._known.values()]

    def addresses(self) -> frozenset[str]:
        """Return the addresses that DEAs which are not forgotten gave of themselves."""
        return self._addresses

    def picture(self, now: float, wall: float) -> dict[str, dict[str, Any]]:
        """Give the machines of `/v2/machines` this process has heard, by id, and drop those that left long ago."""
        with self._lock:
            shown = {}
            for id_, known in list(self._known.items()):
                state = self._judge(known, now)
                if state == LOST and (wall - known.seen > REMEMBER_SECONDS or left(known.beat)):
                    del self._known[id_]
                    self._pending.pop(id_, None)
                    self._board.remove(id_)
                    self._note_addresses()
                    continue
                shown[id_] = describe(known.beat, known.seen, state)
            return shown

    def _note_addresses(self) -> None:
        self._addresses = frozenset(known.beat.address for known in self._known.values())

    def _judge(self, known: _Known, now: float) -> str:
        if self._listening_since is not None:
            silence = now - max(known.heard, self._listening_since)
            if silence > SILENT_INTERVALS * known.beat.interval:
                return LOST
        return EVACUATING if known.beat.evacuating or known.beat.stopping else UP

    def _seat(self, id_: str, now: float) -> None:
        """Put a DEA where its last beat, and what has been placed on it since, say that it belongs."""
        known = self._known.get(id_)
        if known is None:
            return
        beat, capacity = known.beat, known.beat.capacity
        pending = self._pending[id_] = [
            p for p in self._pending.get(id_, []) if now - p.at <= PENDING_SECONDS
        ]
        droplets = known.droplets
        if pending:
            droplets = dict(droplets)
            for p in pending:
                droplets[p.droplet] = max(droplets.get(p.droplet, 0), p.expected)
        candidate = Candidate(
            id=beat.id,
            zone=beat.zone,
            free_memory=capacity.memory - capacity.memory_reserved - sum(p.memory for p in pending),
            free_disk=capacity.disk - capacity.disk_reserved - sum(p.disk for p in pending)
            if capacity.disk
            else None,
            free_instances=capacity.max_instances - capacity.instances - len(pending),
            # Whether it is lost depends on when one asks.
            usable=not (beat.evacuating or beat.stopping),
            runtimes=frozenset(beat.runtimes),
            droplets=droplets,
        )
        self._board.put(candidate)


def left(beat: DeaBeat) -> bool:
    """True for the last word of one that went in order: it was leaving, and empty."""
    return (beat.evacuating or beat.stopping) and not any(beat.droplets.values())


def describe(beat: DeaBeat, seen: float, state: str) -> dict[str, Any]:
    """Give a machine as `/v2/machines` shows it."""
    return {
        "id": beat.id,
        "kind": "dea",
        "address": beat.address,
        "zone": beat.zone,
        "state": state,
        "last_seen": int(seen),
        "release": beat.release,
        "host": beat.host,
        "index": beat.index,
        "capacity": msgspec.to_builtins(beat.capacity),
        "droplets": dict(beat.droplets),
    }


def remembered(raw: dict[str, Any], last_seen: float, wall: float) -> dict[str, Any] | None:
    """Give a machine that only ccdb remembers: it is lost, unless it left in order or long ago (then None)."""
    try:
        beat = msgspec.convert(raw, DeaBeat)
    except msgspec.ValidationError:
        return None
    silence = wall - last_seen
    if silence > REMEMBER_SECONDS or left(beat):
        return None
    # Another controller writes every few seconds; what it has just written is not lost.
    fresh = silence <= SILENT_INTERVALS * beat.interval + 5
    state = (EVACUATING if beat.evacuating or beat.stopping else UP) if fresh else LOST
    return describe(beat, last_seen, state)
