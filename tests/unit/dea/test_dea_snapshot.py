"""What an agent writes down for the next one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from components.common.bus.messages import DeaStart, Limits
from components.common.bus.operation_messages import TaskEnded
from components.common.config import parse
from components.common.states import InstanceState
from components.dea.config import DeaConfig
from components.dea.instances.instance import Instance, TaskFacts
from components.dea.instances.number_ring import RingState
from components.dea.instances.snapshot import Snapshot

BUS = {"urls": ["nats://127.0.0.1:4222"]}


def config(**more: Any) -> DeaConfig:
    return parse({"bus": BUS, **more}, DeaConfig)


def instance() -> Instance:
    message = DeaStart(droplet=3, name="a", version="v", limits=Limits(mem=64, disk=10), env=["PASS=hush"])
    return Instance.of(message, "a" * 32, 5)


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
