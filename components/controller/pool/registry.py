"""The DEAs by their beats, and this process's placements since (pure; times are arguments)."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import Any

import msgspec

from components.common.bus.messages import DeaBeat
from components.common.digits import whole_number
from components.controller.pool.placement import Board, Candidate, Choose, Need

UP, EVACUATING, LOST = "up", "evacuating", "lost"
# A DEA is lost after a silence of more than this many of its own intervals.
SILENT_INTERVALS = 4
REMEMBER_SECONDS = 3600.0
# A placement that no beat has shown after this time did not happen.
PENDING_SECONDS = 5.0


@dataclass(slots=True)
class _Known:
    beat: DeaBeat
    # The beat's counts, by application.
    droplets: dict[int, int]
    # The time of the beat: by this process's monotonic clock, and by the wall clock, seconds since 1970.
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
    """Every DEA with a beat. Safe to use from several threads."""

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}
        self._pending: dict[str, list[_Pending]] = {}
        # The latest end of each placement, and its DEA, in the order of placement.
        self._due: deque[tuple[float, str]] = deque()
        self._board = Board()
        self._lock = threading.Lock()
        self._addresses: frozenset[str] = frozenset()
        # Silence counts only while this process is connected to the bus.
        self._listening_since: float | None = None

    def listening(self, now: float) -> None:
        """Note that the bus is connected (again)."""
        with self._lock:
            self._listening_since = now

    def deaf(self) -> None:
        """Note that the bus is gone: no DEA becomes lost while this process receives nothing."""
        with self._lock:
            self._listening_since = None

    def observe(self, beat: DeaBeat, now: float, wall: float) -> None:
        """Store a beat."""
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
        """Return `up`, `evacuating` or `lost`; None for a DEA without a beat in this process."""
        with self._lock:
            known = self._known.get(id_)
            return None if known is None else self._judge(known, now)

    def any_up(self, now: float) -> bool:
        """Return whether at least one DEA is up, with or without room."""
        with self._lock:
            return any(self._judge(k, now) == UP for k in self._known.values())

    def reserve(self, need: Need, count: int, choose: Choose, now: float) -> list[str]:
        """Return DEAs for `count` instances, and count them until beats show them; shorter where the room ends."""
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
        """Drop the placements of an application, which was stopped."""
        with self._lock:
            for id_, pending in self._pending.items():
                left = [p for p in pending if p.droplet != droplet]
                if len(left) < len(pending):
                    self._pending[id_] = left
                    self._seat(id_, pending[-1].at)

    def beats(self) -> list[tuple[DeaBeat, float]]:
        """Return every DEA's last beat and its time, seconds since 1970."""
        with self._lock:
            return [(k.beat, k.seen) for k in self._known.values()]

    def addresses(self) -> frozenset[str]:
        """Return the addresses in the beats of all known DEAs."""
        return self._addresses

    def picture(self, now: float, wall: float) -> dict[str, dict[str, Any]]:
        """Return the machines of `/v2/machines` by this process's beats, by id, and drop those that left long ago."""
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
                shown[id_] = to_json(known.beat, known.seen, state)
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
        """Order a DEA on the board by its last beat and the placements on it since."""
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
            # The loss of a DEA depends on the time, so the board does not store it.
            usable=not (beat.evacuating or beat.stopping),
            runtimes=frozenset(beat.runtimes),
            droplets=droplets,
        )
        self._board.put(candidate)


def left(beat: DeaBeat) -> bool:
    """Return whether a beat is the last of an orderly departure: the DEA was leaving, and empty."""
    return (beat.evacuating or beat.stopping) and not any(beat.droplets.values())


def to_json(beat: DeaBeat, seen: float, state: str) -> dict[str, Any]:
    """Return a machine's JSON for `/v2/machines`."""
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
    """Return a machine that only ccdb knows: it is lost, unless it left in order or long ago (then None)."""
    try:
        beat = msgspec.convert(raw, DeaBeat)
    except msgspec.ValidationError:
        return None
    silence = wall - last_seen
    if silence > REMEMBER_SECONDS or left(beat):
        return None
    # Another controller writes every few seconds; a machine in a fresh row is not lost.
    fresh = silence <= SILENT_INTERVALS * beat.interval + 5
    state = (EVACUATING if beat.evacuating or beat.stopping else UP) if fresh else LOST
    return to_json(beat, last_seen, state)
