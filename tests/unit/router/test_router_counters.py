"""The layout of a worker's file, written here as lua/endpoints.lua writes it."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from components.router.telemetry.counters import Counters, Reading, WorkerFile

CAPACITY = 8


class File:
    """A worker's file under a test's hands."""

    def __init__(self, folder: Path, pid: int) -> None:
        self.path = folder / f"worker.{pid}.stats"
        self.path.write_bytes(bytes(4096 + CAPACITY * 256))
        self.put(0, struct.pack("=6d", 20110413, pid, CAPACITY, 1, 3, 2))
        self.put(48, struct.pack("=24d", 0, 0, 9, 0, 1, 0, *[10] + [0] * 11, 50, 7, 8, 2, 1, 0))
        self.put(240, struct.pack("=2d", 6, 4))

    def put(self, at: int, data: bytes) -> None:
        with self.path.open("r+b") as file:
            file.seek(at)
            file.write(data)

    def row(
        self, row: int, name: str, *, ok: int, generation: int = 1, live: int = 1, opened: int = 0
    ) -> None:
        self.put(24, struct.pack("=d", CAPACITY))
        self.put(4096 + row * 128, name.encode() + b"\0")
        numbers = struct.pack(
            "=4d23IB3x",
            *(0, 5.0 * ok, 10.0, 20.0),
            *(0, 0, ok, 0, 0, 0),
            *(opened, 1, generation, 1),
            *([ok] + [0] * 11),
            *(0, live),
        )
        self.put(4096 + CAPACITY * 128 + row * 128, numbers)


def everything(counters: Counters) -> Reading:
    counters.find()
    found = [v for v in counters.read() if v is not None]
    return found[-1]


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
