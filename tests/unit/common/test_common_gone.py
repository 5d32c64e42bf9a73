"""What is to go is out of the way at once, whatever the disk says."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from components.common.filesystem import gone as module
from components.common.filesystem import trees
from components.common.filesystem.gone import Gone
from tests.support.waiting import until_async
from tests.trees_sample import names


@pytest.fixture
async def gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Gone]:
    monkeypatch.setattr(module, "_RETRY_SECONDS", 0.02)
    found = Gone(tmp_path / ".gone")
    yield found
    await found.close()


def broken(*_: object) -> None:
    raise OSError(5, "the disk is broken")


async def test_what_is_taken_is_out_of_the_way_at_once_and_removed_behind_it(
    gone: Gone, tmp_path: Path
) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    assert await gone.take(tmp_path / "deep")
    assert await gone.take(tmp_path / "never")
    assert not (tmp_path / "deep").exists()
    assert gone.busy
    gone.start()
    await until_async(lambda: not gone.busy and gone.waiting == 0, "all is removed")
    assert list((tmp_path / ".gone").iterdir()) == []


async def test_what_an_earlier_daemon_left_goes(gone: Gone, tmp_path: Path) -> None:
    (tmp_path / ".gone" / "left" / "x").mkdir(parents=True)
    gone.start()
    await until_async(lambda: list((tmp_path / ".gone").iterdir()) == [], "all is removed")


async def test_what_cannot_go_is_tried_again(
    gone: Gone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(trees, "remove", broken)
        patch.setattr(Path, "rename", broken)
        assert not await gone.take(tmp_path / "one")
        patch.undo()
        patch.setattr(trees, "remove", broken)
        assert await gone.take(tmp_path / "two")
        gone.start()
        await until_async(lambda: not gone.busy and gone.waiting == 2, "two wait")
    await until_async(lambda: gone.waiting == 0, "none waits")
    assert names(tmp_path) == [".gone"]


async def test_a_daemon_that_ends_waits_for_no_removal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = Gone(tmp_path / ".gone")
    (tmp_path / ".gone" / "slow").mkdir(parents=True)
    begun, go_on = threading.Event(), threading.Event()

    def slow(_path: Path, wanted: Callable[[], bool]) -> None:
        begun.set()
        assert go_on.wait(60)
        if not wanted():
            ended.set()
            raise InterruptedError

    ended = threading.Event()
    monkeypatch.setattr(trees, "remove", slow)
    gone.start()
    assert await asyncio.to_thread(begun.wait, 60)
    try:
        async with asyncio.timeout(60):
            await gone.close()
    finally:
        go_on.set()
    assert await asyncio.to_thread(ended.wait, 60)
    assert names(tmp_path / ".gone") == ["slow"]
