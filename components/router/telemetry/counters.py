"""A reader of nginx's counters: files of plain numbers that each worker and this module map (lua/endpoints.lua).

Numbers of a worker that ended, and of endpoints that are gone, are kept: totals only grow.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Generator, Iterator
from pathlib import Path

import msgspec

from components.common.digits import whole_number

_MAGIC, _PAGE, _NAME, _ROW = 20110413.0, 4096, 128, 128
_HEADER = struct.Struct("=6d")
_SUMS = struct.Struct("=24d")
_TOLD = struct.Struct("=2d")
_NUMBERS = struct.Struct("=4d23IB3x")
# Rows that are read before other coroutines get their turn.
SLICE = 2048
# Upper bounds of the latency histogram in milliseconds; one more bucket counts slower requests.
BOUNDS = (1, 2, 5, 10, 25, 50, 100, 250, 1000, 5000, 30000)
CLASSES = ("xxx", "1xx", "2xx", "3xx", "4xx", "5xx")


class Numbers(msgspec.Struct):
    """The counters of an endpoint, an application, or everything.

    Args:
        status: requests by class, as in `CLASSES`.
        buckets: requests by latency, one for each of `BOUNDS` and one for the rest; not cumulative.
    """

    status: list[float] = msgspec.field(default_factory=lambda: [0.0] * 6)
    buckets: list[float] = msgspec.field(default_factory=lambda: [0.0] * 12)
    latency_ms: float = 0
    bytes_in: float = 0
    bytes_out: float = 0
    retries: float = 0
    ejections: float = 0
    open: float = 0
    websockets: float = 0

    @property
    def requests(self) -> float:
        """Return the number of requests."""
        return sum(self.status)

    def add(self, other: Numbers, *, lasting: bool = False) -> None:
        """Add another's numbers; with `lasting` only totals, not open requests."""
        for i, value in enumerate(other.status):
            self.status[i] += value
        for i, value in enumerate(other.buckets):
            self.buckets[i] += value
        self.latency_ms += other.latency_ms
        self.bytes_in += other.bytes_in
        self.bytes_out += other.bytes_out
        self.retries += other.retries
        self.ejections += other.ejections
        if not lasting:
            self.open += other.open
            self.websockets += other.websockets


class RowName(msgspec.Struct, frozen=True):
    """The owner of a row's numbers."""

    app: str
    instance: str
    address: str
    port: int

    @property
    def peer(self) -> str:
        """Return the address and port as nginx writes them."""
        return f"{self.address}:{self.port}"


class WorkerFile:
    """One worker's file.

    Args:
        path: the file.

    Raises:
        OSError: it cannot be mapped.
        ValueError: it is not such a file, or not yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            self.inode = os.fstat(file.fileno()).st_ino
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        magic, pid, capacity, *_ = _HEADER.unpack_from(self._map)
        if magic != _MAGIC or len(self._map) < _PAGE + int(capacity) * (_NAME + _ROW):
            self._map.close()
            raise ValueError(f"{path} is no worker's file")
        self.pid = int(pid)
        self._rows = _PAGE + int(capacity) * _NAME
        self._names: dict[int, tuple[int, RowName]] = {}
        self._last: dict[int, Numbers] = {}

    def close(self) -> None:
        """Unmap the file."""
        self._map.close()

    @property
    def used(self) -> int:
        """Return the number of rows that were ever used, including row 0, which is no endpoint."""
        return int(_HEADER.unpack_from(self._map)[3])

    @property
    def alive(self) -> bool:
        """Return whether its worker runs."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True

    @property
    def current(self) -> bool:
        """Return whether the file is current: a later worker of the same process id may have replaced it."""
        try:
            return self.path.stat().st_ino == self.inode
        except FileNotFoundError:
            return False

    def extra(self) -> tuple[float, float]:
        """Return the numbers of bad requests and of those that a limit refused."""
        return _HEADER.unpack_from(self._map)[4:6]

    def told(self) -> tuple[float, float]:
        """Return the numbers of WebSockets told to go elsewhere, and of those that did not go and were ended."""
        told, ended = _TOLD.unpack_from(self._map, _HEADER.size + _SUMS.size)
        return told, ended

    def total(self) -> Numbers:
        """Return the sum of everything that this worker answered."""
        values = _SUMS.unpack_from(self._map, _HEADER.size)
        return Numbers(
            status=list(values[:6]),
            buckets=list(values[6:18]),
            latency_ms=values[18],
            bytes_in=values[19],
            bytes_out=values[20],
            retries=values[21],
            ejections=values[22],
            websockets=values[23],
        )

    def rows(self, gone: dict[str, Numbers]) -> Iterator[list[tuple[RowName, Numbers, bool]]]:
        """Yield every endpoint's numbers, a slice at a time, with whether it is still served.

        Args:
            gone: by application; the numbers of a row's former endpoints are added there.
        """
        for start in range(1, self.used, SLICE):
            yield [self._row(row, gone) for row in range(start, min(start + SLICE, self.used))]

    def _row(self, row: int, gone: dict[str, Numbers]) -> tuple[RowName, Numbers, bool]:
        numbers, generation, live = self._read(row)
        owner = self._names.get(row)
        if owner is None or owner[0] != generation:
            if owner is not None:
                # A row rests before its next use for longer than one round of reading, so these were its last
                # numbers.
                last = self._last.pop(row, None)
                if last is not None:
                    gone.setdefault(owner[1].app, Numbers()).add(last, lasting=True)
            owner = (generation, self._name(row))
            self._names[row] = owner
        if not live:
            self._last[row] = numbers
        return owner[1], numbers, live

    def _read(self, row: int) -> tuple[Numbers, int, bool]:
        values = _NUMBERS.unpack_from(self._map, self._rows + row * _ROW)
        numbers = Numbers(
            status=list(values[4:10]),
            buckets=list(values[14:26]),
            latency_ms=values[1],
            bytes_in=values[2],
            bytes_out=values[3],
            retries=values[11],
            ejections=values[13],
            open=values[10],
            websockets=values[26],
        )
        return numbers, values[12], bool(values[27])

    def _name(self, row: int) -> RowName:
        at = _PAGE + row * _NAME
        text = self._map[at : at + _NAME].partition(b"\0")[0].decode("utf-8", "replace")
        app, instance, address, port = [*text.split("\t"), "", "", "", "0"][:4]
        return RowName(app, instance, address, whole_number(port, 65535) or 0)


