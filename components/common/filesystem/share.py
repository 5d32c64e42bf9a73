"""Access to a file system that may hang, with waits that end while it does.

A mount whose server is silent blocks every thread that touches it, for ever and beyond any signal. So the share is touched on
threads of its own, and a probe checks every second whether it answers. While the probe is unanswered, no work begins on the
share, and callers that wait get an error; when it is answered, work goes on by itself.
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from prometheus_client import Counter, Gauge

from components.common import log
from components.common.errors import IngotError

T = TypeVar("T")
UNWELL = Gauge("ingot_share_unwell", "1 while the share does not answer.", multiprocess_mode="livemax")
REFUSED = Counter("ingot_share_refused_total", "What was not done, or given up, as the share did not answer.")
HANGS = "the share does not answer"
# A file server under load answers within this time; a request has five seconds for its 503.
PATIENCE_SECONDS = 3.0
_PROBE_SECONDS = 1.0
_LOOK_SECONDS = 0.2
logger = log.get(__name__)


class ShareUnwellError(IngotError, OSError):
    """The share does not answer; the work may or may not have been done."""

    def __init__(self) -> None:
        super().__init__(HANGS)


class Share:
    """The access to a share.

    Args:
        probe: checks the share, and returns its trouble or None; called about every second.
        threads: how many may touch it at once; those that hang count.
        patience: seconds that a probe may take.
    """

    def __init__(
        self, probe: Callable[[], str | None], *, threads: int = 4, patience: float = PATIENCE_SECONDS
    ) -> None:
        self._probe = probe
        self._patience = patience
        self._threads = _Threads(threads, "share")
        self._probing = _Threads(1, "share-probe")
        self._watch = threading.Thread(target=self._look, name="share-watch", daemon=True)
        self._begin = threading.Lock()
        self._ending = threading.Event()
        self._looked = threading.Event()
        self._hangs = False
        self._found = ""

    def trouble(self) -> str:
        """Return the trouble of the share as last seen; empty when there is none. Waits for the first probe only."""
        self._start()
        looked = self._looked.wait(self._patience)
        return HANGS if self._hangs or not looked else self._found

    def run(self, work: Callable[[], T]) -> T:
        """Return the result of `work`, which touches the share on another thread. Nested work is done at once.

        Raises:
            ShareUnwellError: the share does not answer, or was closed.
        """
        if self._threads.here():
            return work()
        future = self._submit(work)
        while True:
            try:
                return future.result(_LOOK_SECONDS)
            except TimeoutError:
                if future.done():
                    raise
                self._check(future)

    async def run_async(self, work: Callable[[], T]) -> T:
        """Do the same as `run`, for an event loop."""
        future = self._submit(work)
        waiting = asyncio.wrap_future(future)
        # The exception is read here; otherwise asyncio would complain that it was never retrieved.
        waiting.add_done_callback(lambda done: done.cancelled() or done.exception())
        while not (await asyncio.wait({waiting}, timeout=_LOOK_SECONDS))[0]:
            self._check(future)
        return waiting.result()

    def close(self) -> None:
        """End the threads that do not hang; those that do delay no exit."""
        self._ending.set()
        for threads in (self._threads, self._probing):
            threads.close()

    def _submit(self, work: Callable[[], T]) -> Future[T]:
        self._start()
        if self._hangs or self._ending.is_set():
            REFUSED.inc()
            raise ShareUnwellError
        return self._threads.submit(work)

    def _check(self, future: Future[Any]) -> None:
        if self._hangs or self._ending.is_set():
            # Work that has not begun does not begin.
            future.cancel()
            REFUSED.inc()
            raise ShareUnwellError

    def _start(self) -> None:
        with self._begin:
            if self._watch.ident is None:
                self._watch.start()

    def _look(self) -> None:
        try:
            while not self._ending.is_set():
                self._look_once()
                self._ending.wait(_PROBE_SECONDS)
        finally:
            # The process may live on, and no thread in it checks any more.
            UNWELL.set(0)

    def _look_once(self) -> None:
        asked = self._probing.submit(self._probe)
        while not asked.done() and not self._ending.is_set():
            try:
                asked.exception(_PROBE_SECONDS if self._hangs else self._patience)
            except TimeoutError:
                self._judge(hangs=True)
        if asked.done():
            self._found = _found(asked)
            self._judge(hangs=False)

    def _judge(self, *, hangs: bool) -> None:
        if hangs != self._hangs:
            logger.warning("share_unwell" if hangs else "share_well")
        self._hangs = hangs
        UNWELL.set(int(hangs))
        self._looked.set()


class _Threads:
    """A bounded number of threads, begun on demand. They are daemons: one that hangs delays no exit."""

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._work: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._begun: list[threading.Thread] = []
        self._lock = threading.Lock()

    def here(self) -> bool:
        """Return whether the current thread is one of them."""
        return threading.current_thread() in self._begun

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Run a function on one of them."""
        future: Future[T] = Future()
        self._work.put((future, work))
        with self._lock:
            if len(self._begun) < self._most:
                thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._begun.append(thread)
                thread.start()
        return future

    def close(self) -> None:
        """End each thread after its current work."""
        for _ in self._begun:
            self._work.put(None)

    def _run(self) -> None:
        while (item := self._work.get()) is not None:
            future, work = item
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(work())
            except BaseException as error:  # noqa: BLE001 - whoever waits gets it, whatever it is
                future.set_exception(error)
            # No reference to the work is kept until the next work comes.
            del future, work, item


def answers(root: Path) -> str | None:
    """Ask a file system for its size, which no cache answers; return the reason of a failure, or None."""
    try:
        os.statvfs(root)
    except OSError as error:
        return f"the share cannot be read: {error.strerror or error}"
    return None


def _found(asked: Future[str | None]) -> str:
    error = asked.exception()
    return (asked.result() or "") if error is None else f"the share cannot be looked at: {error}"
