"""A part that passed is passed over only while all of its files are as they were."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.suite_passed import digest, passed, remember


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "checkout"
    (root / "roles" / "one").mkdir(parents=True)
    (root / "roles" / "one" / "tasks.yml").write_text("---\n")
    (root / "other.yml").write_text("---\n")
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    subprocess.run(["git", "-C", str(root), "add", "."], check=True)
    return root


@pytest.mark.parametrize(
    "change",
    [
        lambda file: file.write_text("--- \n"),
        lambda file: file.chmod(0o755),
        lambda file: file.unlink(),
        lambda file: file.rename(file.with_name("task.yml")),
        lambda file: file.with_name("new.yml").write_text(""),
    ],
    ids=["content", "mode", "removed", "renamed", "untracked"],
)
def test_every_change_counts(checkout: Path, change) -> None:
    stamp = checkout / "build" / "cache" / "lint"
    before = digest(checkout, ["roles"])
    assert not passed(stamp, before)
    remember(stamp, before)
    assert passed(stamp, digest(checkout, ["roles"]))
    change(checkout / "roles" / "one" / "tasks.yml")
    assert not passed(stamp, digest(checkout, ["roles"]))


def test_other_files_do_not_count(checkout: Path) -> None:
    before = digest(checkout, ["roles"])
    (checkout / "other.yml").write_text("x\n")
    assert digest(checkout, ["roles"]) == before


def test_what_is_no_checkout_has_no_digest(tmp_path: Path) -> None:
    assert digest(tmp_path, ["roles"]) == ""
