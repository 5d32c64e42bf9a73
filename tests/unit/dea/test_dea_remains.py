"""What stays of a crashed instance, what the agent writes down, and who is removed when."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from components.common.bus.messages import DeaStart, Limits
from components.common.filesystem import trees
from components.common.filesystem.gone import Gone
from components.common.states import InstanceState
from components.dea.folders.remains import Remains
from components.dea.instances.instance import Instance
from components.dea.instances.number_ring import RingState
from components.dea.instances.registry import Bounds, Registry
from components.dea.instances.snapshot import Snapshot
from components.dea.supervision.reaper import Reaper
from tests.small_disk import empty, fill, fill_inodes, small_disk
from tests.trees_sample import names

MB = 1024 * 1024


def instance(name: str = "a", **more: Any) -> Instance:
    message = DeaStart(droplet=1, name="a", version="v", uris=[], index=0, limits=Limits(mem=1, disk=100))
    made = Instance.of(message, name * 32, 100)
    for key, value in more.items():
        setattr(made, key, value)
    return made


def folder(parent: Path) -> Path:
    found = parent / ("a" * 32)
    (found / "logs").mkdir(parents=True)
    (found / "app").mkdir()
    (found / "app" / "data").write_bytes(bytes(3 * MB))
    (found / "logs" / "stdout.log").write_text("said\n")
    (found / "logs" / "staging.log").write_text("staged\n")
    (found / "logs" / "stderr.log").write_bytes(bytes(2 * MB))
    (found / "logs" / "err.log").symlink_to("/etc/passwd")
    (found / "logs" / "more").write_bytes(bytes(MB))
    return found


async def test_a_crashed_one_keeps_its_files_and_they_are_counted(tmp_path: Path) -> None:
    found, record = folder(tmp_path), instance()
    await Remains(Gone(tmp_path / ".gone"), 100, 1).keep(record, found, cut=False)
    assert (found / "app" / "data").exists()
    assert record.kept_mb == 7


async def test_one_that_took_too_much_is_cut_to_its_logs(tmp_path: Path) -> None:
    found, record = folder(tmp_path), instance()
    await Remains(Gone(tmp_path / ".gone"), 100, 1).keep(record, found, cut=True)
    assert names(found) == ["logs"]
    assert names(found / "logs") == ["staging.log", "stdout.log"]
    assert (found / "logs" / "stdout.log").read_text() == "said\n"
    assert record.kept_mb == 1
    assert len(names(tmp_path / ".gone")) == 1


async def test_one_with_more_files_than_allowed_is_cut_whatever_it_ended_of(tmp_path: Path) -> None:
    found, record = folder(tmp_path), instance()
    await Remains(Gone(tmp_path / ".gone"), 5, 1).keep(record, found, cut=False)
    assert names(found) == ["logs"]


@pytest.mark.parametrize("take", [fill, fill_inodes])
async def test_a_full_disk_keeps_logs_and_loses_the_rest(tmp_path: Path, take: Any) -> None:
    with small_disk(tmp_path / "disk", mb=16, inodes=50) as disk:
        found, record = folder(disk), instance()
        (disk / ".gone").mkdir()
        take(disk)
        await Remains(Gone(disk / ".gone"), 100, 1).keep(record, found, cut=True)
        assert (found / "logs" / "stdout.log").read_text() == "said\n"
        assert not (found / "app").exists()


async def test_an_agent_that_ends_in_the_middle_of_a_cut_loses_no_logs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with small_disk(tmp_path / "disk", mb=16, inodes=50) as disk:
        found, record = folder(disk), instance()
        (disk / ".gone").mkdir()
        fill_inodes(disk)
        remains = Remains(Gone(disk / ".gone"), 100, 1)
        remove = trees.remove

        def ends(path: Path, wanted: Any) -> None:
            remains.close()
            remove(path, wanted)

        monkeypatch.setattr(trees, "remove", ends)
        await remains.keep(record, found, cut=True)
        assert names(found) == ["app", "logs"]
        assert (found / "logs" / "stdout.log").read_text() == "said\n"
        assert names(disk / ".gone") == []


async def test_what_was_never_made_and_what_cannot_be_kept_hold_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remains, record = Remains(Gone(tmp_path / ".gone"), 10_000, 1), instance(kept_mb=5)
    await remains.keep(record, tmp_path / "never", cut=True)
    assert record.kept_mb == 0
    found = folder(tmp_path)

    def broken(*_: object) -> None:
        raise OSError(5, "the disk is broken")

    monkeypatch.setattr("components.common.filesystem.trees.weigh", broken)
    await remains.keep(record, found, cut=False)
    assert not found.exists()


async def test_one_that_cannot_be_removed_keeps_no_other(tmp_path: Path) -> None:
    registry = Registry(Bounds(100, 1000, 10))
    for name in "abc":
        registry.add(instance(name, state=InstanceState.CRASHED))
    gone: list[str] = []

    async def discard(record: Instance) -> None:
        if record.id[0] == "a":
            raise OSError(5, "the disk is broken")
        gone.append(record.id[0])

    await Reaper(registry, Gone(tmp_path / ".gone"), 60, discard).reap()
    assert gone == ["b", "c"]


async def test_on_a_full_disk_the_oldest_goes_and_the_next_when_that_has_shown_its_effect(
    tmp_path: Path,
) -> None:
    registry, waste = Registry(Bounds(100, 1000, 10)), Gone(tmp_path / ".gone")
    for name, when in (("a", 300), ("b", 200), ("c", 100)):
        registry.add(instance(name, state=InstanceState.CRASHED, state_timestamp=when, released=name != "c"))
    gone: list[str] = []

    async def discard(record: Instance) -> None:
        gone.append(record.id[0])
        registry.remove(record)
        await waste.take(tmp_path / record.id)

    reaper = Reaper(registry, waste, 10**12, discard)
    await reaper.relieve()
    assert gone == []
    registry.disk_full = "99 percent of its bytes are taken"
    await reaper.relieve()
    await reaper.relieve()
    assert gone == ["b"]
    waste.busy = False
    await reaper.relieve()
    assert gone == ["b", "a"]


def test_a_full_disk_stops_nobody_and_is_said(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", mb=1, inodes=20) as disk:
        snapshot = Snapshot(disk)
        assert snapshot.save([instance("a")])
        for take in (fill, fill_inodes):
            taken = take(disk)
            assert not snapshot.save([instance("b")])
            snapshot.save_ports(RingState(1))
            snapshot.evacuating = True
            assert snapshot.evacuating
            assert snapshot.problem is not None
            assert snapshot.problem.endswith("No space left on device")
            assert [i.id[0] for i in Snapshot(disk).load()] == ["a"]
            assert len(Snapshot(disk).credentials()) == 2
            empty(taken)
            assert snapshot.save([instance("a")])
            snapshot.save_ports(RingState(1))
            snapshot.evacuating = False
            assert snapshot.problem is None
