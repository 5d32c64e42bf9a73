"""Files that are replaced as a whole."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from components.common.filesystem.files import PUBLIC, write_atomically


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_a_file_is_written_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write_atomically(path, b"old")
    write_atomically(path, "neu: \u00e4", durable=True)
    assert path.read_text(encoding="utf-8") == "neu: \u00e4"
    assert names(tmp_path) == ["state.json"]


@pytest.mark.parametrize("mode", [0o600, PUBLIC, 0o755])
def test_the_mode_is_exact_whatever_the_umask_is(tmp_path: Path, mode: int) -> None:
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "f", b"", mode=mode)
    finally:
        os.umask(before)
    assert (tmp_path / "f").stat().st_mode & 0o7777 == mode


def test_a_failed_write_leaves_the_old_content_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "f"
    write_atomically(path, b"old")

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"new", durable=True)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["f"]


def test_a_link_in_the_place_of_a_file_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("untouched")
    (tmp_path / "f").symlink_to("elsewhere")
    write_atomically(tmp_path / "f", b"new")
    assert not (tmp_path / "f").is_symlink()
    assert (tmp_path / "elsewhere").read_text() == "untouched"


def test_a_leftover_of_a_killed_writer_of_the_same_number_is_replaced(tmp_path: Path) -> None:
    leftover = tmp_path / f".f.{os.getpid()}-{threading.get_native_id()}.new"
    leftover.symlink_to("elsewhere")
    write_atomically(tmp_path / "f", b"new")
    assert names(tmp_path) == ["f"]


def test_readers_never_see_a_part_while_several_write(tmp_path: Path) -> None:
    path = tmp_path / "f"
    contents = [bytes([65 + n]) * 50_000 for n in range(4)]
    write_atomically(path, contents[0])

    def write(content: bytes) -> None:
        for _ in range(50):
            write_atomically(path, content)

    writers = [threading.Thread(target=write, args=(content,)) for content in contents]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert path.read_bytes() in contents
    assert names(tmp_path) == ["f"]