class CounterReading(msgspec.Struct):
    """One reading of all workers.

    Args:
        total: everything.
        bad_requests: for unknown hosts or none.
        limited: turned away by a limit.
        told: WebSockets that a drain told to go elsewhere.
        ended: WebSockets that did not go and were ended.
        apps: by application id; "0" is what is served without one.
        endpoints: by application id, then by address and port.
        instances: the instance id of each address and port.
    """

    total: Numbers = msgspec.field(default_factory=Numbers)
    bad_requests: float = 0
    limited: float = 0
    told: float = 0
    ended: float = 0
    apps: dict[str, Numbers] = msgspec.field(default_factory=dict)
    endpoints: dict[str, dict[str, Numbers]] = msgspec.field(default_factory=dict)
    instances: dict[str, str] = msgspec.field(default_factory=dict)


class Counters:
    """The counters of all workers of this machine's nginx.

    Args:
        folder: the folder of their files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._workers: dict[Path, WorkerFile] = {}
        self._gone: dict[str, Numbers] = {}
        self._before = CounterReading()
        self._being_read = False

    def rows(self) -> int:
        """Return the number of rows to read."""
        return sum(w.used for w in self._workers.values())

    def find(self) -> None:
        """Map the files of new workers; take over and remove those of ended workers, unless they are being read."""
        for path, worker in list(self._workers.items()) if not self._being_read else ():
            if not worker.alive or not worker.current:
                self._bury(worker)
                del self._workers[path]
        for path in self._folder.glob("worker.*.stats"):
            if path not in self._workers:
                try:
                    self._workers[path] = WorkerFile(path)
                except (OSError, ValueError):
                    # The file is not complete yet, or of another release: it is read again later.
                    continue

    def totals(self) -> CounterReading:
        """Return a reading of the sums only, which costs nothing."""
        before = self._before
        reading = CounterReading(
            bad_requests=before.bad_requests, limited=before.limited, told=before.told, ended=before.ended
        )
        reading.total.add(self._before.total, lasting=True)
        for worker in self._workers.values():
            self._sum(worker, reading)
        return reading

    def read(self) -> Generator[CounterReading | None]:
        """Read everything: yield None where other coroutines may run, and the reading at the end. One at a time."""
        self._being_read = True
        try:
            yield from self._read()
        finally:
            self._being_read = False

    def _read(self) -> Iterator[CounterReading | None]:
        reading = self.totals()
        for worker in list(self._workers.values()):
            for part in worker.rows(self._gone):
                for name, numbers, live in part:
                    reading.apps.setdefault(name.app, Numbers()).add(numbers)
                    if live:
                        mine = reading.endpoints.setdefault(name.app, {}).setdefault(name.peer, Numbers())
                        mine.add(numbers)
                        reading.instances[name.peer] = name.instance
                yield None
        for app, numbers in self._gone.items():
            reading.apps.setdefault(app, Numbers()).add(numbers, lasting=True)
        yield reading

    def _sum(self, worker: WorkerFile, reading: CounterReading, *, lasting: bool = False) -> None:
        reading.total.add(worker.total(), lasting=lasting)
        bad, limited = worker.extra()
        reading.bad_requests += bad
        reading.limited += limited
        told, ended = worker.told()
        reading.told += told
        reading.ended += ended

    def _bury(self, worker: WorkerFile) -> None:
        self._sum(worker, self._before, lasting=True)
        for part in worker.rows(self._gone):
            for name, numbers, _ in part:
                self._gone.setdefault(name.app, Numbers()).add(numbers, lasting=True)
        if worker.current:
            worker.path.unlink(missing_ok=True)
        worker.close()
