"""The launcher's care with files of applications."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from components.common.bus.messages import DeaStart, Limits
from components.common.config import parse
from components.common.filesystem import trees
from components.dea.config import DeaConfig
from components.dea.errors import StartError
from components.dea.folders.launcher import Launcher
from components.dea.instances.instance import Instance
from tests.integration.dea_rig import droplet

BUS = {"urls": ["nats://127.0.0.1:4222"]}


def config(**more: Any) -> DeaConfig:
    return parse({"bus": BUS, **more}, DeaConfig)


def instance() -> Instance:
    message = DeaStart(droplet=3, name="a", version="v", limits=Limits(mem=64, disk=10), env=["PASS=hush"])
    return Instance.of(message, "a" * 32, 5)


class TestLauncher:
    """Folders of instances."""

    @pytest.fixture
    def launcher(self, tmp_path: Path) -> Launcher:
        return Launcher(config(sandbox="process"), tmp_path / "instances")

    def prepare(
        self,
        launcher: Launcher,
        tmp_path: Path,
        executable: str | None,
        content: bytes,
        uid: int | None = None,
    ) -> Instance:
        (tmp_path / "d.tgz").write_bytes(content)
        record = instance()
        record.uid = uid
        launcher.prepare(record, tmp_path / "d.tgz", executable)
        return record

    def test_the_runtime_is_filled_in_and_the_state_file_read(
        self, launcher: Launcher, tmp_path: Path
    ) -> None:
        content = droplet({"droplet.yaml": "state_file: tomcat.state\n"})
        record = self.prepare(launcher, tmp_path, "/usr/bin/python3.11", content)
        folder = launcher.directory(record)
        assert "/usr/bin/python3.11 server.py" in (folder / "startup").read_text()
        assert folder.stat().st_mode & 0o777 == 0o700
        assert (folder / "startup").stat().st_mode & 0o777 == 0o500
        assert record.state_file == "tomcat.state"
        assert launcher.known() == [record.id]

    @pytest.mark.parametrize(
        ("files", "executable", "word"),
        [
            ({}, None, "wants a runtime"),
            ({"droplet.yaml": "{"}, "/x", "droplet.yaml: not YAML"),
            ({"droplet.yaml": "a: &a [x]\nb: *a"}, "/x", "droplet.yaml: it has an alias"),
            ({"droplet.yaml": "#" * 70_000}, "/x", "droplet.yaml is longer than 64 KB"),
            ({"startup": "#" * 140_000}, "/x", "startup is longer than 128 KB"),
        ],
    )
    def test_what_is_no_droplet(
        self, launcher: Launcher, tmp_path: Path, files: dict[str, str], executable: str | None, word: str
    ) -> None:
        with pytest.raises(StartError, match=word):
            self.prepare(launcher, tmp_path, executable, droplet(files))

    @pytest.mark.parametrize("name", ["stdout.log", "stderr.log", "err.log"])
    def test_log_files_are_made_anew_whatever_the_droplet_brought(
        self, launcher: Launcher, tmp_path: Path, name: str
    ) -> None:
        deep = f"logs/{name}/" + "/".join(["d"] * 900) + "/x"
        for files in (
            {f"logs/{name}": "\x7fELF", f"logs/{name}.1": "\x7fELF", "logs/staging.log": "kept"},
            {deep: "", "logs/staging.log": "kept"},
        ):
            record = self.prepare(launcher, tmp_path, "/x", droplet(files))
            logs = launcher.directory(record) / "logs"
            assert sorted(p.name for p in logs.iterdir()) == [
                "err.log",
                "staging.log",
                "stderr.log",
                "stdout.log",
            ]
            facts = (logs / name).lstat()
            assert (facts.st_size, facts.st_mode & 0o777, facts.st_nlink) == (0, 0o600, 1)
            assert (logs / "staging.log").read_text() == "kept"
            trees.remove(launcher.directory(record))

    def test_a_log_file_is_no_other_name_of_an_executable(self, launcher: Launcher, tmp_path: Path) -> None:
        (tmp_path / "d.tgz").write_bytes(droplet({"app/x": "code"}))
        with tarfile.open(tmp_path / "d.tgz") as old, tarfile.open(tmp_path / "linked.tgz", "w:gz") as new:
            for member in old:
                new.addfile(member, old.extractfile(member))
            link = tarfile.TarInfo("logs/stdout.log")
            link.type, link.linkname = tarfile.LNKTYPE, "app/x"
            new.addfile(link)
        record = self.prepare(launcher, tmp_path, "/x", (tmp_path / "linked.tgz").read_bytes())
        folder = launcher.directory(record)
        assert (folder / "logs/stdout.log").read_text() == ""
        assert (folder / "app/x").read_text() == "code"

    def test_complaints_follow_no_link(self, launcher: Launcher, tmp_path: Path) -> None:
        record = self.prepare(launcher, tmp_path, "/x", droplet())
        log = launcher.directory(record) / "logs/err.log"
        launcher.append_error_log(record, ["FATAL: a", "FATAL: b"])
        assert log.read_text() == "FATAL: a\nFATAL: b\n"
        victim = tmp_path / "victim"
        victim.write_text("")
        log.unlink()
        log.symlink_to(victim)
        launcher.append_error_log(record, ["FATAL"])
        log.unlink()
        log.hardlink_to(victim)
        launcher.append_error_log(record, ["FATAL"])
        log.unlink()
        os.mkfifo(log)
        launcher.append_error_log(record, ["FATAL"])
        assert victim.read_text() == ""

    @pytest.mark.root
    @pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
    def test_files_are_the_instances_and_roots_again_after_a_crash(
        self, launcher: Launcher, tmp_path: Path
    ) -> None:
        record = self.prepare(launcher, tmp_path, "/x", droplet(), uid=50000)
        folder = launcher.directory(record)
        every = [folder, *folder.rglob("*")]
        assert {path.lstat().st_uid for path in every} == {50000}
        trees.reclaim_ownership(folder, 0, 1000)
        assert {path.lstat().st_uid for path in every} == {0}
