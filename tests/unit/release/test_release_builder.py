"""The release builder: content decides the digest, and only what changed is built."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from orchestrator.control import release_builder
from orchestrator.control.release_builder import ReleaseError


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "checkout"
    lua = root / "components" / "router" / "lua"
    lua.mkdir(parents=True)
    (lua / "routes.lua").write_text("return {}")
    (root / "components" / "__init__.py").touch()
    (root / "pyproject.toml").write_text('[project]\nname = "ingot"\ndependencies = ["nats-py"]\n')
    (root / "constraints.txt").write_text("nats-py==1\n")
    return root


class Pip:
    """Stands in for pip: writes wheels whose content names what was asked for, and counts."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def __call__(self, arguments: list[str]) -> None:
        self.calls.append(arguments[0])
        option = "--dest" if arguments[0] == "download" else "--wheel-dir"
        folder = Path(arguments[arguments.index(option) + 1])
        folder.mkdir(parents=True, exist_ok=True)
        if arguments[0] == "wheel":
            (folder / "ingot-1-py3-none-any.whl").write_bytes(b"ours")
        else:
            for name in [a for a in arguments[1:] if not a.startswith(("-", "/"))]:
                (folder / f"{name}-1-py3-none-any.whl").write_text(name)


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> Pip:
    fake = Pip()
    monkeypatch.setattr(release_builder, "_pip", fake)
    return fake


def build(checkout: Path, *pythons: str, version: str = "1.0") -> dict[str, Any]:
    out, cache = checkout.parent / "releases", checkout.parent / "cache"
    return release_builder.build(checkout, version, out, pythons or ("311",), cache)


def test_a_digest_depends_on_names_and_contents_alone() -> None:
    files = {"b": "2", "a": "1"}
    assert release_builder.content_digest(files) == release_builder.content_digest(
        dict(sorted(files.items()))
    )
    assert release_builder.content_digest(files) != release_builder.content_digest({"a": "2", "b": "1"})
    assert release_builder.content_digest(files) != release_builder.content_digest({"a": "1"})


def test_bytecode_is_no_source(checkout: Path) -> None:
    before = release_builder.source_digest(checkout)
    cache = checkout / "components" / "__pycache__"
    cache.mkdir()
    (cache / "x.pyc").write_bytes(b"x")
    assert release_builder.source_digest(checkout) == before
    (checkout / "components" / "new.py").touch()
    assert release_builder.source_digest(checkout) != before


def test_a_release_holds_wheels_lua_and_an_archive_per_python(checkout: Path, pip: Pip) -> None:
    manifest = build(checkout, "311", "313")
    folder = checkout.parent / "releases" / "1.0"
    assert set(manifest["targets"]) == {"311", "313"}
    with tarfile.open(folder / "py313.tar") as archive:
        names = archive.getnames()
    assert {"wheels/ingot-1-py3-none-any.whl", "wheels/nats-py-1-py3-none-any.whl", "lua/routes.lua"} <= set(
        names
    )
    assert names == sorted(names) or {"wheels", "lua"} <= set(names)
    assert manifest["files"]["py313.tar"] == release_builder.file_digest(folder / "py313.tar")
    assert json.loads((folder / "RELEASE.json").read_text()) == manifest
    assert manifest["targets"]["311"]["installer"] == "pip-1-py3-none-any.whl"


def test_an_unchanged_checkout_is_not_built_again(checkout: Path, pip: Pip) -> None:
    first = build(checkout)
    calls = len(pip.calls)
    assert build(checkout) == first
    assert len(pip.calls) == calls


def test_a_rebuild_of_the_same_content_has_the_same_digest(checkout: Path, pip: Pip) -> None:
    first = build(checkout)
    second = build(checkout, version="2.0")
    assert first["targets"] == second["targets"]


def test_a_change_of_source_builds_anew_but_downloads_nothing(checkout: Path, pip: Pip) -> None:
    first = build(checkout)
    pip.calls.clear()
    (checkout / "components" / "router" / "lua" / "routes.lua").write_text("return {1}")
    second = build(checkout)
    assert second["targets"]["311"]["digest"] != first["targets"]["311"]["digest"]
    assert pip.calls == ["wheel"]


def test_a_release_of_another_name_has_the_wheel_that_was_built_of_these_sources(
    checkout: Path, pip: Pip
) -> None:
    first = build(checkout)
    pip.calls.clear()
    assert build(checkout, version="2.0")["targets"] == first["targets"]
    assert "wheel" not in pip.calls
    (checkout / "components" / "new.py").touch()
    build(checkout, version="2.0")
    assert pip.calls == ["wheel"]
    kept = list((checkout.parent / "cache" / "own").iterdir())
    assert len(kept) == 1, "a wheel of sources that are no more is not kept"


