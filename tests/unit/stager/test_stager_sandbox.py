"""Boxes and uids, whatever the disk and the service manager say."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from typing import Any

import pytest

from components.common.bus.messages import StagingRequest
from components.common.config import parse as parse_config
from components.common.filesystem import trees
from components.common.filesystem.trees import Weight
from components.common.units import UnitError
from components.stager.config import StagerConfig
from components.stager.errors import StagingError
from components.stager.sandbox import Box, Sandbox
from components.stager.staging_task import StagingTask, too_much

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


class Manager:
    """A service manager that can be away; the `Runner` that no test starts a unit with."""

    def __init__(self) -> None:
        self.away = False

    async def names(self, _prefix: str) -> list[str]:
        return []

    async def stop(self, _name: str, _grace: float = 0) -> None:
        if self.away:
            raise UnitError("it is away")

    async def close(self) -> None:
        pass


def config(folder: Path, **more: Any) -> StagerConfig:
    raw = {"bus": {"urls": ["nats://127.0.0.1:4222"]}, "work_dir": str(folder), "max_tasks": 1, **more}
    return parse_config(raw, StagerConfig)


async def test_a_uid_goes_back_whatever_the_disk_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox = Sandbox(config(tmp_path), Manager())  # type: ignore[arg-type]
    await sandbox.prepare()

    def broken(*_: object) -> None:
        raise OSError(5, "the disk is broken")

    for _ in range(5):
        with monkeypatch.context() as patch:
            patch.setattr(os, "chown", broken)
            with pytest.raises(OSError, match="broken"):
                await sandbox.open("a", 1)
    for number in range(5):
        box = await sandbox.open(f"b{number}", 1)
        with monkeypatch.context() as patch:
            patch.setattr(trees, "weigh", broken)
            patch.setattr(Path, "rename", broken)
            await sandbox.close(box)
    await sandbox.shut()


async def test_a_uid_is_nobody_elses_while_its_build_may_live(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("components.stager.sandbox._RETRY_SECONDS", 0.01)
    manager = Manager()
    sandbox = Sandbox(config(tmp_path), manager)  # type: ignore[arg-type]
    await sandbox.prepare()
    manager.away = True
    for name in ("a", "b"):
        await sandbox.close(await sandbox.open(name, 1))
    with pytest.raises(StagingError, match="not cleared away yet"):
        await sandbox.open("c", 1)
    manager.away = False
    async with asyncio.timeout(60):
        while not (tmp_path / "tasks" / "d").exists():
            with contextlib.suppress(StagingError):
                await sandbox.open("d", 1)
            await asyncio.sleep(0.01)
    await sandbox.shut()


async def test_a_cache_that_cannot_be_handed_over_is_dropped(tmp_path: Path) -> None:
    sandbox = Sandbox(config(tmp_path, most_files=10), Manager())  # type: ignore[arg-type]
    await sandbox.prepare()
    cache = tmp_path / "cache" / "7"
    cache.mkdir()
    for number in range(20):
        (cache / str(number)).touch()
    box = await sandbox.open("a", 7)
    assert list(box.cache.iterdir()) == []
    assert box.cache.stat().st_uid == box.uid
    for number in range(9):
        (cache / str(number)).touch()
    await sandbox.close(box)
    # Half of what a build may make: the next one needs room, too.
    assert not cache.exists()
    await sandbox.shut()


@pytest.mark.parametrize(
    ("used", "words"),
    [
        (Weight(100 * 1024 * 1024, 10), None),
        (Weight(101 * 1024 * 1024, 10), "took more than 100 MB of disk"),
        (Weight(0, 11, whole=False), "made more than 10 files and folders"),
    ],
)
def test_what_a_build_takes_too_much_of_is_told(tmp_path: Path, used: Weight, words: str | None) -> None:
    assert too_much(used, config(tmp_path, disk_mb=100, most_files=10)) == words


class Idle:
    """A sandbox with room for everything."""

    def room_problem(self) -> None:
        return None

    def used(self, _box: object) -> Weight:
        return Weight()


async def test_a_line_without_an_end_is_told_in_pieces(tmp_path: Path) -> None:
    """Kept until its end, it was copied anew with each block that was read."""
    told: list[object] = []

    async def publish(_subject: str, message: object) -> bool:
        told.append(message)
        return True

    request = StagingRequest(app_id=1, properties={}, download_uri="", upload_uri="")
    task = StagingTask(request, config(tmp_path), Idle(), publish)  # type: ignore[arg-type]
    box = Box("a", tmp_path, tmp_path, tmp_path / "output.log", None)
    box.output.write_bytes(b"x" * 1_000_000)
    ended = asyncio.Event()
    ended.set()
    await task._follow(box, ended)
    assert len(told) >= 7
