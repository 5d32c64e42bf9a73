"""The reader of the workers' files, against files with the layout of `lua/endpoints.lua`."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import pytest

from components.router.telemetry.counters import (
    BOUNDS,
    CLASSES,
    CounterReading,
    Counters,
    Numbers,
    WorkerFile,
)
from tests.unit.router.lua_layout import bounds, constants, structure

CAPACITY = 8
HEADER, ROW, NAME = structure("ingot_header"), structure("ingot_row"), structure("ingot_name")
LUA = constants()


class File:
    """A worker's file, written as `lua/endpoints.lua` lays it out."""

    def __init__(self, folder: Path, pid: int) -> None:
        self.path = folder / f"worker.{pid}.stats"
        self.path.write_bytes(bytes(LUA["PAGE"] + CAPACITY * (LUA["NAME"] + LUA["ROW"])))
        self.header = HEADER(
            magic=LUA["MAGIC"], pid=pid, capacity=CAPACITY, used=1, bad_requests=3, limited=2,
            status=(0, 0, 9, 0, 1, 0), buckets=(10,), latency_ms=50, bytes_in=7, bytes_out=8, retries=2,
            ejections=1, websockets_told=6, websockets_ended=4,
        )  # fmt: skip
        self.put(0, bytes(self.header))

    def put(self, at: int, data: bytes) -> None:
        with self.path.open("r+b") as file:
            file.seek(at)
            file.write(data)

    def write(self, row: int, name: str, numbers: ctypes.Structure) -> None:
        self.header.used = CAPACITY
        self.put(0, bytes(self.header))
        self.put(LUA["PAGE"] + row * LUA["NAME"], bytes(NAME(text=name.encode())))
        self.put(LUA["PAGE"] + CAPACITY * LUA["NAME"] + row * LUA["ROW"], bytes(numbers))

    def row(
        self, row: int, name: str, *, ok: int, generation: int = 1, live: int = 1, opened: int = 0
    ) -> None:
        numbers = ROW(
            latency_ms=5 * ok, bytes_in=10, bytes_out=20, status=(0, 0, ok), open=opened, retries=1,
            generation=generation, ejections=1, buckets=(ok,), live=live,
        )  # fmt: skip
        self.write(row, name, numbers)


def everything(counters: Counters) -> CounterReading:
    counters.find()
    found = [v for v in counters.read() if v is not None]
    return found[-1]


def numbered(kind: type[ctypes.Structure], **members: object) -> ctypes.Structure:
    """A structure whose members differ from each other: 1, 2, … in the order of their declaration."""
    made, number = kind(), 0
    for name, *_ in kind._fields_:
        value = getattr(made, name)
        if isinstance(value, ctypes.Array):
            for i in range(len(value)):
                number += 1
                value[i] = number
        else:
            number += 1
            setattr(made, name, number)
    for name, member in members.items():
        setattr(made, name, member)
    return made


def of_c(numbers: ctypes.Structure, **members: float) -> Numbers:
    """The same numbers by the names that `Numbers` has."""
    names = set(Numbers.__struct_fields__) - {"status", "buckets"} - members.keys()
    return Numbers(
        status=list(numbers.status),
        buckets=list(numbers.buckets),
        **{name: getattr(numbers, name) for name in names},
        **members,
    )


def test_every_member_of_the_header_is_read_from_where_nginx_writes_it(tmp_path: Path) -> None:
    file = File(tmp_path, os.getpid())
    header = numbered(HEADER, magic=LUA["MAGIC"], pid=os.getpid(), capacity=CAPACITY)
    file.put(0, bytes(header))
    worker = WorkerFile(file.path)
    assert (worker.pid, worker.used) == (os.getpid(), header.used)
    assert worker.extra() == (header.bad_requests, header.limited)
    assert worker.told() == (header.websockets_told, header.websockets_ended)
    # The header has no sum of open requests.
    assert worker.total() == of_c(header, open=0)
    worker.close()


