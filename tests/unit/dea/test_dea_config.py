"""The DEA's configuration, its snapshot, its launcher's care with files of applications."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from components.common import trees
from components.common.config import parse
from components.common.errors import ConfigError
from components.common.messages import DeaStart, Limits
from components.common.operation_messages import TaskEnded
from components.common.states import InstanceState
from components.dea.config import DeaConfig, RuntimeConfig
from components.dea.errors import StartError
from components.dea.folders.launcher import Launcher
from components.dea.instances.instance import Instance, TaskFacts
from components.dea.instances.number_ring import RingState
from components.dea.instances.snapshot import Snapshot
from components.dea.runtimes import Runtimes
from tests.integration.dea_rig import droplet

BUS = {"urls": ["nats://127.0.0.1:4222"]}


def config(**more: Any) -> DeaConfig:
    return parse({"bus": BUS, **more}, DeaConfig)


def instance() -> Instance:
    message = DeaStart(droplet=3, name="a", version="v", limits=Limits(mem=64, disk=10), env=["PASS=hush"])
    return Instance.of(message, "a" * 32, 5)


def test_defaults_are_the_platforms() -> None:
    found = config()
    assert (found.ports.first, found.ports.last) == (61001, 64999)
    assert (found.uids.first, found.uids.last) == (50000, 52047)
    assert found.files.port == 12345
    assert found.memory_mb > 0
    assert config(max_memory=100).memory_mb == 100


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"sandbox": "docker"}, "sandbox"),
        ({"base_dir": "x"}, "base_dir"),
        ({"ports": {"first": 9, "last": 3}}, "ports.first"),
        ({"ports": {"first": 9, "last": 70000}}, "ports.last"),
        ({"intervals": {"beat": 0}}, "intervals.beat"),
        ({"runtimes": {"python": {"executable": "python3"}}}, "runtimes.python.executable"),
        ({"drain": -1}, "drain"),
        ({"memory": 1}, "memory"),
    ],
)
def test_mistakes_are_named(change: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        config(**change)


def test_runtimes_go_by_their_aliases() -> None:
    python = RuntimeConfig("/usr/bin/python3", aliases=["python2"])
    found = Runtimes({"python3": python})
    assert found.names == ["python2", "python3"]
    assert found.find("python2") is python
    assert found.offers(None)
    assert found.offers("")
    assert not found.offers("ruby18")


class TestSnapshot:
    """What is written down."""

    def test_records_come_back_and_hold_no_environment(self, tmp_path: Path) -> None:
        snapshot, record = Snapshot(tmp_path), instance()
        record.move(InstanceState.CRASHED, 7, "why")
        snapshot.save([record])
        assert Snapshot(tmp_path).load() == [record]
        written = (tmp_path / "applications.json").read_text()
        assert written.startswith('{"3":{"aaaa')
        assert "hush" not in written
        assert (tmp_path / "applications.json").stat().st_mode & 0o77 == 0

    def test_tasks_lie_apart_and_come_back_too(self, tmp_path: Path) -> None:
        snapshot, record, task = Snapshot(tmp_path), instance(), instance()
        task.id = "t"
        task.task = TaskFacts(timeout=5, deadline=9, ended=TaskEnded(task="t", dea="d", exit_status=3))
        snapshot.save([task, record])
        assert Snapshot(tmp_path).load() == [record, task]
        assert '"t"' not in (tmp_path / "applications.json").read_text()
        snapshot.save([record])
        assert Snapshot(tmp_path).load() == [record]

    def test_nothing_and_nonsense_are_no_instances(self, tmp_path: Path) -> None:
        snapshot = Snapshot(tmp_path)
        assert snapshot.load() == []
        (tmp_path / "applications.json").write_text("{")
        assert snapshot.load() == []
        assert (tmp_path / "applications.broken").read_text() == "{"

    def test_ports_and_evacuation(self, tmp_path: Path) -> None:
        snapshot = Snapshot(tmp_path)
        assert snapshot.load_ports() is None
        snapshot.save_ports(RingState(5, {4: 1.5}))
        assert snapshot.load_ports() == RingState(5, {4: 1.5})
        snapshot.evacuating = True
        assert Snapshot(tmp_path).evacuating
        snapshot.evacuating = False
        assert not Snapshot(tmp_path).evacuating

    def test_the_password_of_files_is_made_up_once_and_kept_from_others(self, tmp_path: Path) -> None:
        known = Snapshot(tmp_path).credentials()
        assert len(set(known)) == 2
        assert all(len(word) == 32 for word in known)
        assert Snapshot(tmp_path).credentials() == known
        assert (tmp_path / "files.json").stat().st_mode & 0o77 == 0


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
    def test_files_are_the_instances_and_seized_after_a_crash(
        self, launcher: Launcher, tmp_path: Path
    ) -> None:
        record = self.prepare(launcher, tmp_path, "/x", droplet(), uid=50000)
        folder = launcher.directory(record)
        every = [folder, *folder.rglob("*")]
        assert {path.lstat().st_uid for path in every} == {50000}
        trees.reclaim_ownership(folder, 0, 1000)
        assert {path.lstat().st_uid for path in every} == {0}
