"""Unpacking a droplet without trusting it."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from components.dea.errors import DropletError
from components.dea.unpack import unpack

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
