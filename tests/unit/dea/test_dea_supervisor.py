"""What both supervisors do with a record: refuse it, end it, find it again, and give way for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import pytest

from components.common.bus.messages import DeaStart, Limits
from components.common.bus.operation_messages import TaskStart
from components.common.config import parse
from components.common.filesystem import trees
from components.common.filesystem.gone import Gone
from components.common.states import InstanceState
from components.common.units import UnitError
from components.dea.agent_state import AgentState
from components.dea.config import DeaConfig
from components.dea.errors import NoRoomError
from components.dea.folders.launcher import Launcher
from components.dea.instances.holdings import Holdings
from components.dea.instances.instance import Instance, TaskFacts
from components.dea.instances.registry import Bounds, Registry
from components.dea.instances.snapshot import Snapshot
from components.dea.limits.accounting import UsageAccounting
from components.dea.supervision.background import Background
from components.dea.supervision.supervisor import Supervisor
from components.dea.supervision.task_supervisor import TaskSupervisor
from components.dea.supervision.unit_supervisor import SupervisorContext, UnitSupervisor
from tests.support.waiting import until_async


class Rig:
    """A supervisor whose units and bus do nothing."""

    def __init__(self, base: Path) -> None:
        config = parse(
            {
                "bus": {"urls": ["nats://h:4222"]},
                "base_dir": str(base),
                "sandbox": "process",
                "ports": {"first": 10, "last": 10},
            },
            DeaConfig,
        )
        self.registry = Registry(Bounds(100, 100, 10))
        self.launcher = Launcher(config, base / "instances")
        self.gone = Gone(base / ".gone")
        nothing: Any = AsyncMock()
        self.runner = nothing
        snapshot = Snapshot(base)
        self.holdings = Holdings(config, snapshot)
        self.background = Background()
        self.state = AgentState("0-a", "10.0.0.5")
        context = SupervisorContext(
            config=config,
            state=self.state,
            registry=self.registry,
            snapshot=snapshot,
            holdings=self.holdings,
            disk_quota=nothing,
            droplets=nothing,
            runner=nothing,
            gone=self.gone,
            announcer=nothing,
            logs=nothing,
            background=self.background,
            crowded=lambda _instance: None,
        )
        self.supervisor = Supervisor(context, self.launcher, UsageAccounting())
        self.tasks = TaskSupervisor(context, Launcher(config, base / "tasks"), self.supervisor.discard)

    async def close(self, *, recovered: bool = True) -> None:
        """End as an agent does."""
        await self.background.close()
        self.supervisor.close(recovered=recovered)

    def add(self, name: str, **more: Any) -> Instance:
        """Add an instance that has a folder."""
        record = instance(name)
        for key, value in more.items():
            setattr(record, key, value)
        self.registry.add(record)
        (self.launcher.directory(record) / "logs").mkdir(parents=True)
        return record


def instance(name: str, *uris: str, disk: int = 60) -> Instance:
    limits = Limits(mem=1, disk=disk)
    message = DeaStart(droplet=1, name=name, version="v", uris=list(uris), index=0, limits=limits)
    return Instance.of(message, name * 32, 100)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    found = Rig(tmp_path)
    yield found
    await found.close()
    await found.gone.close()


async def test_what_crashed_goes_for_a_start_that_has_all_it_needs_and_for_no_other(rig: Rig) -> None:
    crashed = rig.add("a", state=InstanceState.CRASHED, released=True, kept_mb=60)
    rig.holdings.ports.claim([10])
    with pytest.raises(NoRoomError, match="10 to 10"):
        rig.supervisor._admit(instance("b", "b.example"))
    await asyncio.sleep(0)
    assert rig.registry.get(crashed.id) is crashed
    rig.supervisor._admit(instance("c"))
    await until_async(lambda: rig.registry.get(crashed.id) is None, "it is gone")


async def test_a_stop_waits_for_what_is_done_to_the_files_of_one_that_crashed(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    crashed = rig.add("a")
    folder = rig.launcher.directory(crashed)
    begun, go_on, weigh = threading.Event(), threading.Event(), trees.weigh

    def slow(*given: Any) -> trees.Weight:
        begun.set()
        assert go_on.wait(60)
        return weigh(*given)

    monkeypatch.setattr(trees, "weigh", slow)
    settling = rig.background.spawn(rig.supervisor.crash(crashed, "why"), "crash")
    try:
        assert await asyncio.to_thread(begun.wait, 60)
        stopping = rig.background.spawn(rig.supervisor.stop(crashed), "stop")
        done, _ = await asyncio.wait([stopping], timeout=0.2)
        assert (done, folder.exists()) == (set(), True)
    finally:
        go_on.set()
    await asyncio.wait_for(asyncio.gather(settling, stopping), 60)
    assert (rig.launcher.known(), list(rig.registry)) == ([], [])


async def test_an_agent_that_ends_breaks_off_what_it_does_to_files(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    crashed = rig.add("a")
    folder = rig.launcher.directory(crashed)
    begun, ended = threading.Event(), threading.Event()
    go_on, weigh = threading.Event(), trees.weigh

    def slow(*given: Any) -> trees.Weight:
        begun.set()
        assert go_on.wait(60)
        try:
            return weigh(*given)
        except InterruptedError:
            ended.set()
            raise

    monkeypatch.setattr(trees, "weigh", slow)
    rig.background.spawn(rig.supervisor.crash(crashed, "why"), "crash")
    assert await asyncio.to_thread(begun.wait, 60)
    await rig.close()
    go_on.set()
    assert await asyncio.to_thread(ended.wait, 60)
    assert folder.exists()
    assert not crashed.released


async def test_an_agent_that_could_not_begin_leaves_the_records_as_they_are(tmp_path: Path) -> None:
    before = Rig(tmp_path)
    before.add("a", state=InstanceState.RUNNING)
    await before.close()
    records = (tmp_path / "applications.json").read_bytes()
    rig = Rig(tmp_path)
    rig.runner.names.side_effect = UnitError("the system's D-Bus cannot be reached")
    with pytest.raises(UnitError):
        await rig.supervisor.recover()
    await rig.close(recovered=False)
    assert (tmp_path / "applications.json").read_bytes() == records
    await rig.gone.close()


@pytest.mark.parametrize(
    ("flag", "droplet", "runtime", "why"),
    [
        ("evacuating", "d" * 40, "", "this DEA evacuates"),
        ("stopping", "d" * 40, "", "this DEA's agent is about to end"),
        ("", "", "", "the message names no droplet"),
        ("", "d" * 40, "cobol", "the runtime cobol is not on this machine"),
    ],
)
async def test_a_refusal_has_its_reason(rig: Rig, flag: str, droplet: str, runtime: str, why: str) -> None:
    if flag:
        setattr(rig.state, flag, True)
    message = DeaStart(
        droplet=1,
        name="a",
        version="v",
        limits=Limits(mem=1, disk=1),
        sha1=droplet,
        executableFile="/x",
        runtime=runtime,
    )
    reply = rig.tasks.start(TaskStart(task="t", command="true", timeout=5, start=message))
    assert reply.error == why
    assert rig.state.refusal() == (why if flag else None)
    # The agent asks for the refusal of a start itself.
    assert flag or rig.supervisor.start(message) is None
    assert list(rig.registry) == []


@pytest.mark.parametrize("task", [False, True], ids=["instance", "task"])
async def test_one_that_broke_a_rule_is_ended_once_and_its_owner_reads_why(rig: Rig, task: bool) -> None:
    record = rig.add("a", state=InstanceState.RUNNING)
    supervisor: UnitSupervisor = rig.tasks if task else rig.supervisor
    words = "FATAL: why\n" if task else "FATAL: why\nFATAL: the instance is stopped\n"
    record.task = TaskFacts(timeout=5, deadline=9) if task else None
    logs = supervisor._launcher.directory(record) / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    rig.runner.kill.side_effect = UnitError("the system's D-Bus cannot be reached")
    with pytest.raises(UnitError):
        await supervisor.end(record, "why")
    # It is tried again with the next look.
    rig.runner.kill.side_effect = None
    await supervisor.end(record, "why")
    await supervisor.end(record, "another reason")
    assert (logs / "err.log").read_text() == words * 2
    assert [call.args for call in rig.runner.kill.call_args_list] == [(record.unit,)] * 2
