"""Files of applications that are made to exhaust who reads them."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from components.stager.build import Build, BuildOrder
from components.stager.depcache import Kept
from components.stager.errors import StagingError
from components.stager.frameworks.node import read_package
from components.stager.frameworks.php import check_packages
from components.stager.frameworks.python import top_names
from components.stager.procfile import web_command
from components.stager.reading import content, json_of, text

DEEP = "[" * 100_000


def test_a_file_is_read_up_to_what_it_may_have(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"a" * 10)
    assert content(path, most=10) == b"a" * 10
    with pytest.raises(StagingError, match="detect failed: file is longer than 0 KB"):
        content(path, "detect", 9)
    path.write_bytes(b"\xff")
    assert text(path) == "�"
    with pytest.raises(FileNotFoundError):
        content(tmp_path / "never")


def test_a_long_procfile_is_refused(tmp_path: Path) -> None:
    (tmp_path / "Procfile").write_text("web: true\n" + "#" * 70_000)
    with pytest.raises(StagingError, match="Procfile is longer than 64 KB"):
        web_command(tmp_path)


def test_deep_and_long_json_is_refused_by_its_files_name(tmp_path: Path) -> None:
    for name in ("package.json", "composer.json"):
        read = read_package if name == "package.json" else check_packages
        (tmp_path / name).write_text(DEEP)
        with pytest.raises(StagingError, match=f"{name} is nested too deep"):
            read(tmp_path)
        (tmp_path / name).write_text(json.dumps("x" * 2_000_000))
        with pytest.raises(StagingError, match=f"{name} is longer than 1024 KB"):
            read(tmp_path)
        (tmp_path / name).write_text("{")
        with pytest.raises(StagingError, match=f"{name} is not JSON"):
            json_of(tmp_path / name)


def test_a_program_that_no_parser_can_read_has_no_names(tmp_path: Path) -> None:
    path = tmp_path / "wsgi.py"
    for program in ("x = " + "(" * 5000, "x = " + "-" * 100_000 + "1", "application = 1\0"):
        path.write_text(program)
        assert top_names(path) == set()


def test_a_build_says_what_is_wrong_with_what_is_too_deep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "package.zip"
    with zipfile.ZipFile(package, "w") as archive:
        archive.writestr("index.html", "x")

    def deep(*_: object) -> None:
        raise RecursionError

    monkeypatch.setattr("components.stager.build.choose", deep)
    build = Build(BuildOrder(str(package), str(tmp_path), str(tmp_path / "cache")))
    assert not build.run()
    assert build.result.reason.startswith("the application is nested too deep")


def test_what_is_too_much_is_not_kept_for_the_next_staging(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("components.stager.depcache._MOST_FILES", 3)
    folder = tmp_path / "packages"
    folder.mkdir()
    kept = Kept(None, "pip", tmp_path / "installed" / "pip-1.tar")  # type: ignore[arg-type]
    for number in range(4):
        (folder / str(number)).touch()
    kept.keep(folder)
    assert not kept.archive.exists()
    (folder / "0").unlink()
    kept.keep(folder)
    assert kept.archive.exists()
