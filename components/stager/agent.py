"""The stager on the bus: it takes requests in the queue group `staging`, runs tasks side by side, and answers."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from prometheus_client import Counter, Gauge, Histogram

from components.common import aio, log
from components.common.bus.client import Bus, Incoming
from components.common.bus.messages import StagingReply, StagingRequest
from components.common.identity import Identity
from components.stager.config import StagerConfig
from components.stager.errors import StagingError
from components.stager.sandbox import Sandbox
from components.stager.staging_task import StagingTask

SUBJECT = "staging"
QUEUE = "staging"
_LOOK_SECONDS = 0.2
# How long a task that was told to end may take to clear its box.
_CLEAR_SECONDS = 10.0
FINISHED = Counter("ingot_staging_tasks_total", "Staging tasks that ended.", ["outcome"])
ACTIVE = Gauge("ingot_staging_tasks_active", "Staging tasks at work.")
WAITING = Gauge("ingot_staging_tasks_waiting", "Staging tasks that wait for their turn.")
SECONDS = Histogram(
    "ingot_staging_task_seconds",
    "How long staging tasks took, from their turn on.",
    buckets=(1, 2, 5, 10, 20, 30, 60, 120, 240),
)
logger = log.get(__name__)


class Agent:
    """The stager.

    Args:
        config: the stager's.
        bus: not started yet.
        identity: announced by the daemon.
        sandbox: for builds; by default the one of the configuration.
    """

    def __init__(
        self, config: StagerConfig, bus: Bus, identity: Identity, sandbox: Sandbox | None = None
    ) -> None:
        self._config = config
        self._bus = bus
        self.identity = identity
        self._sandbox = sandbox or Sandbox(config)
        self._turns = asyncio.Semaphore(config.max_tasks)
        self._tasks: set[asyncio.Task[None]] = set()
        self._active = 0
        self._counts = {"done": 0, "failed": 0}
        self._stopping = False
        bus.subscribe(SUBJECT, StagingRequest, self._take, queue=QUEUE)

    async def start(self) -> None:
        """See `Component.start`."""
        await self._sandbox.prepare()

    async def stop(self) -> None:
        """Take no more requests, finish the accepted ones within `stop_seconds`, end the rest with an answer."""
        self._stopping = True
        await self._bus.unsubscribe(SUBJECT)
        if self._tasks:
            logger.info("finishing_tasks", tasks=len(self._tasks))
            _done, late = await asyncio.wait(self._tasks, timeout=self._config.stop_seconds)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=_CLEAR_SECONDS)
        await self._sandbox.shut()

    def ready(self) -> list[str]:
        """See `Component.ready`."""
        reasons = []
        if not self._bus.connected:
            reasons.append("no connection to the bus")
        if self._stopping:
            reasons.append("stopping")
        if not os.access(self._config.python, os.X_OK):
            reasons.append(f"{self._config.python} is not there")
        if not os.access(Path(self._config.work_dir), os.W_OK):
            reasons.append(f"{self._config.work_dir} cannot be written to")
        elif lack := self._sandbox.room_problem():
            reasons.append(f"the disk of {self._config.work_dir} is full: {lack}")
        return reasons

    def varz(self) -> dict[str, object]:
        """See `Component.varz`."""
        return {
            "max_tasks": self._config.max_tasks,
            "active_tasks": self._active,
            "waiting_tasks": len(self._tasks) - self._active,
            "tasks_done": self._counts["done"],
            "tasks_failed": self._counts["failed"],
            "sandbox": self._config.sandbox,
            "folders_to_remove": self._sandbox.waiting,
        }

    async def _take(self, message: Incoming[StagingRequest]) -> None:
        """Start a task of its own for a request."""
        work = aio.spawn(self._tasks, self._work(message), f"staging-{message.body.app_id}")
        work.add_done_callback(self._forget)
        WAITING.set(len(self._tasks) - self._active)

    def _forget(self, work: asyncio.Task[None]) -> None:
        WAITING.set(len(self._tasks) - self._active)
        if not work.cancelled() and (error := work.exception()) is not None:
            logger.error("staging_task_lost", reason=repr(error))

    async def _work(self, message: Incoming[StagingRequest]) -> None:
        staging = StagingTask(message.body, self._config, self._sandbox, self._bus.publish)
        try:
            reply = await self._run(staging)
        except asyncio.CancelledError:
            # Only `stop` cancels: the answer is the last thing this task does.
            reply = staging.failed(StagingError("compile", "the stager was stopped", "Push again."))
        except Exception as error:
            logger.exception("staging_broken", app=message.body.app_id, task=staging.id)
            reply = staging.failed(
                StagingError(
                    "compile", f"the stager's own fault ({type(error).__name__})", "Tell the operator."
                )
            )
        outcome = "failed" if reply.error else "done"
        self._counts[outcome] += 1
        FINISHED.labels(outcome).inc()
        await self._answer(message, reply)

    async def _run(self, staging: StagingTask) -> StagingReply:
        if len(self._tasks) > self._config.max_tasks + self._config.max_waiting:
            return staging.failed(
                # Controllers of earlier releases read only the beginning of the text, `queue failed`.
                StagingError(
                    "queue",
                    "too many applications are waiting to be staged",
                    "Try again in a minute.",
                    retry=True,
                )
            )
        async with self._turns:
            self._active += 1
            ACTIVE.set(self._active)
            WAITING.set(len(self._tasks) - self._active)
            began = time.monotonic()
            try:
                return await staging.run()
            finally:
                SECONDS.observe(time.monotonic() - began)
                self._active -= 1
                ACTIVE.set(self._active)

    async def _answer(self, message: Incoming[StagingRequest], reply: StagingReply) -> None:
        """Answer, waiting a while for a bus that is away; the upload has told the controller the result already."""
        if not message.wants_reply:
            return
        deadline = time.monotonic() + (1 if self._stopping else self._config.reply_seconds)
        while not await message.respond(reply):
            if time.monotonic() > deadline:
                logger.warning("reply_not_sent", app=message.body.app_id, task=reply.task_id)
                return
            await asyncio.sleep(_LOOK_SECONDS)
