"""Building an image: an archive that refuses for a moment is asked again, and nothing else is tried twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.lab.errors import CommandError
from orchestrator.lab.images import mmdebstrap, recipes

# Stands for mmdebstrap: it fails as many times as its folder has lines in `errors`, and says them.
BUILDER = """#!/bin/sh
cd "{folder}"
echo attempt >> attempts
if [ -s errors ]; then
    head -n 1 errors
    sed -i 1d errors
    exit 100
fi
echo "I: success"
"""
REFUSED = "E: Failed to fetch http://archive/pool/main/a.deb  503  Service Unavailable"


def attempts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *errors: str) -> tuple[int, str]:
    """Build with these errors in turn; return how often it was tried, and the error that was raised."""
    program = tmp_path / "bin" / "mmdebstrap"
    program.parent.mkdir()
    program.write_text(BUILDER.format(folder=tmp_path))
    program.chmod(0o755)
    (tmp_path / "errors").write_text("".join(f"{error}\n" for error in errors))
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    monkeypatch.setattr(mmdebstrap, "_ARCHIVE_WAITS", (0.0, 0.0))
    plan = mmdebstrap.Plan("folder", recipes.recipe(recipes.DEFAULT), (), ())
    raised = ""
    try:
        mmdebstrap.build_root(tmp_path / "root", plan, lambda _step: None, None)
    except CommandError as error:
        raised = str(error)
    return len((tmp_path / "attempts").read_text().splitlines()), raised


def test_an_archive_that_refuses_for_a_moment_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert attempts(tmp_path, monkeypatch, REFUSED, "E: Unable to fetch some archives") == (3, "")


def test_an_archive_that_refuses_on_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count, raised = attempts(tmp_path, monkeypatch, *[REFUSED] * 5)
    assert count == 3
    assert "503  Service Unavailable" in raised


def test_nothing_else_is_tried_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count, raised = attempts(tmp_path, monkeypatch, "E: Unable to locate package no-such-package")
    assert count == 1
    assert "no-such-package" in raised