def test_changed_constraints_are_downloaded(checkout: Path, pip: Pip) -> None:
    build(checkout)
    pip.calls.clear()
    (checkout / "constraints.txt").write_text("nats-py==2\n")
    build(checkout)
    assert sorted(pip.calls) == ["download", "download", "wheel"]


def test_another_python_joins_those_that_are_there(checkout: Path, pip: Pip) -> None:
    build(checkout, "311")
    assert set(build(checkout, "313")["targets"]) == {"311", "313"}


def test_a_damaged_archive_is_built_anew(checkout: Path, pip: Pip) -> None:
    first = build(checkout)
    archive = checkout.parent / "releases" / "1.0" / "py311.tar"
    archive.write_bytes(b"half")
    assert build(checkout)["targets"] == first["targets"]
    assert release_builder.file_digest(archive) == first["targets"]["311"]["sha256"]


def test_a_failed_build_leaves_the_release_that_was_there(
    checkout: Path, pip: Pip, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build(checkout)
    (checkout / "components" / "new.py").touch()

    def fail(_arguments: list[str]) -> None:
        raise ReleaseError("no network")

    monkeypatch.setattr(release_builder, "_pip", fail)
    with pytest.raises(ReleaseError, match="no network"):
        build(checkout)
    folder = checkout.parent / "releases"
    assert json.loads((folder / "1.0" / "RELEASE.json").read_text()) == first
    assert sorted(p.name for p in folder.iterdir()) == [".lock", "1.0"]


def test_an_interrupted_download_is_not_taken_for_a_whole_one(
    checkout: Path, pip: Pip, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(arguments: list[str]) -> None:
        pip(arguments)
        raise ReleaseError("cut")

    monkeypatch.setattr(release_builder, "_pip", interrupted)
    with pytest.raises(ReleaseError):
        build(checkout)
    monkeypatch.setattr(release_builder, "_pip", pip)
    pip.calls.clear()
    build(checkout)
    assert sorted(pip.calls) == ["download", "download", "wheel"]


@pytest.mark.parametrize("version", ["", "../x", "a/b", ".hidden", "x" * 65, "a b"])
def test_a_version_must_be_a_plain_name(checkout: Path, pip: Pip, version: str) -> None:
    with pytest.raises(ReleaseError, match="must be letters"):
        build(checkout, version=version)


@pytest.mark.parametrize("python", ["3.11", "27", "x", "311; rm"])
def test_a_target_must_be_a_python(checkout: Path, pip: Pip, python: str) -> None:
    with pytest.raises(ReleaseError, match="must be 3 and the minor"):
        build(checkout, python)


def test_a_checkout_without_a_project_is_refused(checkout: Path, pip: Pip) -> None:
    (checkout / "pyproject.toml").write_text("nonsense = [")
    with pytest.raises(ReleaseError, match=r"pyproject\.toml"):
        build(checkout)


def test_a_release_carries_its_plays(checkout: Path, pip: Pip) -> None:
    for name in (
        "playbooks/site.yml",
        "roles/x/tasks/main.yml",
        "ansible.cfg",
        "orchestrator/rules/roll_order.py",
    ):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text("---\n")
    first = build(checkout)
    plays = checkout.parent / "releases" / "1.0" / "plays"
    assert sorted(p.name for p in plays.iterdir()) == ["ansible.cfg", "orchestrator", "playbooks", "roles"]
    assert "plays/roles/x/tasks/main.yml" in first["files"]
    # Daemons do not run plays: those that change restart none.
    (checkout / "ansible.cfg").write_text("[defaults]\n")
    second = build(checkout)
    assert (plays / "ansible.cfg").read_text() == "[defaults]\n"
    assert second["targets"]["311"]["digest"] == first["targets"]["311"]["digest"]
    (plays / "ansible.cfg").write_text("damaged")
    build(checkout)
    assert (plays / "ansible.cfg").read_text() == "[defaults]\n"


def test_what_some_machines_need_beyond_the_rest_is_an_archive_of_its_own(checkout: Path, pip: Pip) -> None:
    (checkout / "pyproject.toml").write_text(
        '[project]\nname = "ingot"\ndependencies = ["nats-py"]\n'
        '[project.optional-dependencies]\ncontrol = ["ansible-core"]\ndev = ["pytest"]\n'
    )
    target = build(checkout)["targets"]["311"]
    assert set(target["extras"]) == {"control"}
    folder = checkout.parent / "releases" / "1.0"
    with tarfile.open(folder / target["extras"]["control"]["archive"]) as archive:
        assert archive.getnames() == ["control", "control/ansible-core-1-py3-none-any.whl"]
    with tarfile.open(folder / "py311.tar") as archive:
        assert "wheels/ansible-core-1-py3-none-any.whl" not in archive.getnames()
    (folder / "py311-control.tar").write_bytes(b"half")
    assert build(checkout)["targets"]["311"] == target
    assert release_builder.file_digest(folder / "py311-control.tar") == target["extras"]["control"]["sha256"]
