"""Unpacking a droplet without trusting it."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import tracemalloc
from pathlib import Path

import pytest

from components.dea.errors import DropletError
from components.dea.folders.unpack import unpack

Entry = tuple[str, str, bytes]


def pack(path: Path, *entries: Entry) -> Path:
    """Pack entries of (kind, name, content or link)."""
    kinds = {
        "file": tarfile.REGTYPE,
        "dir": tarfile.DIRTYPE,
        "link": tarfile.SYMTYPE,
        "hard": tarfile.LNKTYPE,
        "fifo": tarfile.FIFOTYPE,
        "device": tarfile.CHRTYPE,
    }
    with tarfile.open(path, "w:gz") as tar:
        for kind, name, content in entries:
            info = tarfile.TarInfo(name)
            info.type, info.mode = kinds[kind], 0o6777
            if kind == "file":
                info.size = len(content)
            else:
                info.linkname = content.decode()
            tar.addfile(info, io.BytesIO(content) if kind == "file" else None)
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "target").mkdir()
    return tmp_path / "target"


def test_a_good_one_arrives_whole_and_without_special_bits(tmp_path: Path, target: Path) -> None:
    archive = pack(
        tmp_path / "d.tgz",
        ("dir", "./", b""),
        ("file", "./app/deep/x", b"hello"),
        ("link", "app/current", b"deep"),
        ("hard", "app/same", b"app/deep/x"),
        ("link", "app/bin/python3", b"/usr/bin/python3"),
        ("file", "startup", b"#!/bin/bash\n"),
    )
    unpack(archive, target, 10)
    assert (target / "app/current/x").read_bytes() == b"hello"
    assert (target / "app/same").read_bytes() == b"hello"
    assert (target / "startup").stat().st_mode & 0o7777 == 0o755


def test_what_comes_twice_is_replaced(tmp_path: Path, target: Path) -> None:
    unpack(pack(tmp_path / "d.tgz", ("file", "x", b"1"), ("file", "x", b"2")), target, 10)
    assert (target / "x").read_bytes() == b"2"


@pytest.mark.parametrize(
    "entries",
    [
        [("file", "/etc/evil", b"x")],
        [("file", "../evil", b"x")],
        [("file", "a/../../evil", b"x")],
        [("link", "out", b"/etc")],
        [("link", "out", b"../..")],
        [("link", "out", b".."), ("file", "out/evil", b"x")],
        [("link", "a", b"."), ("link", "b", b"a/..")],
        [("link", "a", b"."), ("link", "b", b"a/.."), ("file", "b/evil", b"x")],
        [("link", "etc", b"/usr/../etc")],
        [("link", "u", b"/usr"), ("file", "u/evil", b"x")],
        [("hard", "x", b"/etc/passwd")],
        [("hard", "x", b"../../etc/passwd")],
        [("link", "p", b"/usr/bin/env"), ("hard", "x", b"p")],
        [("fifo", "x", b"")],
        [("device", "x", b"")],
        [("dir", "x", b""), ("file", "x", b"1")],
    ],
    ids=str,
)
def test_what_leads_out_is_refused(tmp_path: Path, target: Path, entries: list[Entry]) -> None:
    with pytest.raises(DropletError):
        unpack(pack(tmp_path / "d.tgz", *entries), target, 10)
    assert not (tmp_path / "evil").exists()
    assert not Path("/usr/evil").exists()


def test_a_file_under_a_link_name_replaces_the_link(tmp_path: Path, target: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("mine")
    archive = pack(tmp_path / "d.tgz", ("link", "x", str(outside).encode()), ("file", "x", b"theirs"))
    unpack(archive, target, 10)
    assert outside.read_text() == "mine"


def test_more_than_its_disk_is_refused(tmp_path: Path, target: Path) -> None:
    archive = pack(tmp_path / "d.tgz", ("file", "x", bytes(2 * 1024 * 1024)))
    with pytest.raises(DropletError, match="more disk"):
        unpack(archive, target, 1)


def test_damage_is_a_droplet_error(tmp_path: Path, target: Path) -> None:
    archive = pack(tmp_path / "d.tgz", ("file", "x", os.urandom(100_000)))
    archive.write_bytes(archive.read_bytes()[:50_000])
    with pytest.raises(DropletError, match="damaged"):
        unpack(archive, target, 10)
    archive.write_bytes(b"PK")
    with pytest.raises(DropletError, match="damaged"):
        unpack(archive, target, 10)


def header(kind: bytes, size: int, name: str = "x") -> bytes:
    """Make a header that says it has so many bytes behind it."""
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


def raw(path: Path, *parts: bytes | int) -> Path:
    """Pack blocks as they are; a number stands for so many bytes of a long name."""
    with gzip.open(path, "wb", compresslevel=1) as packed:
        for part in parts:
            packed.write(part if isinstance(part, bytes) else b"x" * part)
    return path


@pytest.mark.parametrize(
    "kind",
    [
        tarfile.GNUTYPE_LONGNAME,
        tarfile.GNUTYPE_LONGLINK,
        tarfile.XHDTYPE,
        tarfile.XGLTYPE,
        tarfile.SOLARIS_XHDTYPE,
    ],
)
def test_a_header_costs_no_more_memory_than_a_path(tmp_path: Path, target: Path, kind: bytes) -> None:
    """Finding 16: 0.3 MB of archive took 300 MB."""
    archive = raw(tmp_path / "d.tgz", header(kind, 64 << 20), 64 << 20, header(tarfile.REGTYPE, 0))
    assert archive.stat().st_size < 400_000
    tracemalloc.start()
    try:
        with pytest.raises(DropletError, match="headers longer than any path"):
            unpack(archive, target, 2)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_headers_come_in_no_endless_row(tmp_path: Path, target: Path) -> None:
    long_name = header(tarfile.GNUTYPE_LONGNAME, 512) + b"x" * 512
    with pytest.raises(DropletError, match="headers longer than any path"):
        unpack(raw(tmp_path / "d.tgz", long_name * 5000), target, 2)


def test_all_pax_headers_together_are_bounded(tmp_path: Path, target: Path) -> None:
    one = header(tarfile.XHDTYPE, 15 * 1024) + b"\0" * (15 * 1024) + header(tarfile.REGTYPE, 0)
    with pytest.raises(DropletError):
        unpack(raw(tmp_path / "d.tgz", one * 5000), target, 2)


@pytest.mark.parametrize(
    "text", [b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n", b"23 GNU.sparse.map=0,10\n"]
)
def test_sparse_files_are_refused(tmp_path: Path, target: Path, text: bytes) -> None:
    block = text.ljust(512, b"\0")
    archive = raw(
        tmp_path / "d.tgz",
        header(tarfile.XHDTYPE, len(text)) + block + header(tarfile.REGTYPE, 512) + b"1\n" * 256,
    )
    with pytest.raises(DropletError, match="sparse"):
        unpack(archive, target, 2)
    with pytest.raises(DropletError, match="sparse"):
        unpack(raw(tmp_path / "e.tgz", header(tarfile.GNUTYPE_SPARSE, 512), 512), target, 2)


def test_a_size_below_nothing_gives_no_room(tmp_path: Path, target: Path) -> None:
    text = b"17 size=-1000000\n"
    archive = raw(
        tmp_path / "d.tgz",
        header(tarfile.XHDTYPE, len(text)) + text.ljust(512, b"\0") + header(tarfile.REGTYPE, 0),
    )
    with pytest.raises(DropletError, match="damaged"):
        unpack(archive, target, 2)


def test_folders_that_no_entry_names_count(
    tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("components.dea.folders.unpack._MOST_ENTRIES", 100)
    with pytest.raises(DropletError, match="more than 100 files and folders"):
        unpack(pack(tmp_path / "d.tgz", ("file", "a/" * 200 + "x", b""), ("file", "y", b"")), target, 2)
    monkeypatch.setattr("components.dea.folders.unpack._MOST_STEPS", 100)
    with pytest.raises(DropletError, match="too deep"):
        unpack(pack(tmp_path / "e.tgz", ("file", "b/" * 200 + "x", b"")), target, 2)


def test_a_name_that_no_file_can_have_is_a_droplet_error(tmp_path: Path, target: Path) -> None:
    with pytest.raises(DropletError):
        unpack(pack(tmp_path / "d.tgz", ("file", "n" * 5000, b"")), target, 2)
    text = b"12 path=a\0b\n"
    archive = raw(
        tmp_path / "e.tgz",
        header(tarfile.XHDTYPE, len(text)) + text.ljust(512, b"\0") + header(tarfile.REGTYPE, 0),
    )
    with pytest.raises(DropletError):
        unpack(archive, target, 2)
