"""Which release a process says it is: the same checkout is built under several names."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from components.common.version import VERSION, release


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("INGOT_RELEASE", raising=False)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "venv"))
    return tmp_path


def test_the_unit_has_the_first_word(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "RELEASE.json").write_text('{"version": "2"}')
    monkeypatch.setenv("INGOT_RELEASE", "3")
    assert release() == "3"


def test_without_one_the_folder_of_the_release_has(folder: Path) -> None:
    (folder / "RELEASE.json").write_text('{"version": "2"}')
    assert release() == "2"


@pytest.mark.parametrize("content", [None, "{", "[]", "{}"])
def test_elsewhere_it_is_the_checkouts(folder: Path, content: str | None) -> None:
    if content is not None:
        (folder / "RELEASE.json").write_text(content)
    assert release() == VERSION
