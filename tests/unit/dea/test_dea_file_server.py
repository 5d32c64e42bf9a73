"""What the file server shows of an instance, and how."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from components.dea.folders.file_server import human, listing, open_inside


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0B"),
        (12, "12B"),
        (1023, "1023B"),
        (1536, "1.5K"),
        (2 * 1024**2, "2.0M"),
        (5 * 1024**4, "5120.0G"),
    ],
)
def test_sizes_are_written_as_in_2011(size: int, text: str) -> None:
    assert human(size) == text


class TestFiles:
    """What may be read of an instance."""

    @pytest.fixture
    def instance(self, tmp_path: Path) -> Path:
        root = tmp_path / "i"
        (root / "app/sub").mkdir(parents=True)
        (root / "logs").mkdir()
        for name in ("startup", "run.pid", "app/x", "app/.hidden", "app/sub/stop"):
            (root / name).write_text(name)
        (root / "app/out").symlink_to("/etc/passwd")
        (root / "app/in").symlink_to("x")
        (tmp_path / "neighbour").write_text("n")
        return root

    @pytest.mark.parametrize("path", ["..", "app/../..", "app/out", "startup", "app/sub/stop", "app/\0"])
    def test_not_permitted(self, instance: Path, path: str) -> None:
        with pytest.raises(PermissionError):
            open_inside(instance, path)

    @pytest.mark.parametrize("path", ["run.pid", "nothing", "app/nothing"])
    def test_not_there(self, instance: Path, path: str) -> None:
        with pytest.raises(FileNotFoundError):
            open_inside(instance, path)

    @pytest.mark.parametrize("path", ["app/x", "//app//./x", "app/in"])
    def test_inside(self, instance: Path, path: str) -> None:
        handle, at_root = open_inside(instance, path)
        try:
            assert os.read(handle, 100) == b"app/x"
            assert not at_root
        finally:
            os.close(handle)

    def test_a_listing_shows_every_name_on_a_line_of_its_own(self, instance: Path) -> None:
        (instance / "app/sub" / os.fsdecode(b"caf\xe9.jpg")).touch()
        (instance / "app/sub" / "two\nlines").touch()
        handle, at_root = open_inside(instance, "app/sub")
        try:
            lines = listing(handle, at_root)
        finally:
            os.close(handle)
        assert [line.split()[0] for line in lines.encode().decode().splitlines()] == ["caf?.jpg", "two?lines"]

    def test_listings(self, instance: Path) -> None:
        for path, names in (("", ["app/", "logs/"]), ("app", ["in", "out", "sub/", "x"]), ("app/sub", [])):
            handle, at_root = open_inside(instance, path)
            try:
                assert [line.split()[0] for line in listing(handle, at_root).splitlines()] == names
            finally:
                os.close(handle)
