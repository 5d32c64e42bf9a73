"""Files that a guest may have swapped for something else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from components.common.filesystem.plain_files import open_folder, open_plain


def made(folder: Path, kind: str) -> Path:
    """Return the path of a thing of this kind in a folder."""
    secret, path = folder / "secret", folder / "path"
    secret.write_text("s")
    if kind == "link":
        path.symlink_to(secret)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "hard":
        os.link(secret, path)
    elif kind == "folder":
        path.mkdir()
    return path


@pytest.mark.parametrize("kind", ["link", "pipe", "hard", "folder", "nothing"])
@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_RDWR, os.O_WRONLY | os.O_APPEND])
def test_only_a_plain_file_with_one_name_is_opened(tmp_path: Path, kind: str, flags: int) -> None:
    path = made(tmp_path, kind)
    with pytest.raises(OSError):
        open_plain(path, flags)


def test_a_refused_file_is_closed(tmp_path: Path) -> None:
    path, tries = made(tmp_path, "hard"), 100
    before = sum(1 for _ in Path("/proc/self/fd").iterdir())
    for _ in range(tries):
        with pytest.raises(OSError):
            open_plain(path)
    # Other threads of the suite may open some.
    assert sum(1 for _ in Path("/proc/self/fd").iterdir()) < before + tries // 2


def test_a_second_name_is_no_harm_where_the_caller_says_so(tmp_path: Path) -> None:
    with os.fdopen(open_plain(made(tmp_path, "hard"), only_name=False)) as file:
        assert file.read() == "s"


def test_a_file_is_made_for_its_owner_alone_below_an_open_folder(tmp_path: Path) -> None:
    folder = open_folder(tmp_path)
    try:
        os.close(open_plain("new", os.O_WRONLY | os.O_CREAT, above=folder))
    finally:
        os.close(folder)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o600


def test_a_link_to_a_folder_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(OSError):
        open_folder(tmp_path / "link")