def test_every_member_of_a_row_is_read_from_where_nginx_writes_it(tmp_path: Path) -> None:
    file = File(tmp_path, os.getpid())
    numbers = numbered(ROW, live=1)
    longest = f"{'7' * 10}\t{'a' * 90}\t10.0.0.1\t61001"
    file.write(CAPACITY - 1, longest, numbers)
    worker = WorkerFile(file.path)
    ((*_, (name, read, live)),) = worker.rows({})
    assert (name.app, name.instance, name.peer) == ("7" * 10, "a" * 90, "10.0.0.1:61001")
    assert (read, live) == (of_c(numbers), True)
    assert worker._read(CAPACITY - 1)[1] == numbers.generation
    worker.close()


def test_a_row_and_a_name_fill_their_places_in_the_file() -> None:
    assert (ctypes.sizeof(ROW), ctypes.sizeof(NAME)) == (LUA["ROW"], LUA["NAME"])
    assert ctypes.sizeof(HEADER) <= LUA["PAGE"]


def test_the_bounds_and_the_classes_are_those_that_nginx_counts_by() -> None:
    assert bounds() == BOUNDS
    assert len(ROW().buckets) == len(HEADER().buckets) == len(BOUNDS) + 1
    assert len(ROW().status) == len(HEADER().status) == len(CLASSES)


def test_sums_applications_and_endpoints(tmp_path: Path) -> None:
    file = File(tmp_path, os.getpid())
    file.row(1, "7\tabc\t10.0.0.1\t61001", ok=4, opened=2)
    file.row(2, "7\tdef\t10.0.0.2\t61001", ok=1)
    reading = everything(Counters(tmp_path))
    assert (reading.total.requests, reading.bad_requests, reading.limited) == (10, 3, 2)
    assert (reading.told, reading.ended) == (6, 4)
    assert (reading.apps["7"].requests, reading.apps["7"].open, reading.apps["7"].bytes_out) == (5, 2, 40)
    assert reading.endpoints["7"]["10.0.0.1:61001"].status[2] == 4
    assert reading.instances["10.0.0.2:61001"] == "def"


def test_a_row_used_again_takes_nothing_from_its_old_application(tmp_path: Path) -> None:
    file = File(tmp_path, os.getpid())
    file.row(1, "7\tabc\t10.0.0.1\t61001", ok=4)
    counters = Counters(tmp_path)
    everything(counters)
    file.row(1, "7\tabc\t10.0.0.1\t61001", ok=6, live=0)
    assert everything(counters).apps["7"].requests == 6
    assert "7" not in everything(counters).endpoints
    file.row(1, "8\txyz\t10.0.0.9\t61005", ok=1, generation=2)
    reading = everything(counters)
    assert (reading.apps["7"].requests, reading.apps["8"].requests) == (6, 1)


def test_what_an_ended_worker_counted_is_kept(tmp_path: Path) -> None:
    # No process has this id: the kernel's own limit is lower.
    file = File(tmp_path, 4194305)
    file.row(1, "7\tabc\t10.0.0.1\t61001", ok=4, opened=3)
    counters = Counters(tmp_path)
    everything(counters)
    reading = everything(counters)
    assert not file.path.exists()
    assert (reading.total.requests, reading.bad_requests, reading.told) == (10, 3, 6)
    assert (reading.apps["7"].requests, reading.apps["7"].open) == (4, 0)
    assert "7" not in reading.endpoints


def test_a_worker_that_ends_while_it_is_read_is_counted_once(tmp_path: Path) -> None:
    for pid in (4194305, 4194306):
        File(tmp_path, pid).row(1, "7\tabc\t10.0.0.1\t61001", ok=4)
    counters = Counters(tmp_path)
    counters.find()
    parts = counters.read()
    next(parts)
    # Another's look for new workers, between two slices.
    counters.find()
    (reading,) = [v for v in parts if v is not None]
    assert (reading.apps["7"].requests, reading.total.requests) == (8, 20)
    reading = everything(counters)
    assert (reading.apps["7"].requests, reading.total.requests) == (8, 20)
    assert not list(tmp_path.iterdir())


def test_files_of_something_else_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "worker.1.stats").write_bytes(b"")
    (tmp_path / "worker.2.stats").write_bytes(bytes(5000))
    assert everything(Counters(tmp_path)).total.requests == 0
    with pytest.raises(ValueError, match="no worker's file"):
        WorkerFile(tmp_path / "worker.2.stats")
