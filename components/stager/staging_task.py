"""One staging task: download, build in the sandbox, upload; every line of its log goes out as it is written."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import os
import time
from collections.abc import Awaitable, Callable

import aiohttp
import msgspec

from components.common import log
from components.common.bus.messages import StagingReply, StagingRequest
from components.common.filesystem.trees import Weight
from components.common.identity import new_id
from components.common.units import UnitError, UnitStatus
from components.stager.build import BuildResult
from components.stager.config import StagerConfig
from components.stager.errors import StagingError
from components.stager.sandbox import Box, Sandbox, open_droplet, read_result
from components.stager.staging_log import StagingLog
from components.stager.transfer import download, upload

_LOOK_SECONDS = 0.1
_WEIGH_SECONDS = 1.0
_BLOCK = 64 * 1024
# A build that writes more than this to its log is ended.
_MOST_OUTPUT = 32 * 1024 * 1024
_MB = 1024 * 1024
_OPERATOR = "Tell the operator."
_SIGKILL = 9
logger = log.get(__name__)

Publish = Callable[[str, object], Awaitable[bool]]


class LogLine(msgspec.Struct, frozen=True):
    """One line on `ingot.staging.<app id>.log`; `seq` counts from 1 within the task."""

    task_id: str
    seq: int
    line: str


class StagingTask:
    """The work on one request.

    Args:
        request: the controller's.
        config: the stager's.
        sandbox: for builds.
        publish: sends a message to a subject; may fail quietly.
    """

    def __init__(
        self, request: StagingRequest, config: StagerConfig, sandbox: Sandbox, publish: Publish
    ) -> None:
        self.id = new_id()
        self.request = request
        self._config = config
        self._sandbox = sandbox
        self._publish = publish
        self._log = StagingLog()
        self._seq = 0
        self._broken: StagingError | None = None
        self._weigh_at = 0.0

    async def run(self) -> StagingReply:
        """Run the task; a failure is in the reply, never raised."""
        try:
            size = await self._stage()
        except StagingError as error:
            # Before the failure is added to the log: the text contains it once.
            text = error.with_log(self._log.tail())
            await self._say(f"-----> {error}")
            logger.warning("staging_failed", app=self.request.app_id, task=self.id, stage=error.stage)
            return StagingReply(self.id, self._log.text(), text)
        except (UnitError, OSError) as error:
            logger.exception("staging_broken", app=self.request.app_id, task=self.id)
            return self.failed(StagingError("compile", f"the stager cannot run a build ({error})", _OPERATOR))
        logger.info("staging_done", app=self.request.app_id, task=self.id, bytes=size)
        return StagingReply(self.id, self._log.text())

    def failed(self, error: StagingError) -> StagingReply:
        """Return the reply for a failure, with the log's end in its text."""
        return StagingReply(self.id, self._log.text(), error.with_log(self._log.tail()), error.retry)

    async def _stage(self) -> int:
        config = self._config
        box = await self._sandbox.open(self.id, self.request.app_id)
        try:
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=30)
            async with aiohttp.ClientSession(timeout=timeout) as session:
                await self._say("-----> Download")
                size = await download(
                    session,
                    self.request.download_uri,
                    box.package,
                    config.max_package_mb,
                    config.transfer_seconds,
                )
                await self._say(f"       {size / 1024:.0f} KB")
                box.package.chmod(0o644)
                await self._build(box)
                droplet = open_droplet(box, config.max_droplet_mb)
                try:
                    await self._say("-----> Upload")
                    await upload(session, self.request.upload_uri, droplet, config.transfer_seconds)
                    return os.fstat(droplet).st_size
                finally:
                    os.close(droplet)
        finally:
            # Also when this task is cancelled: nothing of it may stay.
            await asyncio.shield(asyncio.ensure_future(self._sandbox.close(box)))

    async def _build(self, box: Box) -> None:
        await self._sandbox.start(box, self.request.properties)
        ended = asyncio.Event()
        reader = asyncio.create_task(self._follow(box, ended), name=f"log-{self.id}")
        try:
            status = await self._sandbox.wait(box)
        finally:
            ended.set()
            await reader
        if self._broken is not None:
            raise self._broken
        problem = failure_of(status, read_result(box), self._config)
        if problem is not None:
            raise problem

    async def _follow(self, box: Box, ended: asyncio.Event) -> None:
        """Publish lines as the build writes them, and end a build that fills the disk."""
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        rest, taken = "", 0
        with box.output.open("rb") as file:
            while True:
                # Checked before reading, so that the last output is not missed.
                last = ended.is_set()
                block = file.read(_BLOCK)
                taken += len(block)
                *lines, rest = (rest + decoder.decode(block)).split("\n")
                if len(rest) > _BLOCK:
                    # An unended line of this length is published as one, because it may never end.
                    lines, rest = [*lines, rest], ""
                for line in lines:
                    await self._say(line)
                await self._guard(box, taken)
                if not block:
                    if last:
                        break
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(ended.wait(), _LOOK_SECONDS)
        if rest:
            await self._say(rest)

    async def _guard(self, box: Box, taken: int) -> None:
        if self._broken is not None:
            return
        if taken > _MOST_OUTPUT:
            self._broken = StagingError(
                read_result(box).stage, "the build wrote too long a log and was ended", "Make it quieter."
            )
        elif much := await self._too_much(box):
            self._broken = StagingError(
                read_result(box).stage,
                f"the build {much} and was ended",
                "Depend on less, or ask the operator for a higher limit.",
            )
        elif lack := self._sandbox.room_problem():
            self._broken = StagingError(
                read_result(box).stage,
                f"the stager's disk is nearly full ({lack}); the build was ended",
                _OPERATOR,
            )
        if self._broken is not None:
            await self._sandbox.kill(box)

    async def _too_much(self, box: Box) -> str | None:
        """Return in words which limit of the disk the build exceeds; None when none, or when it was checked a moment ago."""
        now = time.monotonic()
        if now < self._weigh_at:
            return None
        began = now
        used = await asyncio.to_thread(self._sandbox.used, box)
        # A folder that takes long to walk is walked less often.
        self._weigh_at = time.monotonic() + max(_WEIGH_SECONDS, 10 * (time.monotonic() - began))
        return too_much(used, self._config)

    async def _say(self, line: str) -> None:
        shown = self._log.add(line)
        if shown is not None:
            self._seq += 1
            await self._publish(
                f"ingot.staging.{self.request.app_id}.log", LogLine(self.id, self._seq, shown)
            )


def too_much(used: Weight, config: StagerConfig) -> str | None:
    """Return in words which limit a build exceeds; None when none; pure."""
    if used.size > config.disk_mb * _MB:
        return f"took more than {config.disk_mb} MB of disk"
    if used.count > config.most_files:
        return f"made more than {config.most_files} files and folders"
    return None


def failure_of(status: UnitStatus, result: BuildResult, config: StagerConfig) -> StagingError | None:
    """Return the failure of a build from its unit's end and its own result, None when it succeeded; pure."""
    if status.result == "timeout":
        return StagingError(
            result.stage,
            f"it took longer than {config.max_seconds} s and was ended",
            "Depend on less, ship what is needed in vendor/ or node_modules, or ask the operator for a higher limit.",
        )
    if status.result == "oom-kill" or status.signal == _SIGKILL:
        return StagingError(
            result.stage,
            f"the build was ended for want of memory (it may have {config.memory_mb} MB)",
            "Depend on less, or ask the operator for a higher limit.",
        )
    if result.reason:
        return StagingError(result.stage, result.reason, result.remedy)
    if status.exit_code == 0 and result.ok:
        return None
    return StagingError(result.stage, f"the build {status.describe()} without a result", _OPERATOR)
