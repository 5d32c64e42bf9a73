"""Who asks a share that hangs is let go, and all goes on when it answers again."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.common.filesystem.share import HANGS, UNWELL, Share, ShareUnwellError, answers
from tests.support.waiting import until


class Server:
    """Answers a probe at once, or not until it goes on."""

    def __init__(self) -> None:
        self.up = threading.Event()
        self.up.set()
        self.found: str | None = None

    def probe(self) -> str | None:
        self.up.wait(120)
        return self.found


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.up.set()


@pytest.fixture
def share(server: Server) -> Iterator[Share]:
    # Longer than a busy machine takes to answer: the share is to be well.
    yield from sharing(server, patience=10.0)


@pytest.fixture
def impatient(server: Server) -> Iterator[Share]:
    """One whose tests await that it hangs."""
    yield from sharing(server, patience=1.0)


def sharing(server: Server, patience: float) -> Iterator[Share]:
    share = Share(server.probe, threads=2, patience=patience)
    yield share
    server.up.set()
    share.close()


def test_what_is_asked_is_answered_and_what_is_raised_is_raised(share: Share) -> None:
    assert share.run(lambda: 7) == 7
    with pytest.raises(FileNotFoundError):
        share.run(lambda: Path("/nowhere").read_bytes())
    with pytest.raises(TimeoutError, match="its own"):
        share.run(_late)
    # Work within work needs no second thread.
    assert share.run(lambda: share.run(lambda: share.run(lambda: 8))) == 8


def test_who_waits_is_let_go_and_who_comes_is_refused(impatient: Share, server: Server) -> None:
    share = impatient
    until(lambda: share.trouble() == "", "the share is well")
    server.up.clear()
    with pytest.raises(ShareUnwellError):
        share.run(lambda: server.up.wait(120))
    assert share.trouble() == HANGS
    began = []
    for _ in range(20):
        with pytest.raises(ShareUnwellError):
            share.run(lambda: began.append(1))
    server.up.set()
    until(lambda: share.trouble() == "", "the share is well")
    assert share.run(lambda: 7) == 7
    assert began == []


def test_a_share_that_hangs_from_the_first_is_said_to(impatient: Share, server: Server) -> None:
    server.up.clear()
    assert impatient.trouble() == HANGS


async def test_an_event_loop_waits_as_well(impatient: Share, server: Server) -> None:
    share = impatient
    await asyncio.to_thread(until, lambda: share.trouble() == "", "the share is well")
    assert await share.run_async(lambda: 7) == 7
    server.up.clear()
    with pytest.raises(ShareUnwellError):
        await share.run_async(lambda: server.up.wait(120))


async def test_after_the_end_nobody_waits(share: Share, server: Server) -> None:
    ended = threading.Event()
    waiting = asyncio.create_task(share.run_async(lambda: ended.wait(120)))
    await asyncio.sleep(0)
    share.close()
    with pytest.raises(ShareUnwellError):
        await asyncio.wait_for(waiting, 60)
    ended.set()
    with pytest.raises(ShareUnwellError):
        share.run(lambda: 7)
    with pytest.raises(ShareUnwellError):
        await asyncio.wait_for(share.run_async(lambda: 7), 60)


def test_long_work_on_a_share_that_is_well_is_awaited(share: Share) -> None:
    assert share.run(lambda: threading.Event().wait(0.5)) is False


def test_what_else_is_wrong_is_told_and_refuses_nothing(share: Share, server: Server) -> None:
    server.found = "the share lacks packages/"
    assert share.trouble() == server.found
    assert share.run(lambda: 7) == 7


def test_a_file_system_says_whether_it_is_there(tmp_path: Path) -> None:
    assert answers(tmp_path) is None
    assert "No such file" in str(answers(tmp_path / "gone"))


def test_a_share_that_nobody_looks_at_any_more_is_not_said_to_hang(server: Server) -> None:
    share = Share(server.probe, patience=0.05)
    server.up.clear()
    assert share.trouble() == HANGS
    # Those of other tests may just be ending.
    until(lambda: _unwell() == 1.0, "it counts as unwell")
    share.close()
    until(lambda: _unwell() == 0.0, "it counts as well")


def _unwell() -> float:
    return next(iter(UNWELL.collect())).samples[0].value


def _late() -> None:
    raise TimeoutError("its own")
