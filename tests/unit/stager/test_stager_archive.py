"""Unpacking with suspicion, packing the same every time."""

from __future__ import annotations

import os
import stat
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.stager.archive import MTIME, ArchiveLimits, check_name, pack, unpack
from components.stager.errors import StagingError
from tests.small_disk import small_disk
from tests.trees_sample import dig


def make_zip(path: Path, *entries: tuple[str, bytes, int]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content, mode in entries:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, content)
    return path


def refused(tmp_path: Path, *entries: tuple[str, bytes, int], limits: ArchiveLimits | None = None) -> str:
    target = tmp_path / "out"
    target.mkdir()
    with pytest.raises(StagingError) as error:
        unpack(make_zip(tmp_path / "a.zip", *entries), target, limits or ArchiveLimits())
    assert error.value.stage == "unpack"
    return str(error.value)


def test_an_application_is_unpacked_with_its_executable_bits(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    package = make_zip(
        tmp_path / "a.zip",
        ("empty/", b"", stat.S_IFDIR | 0o755),
        ("bin/run", b"#!/bin/sh\n", stat.S_IFREG | 0o700),
        ("app.py", b"x", stat.S_IFREG | 0o666),
        ("no_mode", b"y", 0),
    )
    assert unpack(package, target, ArchiveLimits()) == 3
    assert (target / "empty").is_dir()
    assert stat.S_IMODE((target / "bin/run").stat().st_mode) == 0o755
    assert stat.S_IMODE((target / "app.py").stat().st_mode) == 0o644
    assert (target / "no_mode").read_bytes() == b"y"


@pytest.mark.parametrize(
    ("name", "mode", "says"),
    [
        ("../evil", stat.S_IFREG, "leads out"),
        ("a/../../evil", stat.S_IFREG, "leads out"),
        ("/etc/passwd", stat.S_IFREG, "leads out"),
        ("pipe", stat.S_IFIFO, "a device, a pipe"),
        ("disk", stat.S_IFBLK, "a device, a pipe"),
        ("x" * 2000, stat.S_IFREG, "too long"),
    ],
)
def test_what_could_do_harm_is_refused(tmp_path: Path, name: str, mode: int, says: str) -> None:
    assert says in refused(tmp_path, (name, b"content", mode))
    assert not (tmp_path / "evil").exists()
    assert list((tmp_path / "out").iterdir()) == []


LINK = stat.S_IFLNK | 0o777


def test_links_and_names_stay_as_they_are(tmp_path: Path) -> None:
    names = ("a:b", "c\\d", "line\nbreak", ".npmrc", ".next/id")
    package = make_zip(
        tmp_path / "a.zip",
        ("bin/tool", b"../lib/tool.js", LINK),
        ("lib/tool.js", b"x", 0),
        ("site", b"lib", LINK),
        ("later", b"made-by-the-build", LINK),
        *((name, b"y", 0) for name in names),
    )
    target = tmp_path / "out"
    target.mkdir()
    assert unpack(package, target, ArchiveLimits()) == 4 + len(names)
    assert (target / "bin/tool").readlink() == Path("../lib/tool.js")
    assert (target / "site/tool.js").read_bytes() == b"x"
    assert (target / "later").is_symlink()
    assert all((target / name).read_bytes() == b"y" for name in names)


@pytest.mark.parametrize(
    "links",
    [
        {"a": b".."},
        {"a": b"/etc/passwd"},
        {"a": b"b", "b": b"a"},
        {"d/up": b"..", "e": b"d/up/.."},
        {"a": b"x" * 2000},
        {"a": b""},
        {"a": b"b\0c"},
        {"a": b"../out/b"},
    ],
)
def test_links_that_lead_out_are_refused(tmp_path: Path, links: dict[str, bytes]) -> None:
    assert "link" in refused(tmp_path, *((name, to, LINK) for name, to in links.items()))


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    assert "cannot write" in refused(tmp_path, ("l", b"sub", LINK), ("sub/x", b"1", 0), ("l/x", b"2", 0))


def test_a_bomb_is_refused_by_what_comes_out(tmp_path: Path) -> None:
    says = refused(tmp_path, ("zeros", bytes(3 * 1024 * 1024), 0), limits=ArchiveLimits(unpacked_mb=2))
    assert "more than is allowed" in says


def test_a_bomb_that_lies_about_its_size_is_refused_too(tmp_path: Path) -> None:
    package = make_zip(tmp_path / "a.zip", ("zeros", bytes(3 * 1024 * 1024), 0))
    raw = bytearray(package.read_bytes())
    size = struct.pack("<I", 3 * 1024 * 1024)
    package.write_bytes(bytes(raw.replace(size, struct.pack("<I", 10))))
    target = tmp_path / "out"
    target.mkdir()
    with pytest.raises(StagingError):
        unpack(package, target, ArchiveLimits(unpacked_mb=2))


def test_too_many_files_are_refused(tmp_path: Path) -> None:
    entries = [(f"f{i}", b"", 0) for i in range(4)]
    assert "4 files, more than 3" in refused(tmp_path, *entries, limits=ArchiveLimits(files=3))


def test_a_name_that_comes_twice_is_refused(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate"):
        says = refused(tmp_path, ("a", b"1", 0), ("a", b"2", 0))
    assert "twice" in says


def test_a_file_that_is_also_a_folder_is_refused(tmp_path: Path) -> None:
    assert "cannot write" in refused(tmp_path, ("a", b"1", 0), ("a/b", b"2", 0))


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 but no more"])
def test_what_is_no_zip_is_refused(tmp_path: Path, content: bytes) -> None:
    package = tmp_path / "a.zip"
    package.write_bytes(content)
    with pytest.raises(StagingError, match="not a sound zip"):
        unpack(package, tmp_path, ArchiveLimits())


def test_a_damaged_zip_is_refused(tmp_path: Path) -> None:
    package = make_zip(tmp_path / "a.zip", ("a", os.urandom(5000), 0))
    raw = bytearray(package.read_bytes())
    raw[1000] ^= 0xFF
    package.write_bytes(raw)
    (tmp_path / "out").mkdir()
    with pytest.raises(StagingError, match="not a sound zip"):
        unpack(package, tmp_path / "out", ArchiveLimits())


@given(st.text())
def test_no_accepted_name_leaves_the_folder(name: str) -> None:
    try:
        path = check_name(name)
    except StagingError:
        return
    assert Path(os.path.normpath(Path("/box") / path)).is_relative_to("/box")


def tree(root: Path) -> Path:
    (root / "app" / "b").mkdir(parents=True)
    (root / "app" / "a.txt").write_text("a")
    (root / "app" / "b" / "run").write_text("#!/bin/sh\n")
    (root / "app" / "b" / "run").chmod(0o700)
    (root / "app" / "link").symlink_to("b/run")
    (root / "startup").write_text("#!/bin/bash\n")
    return root


def test_the_same_tree_gives_the_same_bytes(tmp_path: Path) -> None:
    one, two = tree(tmp_path / "one"), tree(tmp_path / "two")
    os.utime(two / "app" / "a.txt", (1, 1))
    (two / "app" / "a.txt").chmod(0o600)
    os.link(one / "app" / "a.txt", tmp_path / "second_name")
    for root in (one, two):
        pack(root, tmp_path / f"{root.name}.tgz", ArchiveLimits())
    assert (tmp_path / "one.tgz").read_bytes() == (tmp_path / "two.tgz").read_bytes()


def test_a_droplet_has_plain_owners_dates_and_modes(tmp_path: Path) -> None:
    root = tree(tmp_path / "one")
    size = pack(root, tmp_path / "d.tgz", ArchiveLimits())
    assert size == (tmp_path / "d.tgz").stat().st_size
    with tarfile.open(tmp_path / "d.tgz") as archive:
        entries = {e.name: e for e in archive}
    assert list(entries) == ["app", "app/a.txt", "app/b", "app/b/run", "app/link", "startup"]
    assert {(e.uid, e.gid, e.mtime, e.uname) for e in entries.values()} == {(0, 0, MTIME, "")}
    assert (entries["app/a.txt"].mode, entries["app/b/run"].mode, entries["startup"].mode) == (
        0o644,
        0o755,
        0o500,
    )
    assert entries["app/link"].linkname == "b/run"


@pytest.mark.parametrize("link", ["/etc/shadow", "../../outside", "../startup"])
def test_a_link_out_of_the_application_is_refused(tmp_path: Path, link: str) -> None:
    root = tree(tmp_path / "one")
    (root / "app" / "bad").symlink_to(link)
    with pytest.raises(StagingError, match="outside the application"):
        pack(root, tmp_path / "d.tgz", ArchiveLimits())


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    root = tree(tmp_path / "one")
    os.mkfifo(root / "app" / "pipe")
    with pytest.raises(StagingError, match="pipe"):
        pack(root, tmp_path / "d.tgz", ArchiveLimits())


def test_a_droplet_too_large_is_refused(tmp_path: Path) -> None:
    root = tree(tmp_path / "one")
    (root / "app" / "large").write_bytes(os.urandom(2 * 1024 * 1024))
    with pytest.raises(StagingError, match="larger than 1 MB"):
        pack(root, tmp_path / "d.tgz", ArchiveLimits(droplet_mb=1))


def test_folders_too_deep_for_a_dea_are_refused(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "app").mkdir(parents=True)
    with small_disk(tmp_path / "disk") as disk:
        (disk / "app").mkdir()
        dig(disk / "app", 1800)
        with pytest.raises(StagingError, match="nested too deep"):
            pack(disk, tmp_path / "droplet.tgz", ArchiveLimits())
