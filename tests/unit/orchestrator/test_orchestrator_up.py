"""Which release a second `make up` installs, and whose plays do it."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.common.version import VERSION
from orchestrator.control import up
from orchestrator.inventory import release_record


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(up, "BUILD", tmp_path / "build")
    return tmp_path / "build"


def record(folder: Path, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / release_record.RELEASE).write_text(f"all: {{vars: {{{text}}}}}\n")


def test_a_new_lab_gets_this_checkout_s(build: Path, tmp_path: Path) -> None:
    assert up.settled_release(tmp_path) == (VERSION, up.ROOT)
    assert release_record.recorded_release(tmp_path) == VERSION


def test_what_was_rolled_stays_and_is_converged_by_its_own_plays(build: Path, tmp_path: Path) -> None:
    plays = build / "releases" / "next" / "plays"
    plays.mkdir(parents=True)
    record(tmp_path, f"ingot_release: next, ingot_release_previous: {VERSION}")
    assert up.settled_release(tmp_path) == ("next", plays)
    assert release_record.recorded_release(tmp_path) == "next"


@pytest.mark.parametrize("more", ["", ", ingot_release_previous: older"])
def test_what_an_older_checkout_installed_or_is_not_here_gives_way(
    build: Path, tmp_path: Path, more: str
) -> None:
    record(tmp_path, f"ingot_release: old{more}")
    if not more:
        (build / "releases" / "old" / "plays").mkdir(parents=True)
    assert up.settled_release(tmp_path) == (VERSION, up.ROOT)
    assert release_record.recorded_release(tmp_path) == VERSION
