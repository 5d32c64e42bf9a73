"""One-off tasks: a command that runs once in an application's sandbox (docs/decisions/0007-the-core.md)."""

from __future__ import annotations

import asyncio
import re
import time

from prometheus_client import Counter

from components.common import log
from components.common.bus.operation_messages import TaskEnded, TaskReply, TaskStart
from components.common.errors import IngotError
from components.common.states import InstanceState
from components.common.units import UnitError, UnitState, UnitStatus
from components.dea.errors import NoRoomError, StartError
from components.dea.instances.instance import TASK_PREFIX, Instance, TaskFacts
from components.dea.limits import exit_reason
from components.dea.supervision.unit_supervisor import UnitSupervisor

TASKS = Counter("ingot_dea_tasks_total", "One-off tasks, by how they ended.", ["result"])
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_TAIL_BYTES = 64 * 1024
# The service manager ends a task that runs too long, also while there is no agent; where it cannot, the agent does.
_SLACK_SECONDS = 2.0
_STOPPED = "stopped"
logger = log.get(__name__)


class TaskSupervisor(UnitSupervisor):
    """The supervisor of one-off tasks; its `recover` comes after that of instances, which reads all records."""

    unit_prefix = TASK_PREFIX

    def start(self, message: TaskStart) -> TaskReply:
        """Accept a task, or return the reason of a refusal. A task that is here already is not run again."""
        known = self._registry.get(message.task)
        if known is not None and known.is_task:
            return TaskReply(task=message.task)
        problem = self._problem(message, known)
        if problem is None:
            now = time.time()
            record = Instance.of(message.start, message.task, now)
            # It has no route, so it has no port and proves nothing.
            record.uris, record.health = [], None
            record.task = TaskFacts(
                timeout=message.timeout, deadline=now + message.timeout, ends=_running() + message.timeout
            )
            try:
                self._admit(record)
            except NoRoomError as error:
                problem = str(error)
            else:
                self._spawn(self._start(record, message), f"task-{record.id}")
        if problem is not None:
            logger.warning("task_refused", task=message.task, app=message.start.droplet, reason=problem)
        return TaskReply(task=message.task, error=problem)

    async def stop(self, task: str) -> TaskReply:
        """End a task: gently, then by force; its end is announced like any other."""
        record = self._registry.get(task)
        if record is None or not record.is_task:
            return TaskReply(task=task, error="no such task runs here")
        if record.live and record.id not in self._verdicts:
            self._verdicts[record.id] = _STOPPED
            self._spawn(self._stop(record), f"stop-{record.id}")
        return TaskReply(task=task)

    async def tell_untold(self) -> None:
        """Announce the ends that could not be announced while the bus was away."""
        for record in self._registry.tasks():
            # A task that is being cleaned up announces its end by itself.
            if record.state is InstanceState.DELETED:
                await self._tell(record)

    def _problem(self, message: TaskStart, known: Instance | None) -> str | None:
        if not _ID.fullmatch(message.task) or known is not None:
            return "its id cannot be one of a task"
        if (leaving := self._state.refusal()) is not None:
            return leaving
        if message.timeout <= 0 or not message.command.strip() or "\0" in message.command:
            return "it has no command, or no time"
        return self._unable(message.start)

    def _records(self) -> list[Instance]:
        return self._registry.tasks()

    def _note_end(self, record: Instance, why: str, *, cut: bool) -> None:  # noqa: ARG002 - a task leaves no files
        logger.warning("task_over_limit", task=record.id, app=record.droplet, reason=why)

    def _resume(self, record: Instance, status: UnitStatus | None) -> None:
        assert record.task is not None
        if record.task.ended is not None:
            self._spawn(self._wind_up(record), f"task-{record.id}")
        elif status is not None and status.state is not UnitState.MISSING:
            logger.info("task_adopted", task=record.id, app=record.droplet)
            self._spawn(self._supervise(record), f"task-{record.id}")
        else:
            began = record.state is InstanceState.RUNNING
            why = "ended unseen" if began else "the agent ended before the task began"
            self._spawn(self._finish(record, None, why), f"task-{record.id}")

    async def _start(self, record: Instance, message: TaskStart) -> None:
        try:
            await self._prepare(record, message.start)
            variables = self._variables(record, message.start)
            spec = await asyncio.to_thread(self._launcher.task_spec, record, variables, message.command)
            if record.id in self._verdicts:
                await self._finish(record, None, self._verdicts[record.id])
                return
            record.move(InstanceState.RUNNING, time.time())
            # Recorded before it begins: whatever happens now, it is not begun a second time.
            self._note_begin()
            await self._runner.start(spec)
            if record.id in self._verdicts:
                # It was stopped in this very moment.
                await self._runner.kill(record.unit)
        except Exception as error:
            if not isinstance(error, (StartError, UnitError)):
                logger.exception("start_broken", task=record.id, app=record.droplet)
            said = str(error) if isinstance(error, IngotError) else "the agent's own fault"
            await self._finish(record, None, self._verdicts.get(record.id) or said)
            return
        logger.info("task_running", task=record.id, app=record.droplet)
        await self._supervise(record)

    def _note_begin(self) -> None:
        if not self.save():
            raise StartError("the DEA's disk is full: that it begins cannot be written down")

    async def _stop(self, record: Instance) -> None:
        if record.state is InstanceState.RUNNING:
            await self._end_unit(record)

    async def _supervise(self, record: Instance) -> None:
        assert record.task is not None
        left = record.task.left(time.time(), _running()) + _SLACK_SECONDS
        try:
            status = await asyncio.wait_for(self._runner.wait(record.unit), max(left, 0.1))
        except TimeoutError:
            await self.end(record, _too_long(record.task))
            status = await self._runner.wait(record.unit)
        why = self._verdicts.get(record.id)
        if why is None and status.result == "timeout":
            why = _too_long(record.task)
        if why is None and status.exit_code is not None and status.result != "oom-kill":
            crowd = self._context.crowded(record.id) if status.exit_code else None
            said = exit_reason.describe(status, record.limits, self._config.file_mb, crowd)
            await self._finish(record, status.exit_code, "" if status.exit_code == 0 else said)
            return
        await self._finish(
            record, None, why or exit_reason.describe(status, record.limits, self._config.file_mb, None)
        )

    async def _finish(self, record: Instance, exit_status: int | None, detail: str) -> None:
        """Record the result of a task, once, and wind it up."""
        assert record.task is not None
        if record.task.ended is not None:
            return
        if record.state is not InstanceState.STOPPING:
            record.move(InstanceState.STOPPING, time.time(), detail)
        await self._logs.finish(record.id)
        record.task.ended = TaskEnded(
            task=record.id,
            dea=self._state.dea,
            exit_status=exit_status,
            detail=detail,
            tail=self._logs.tail(record.id, _TAIL_BYTES),
        )
        self.save()
        TASKS.labels("succeeded" if exit_status == 0 else "failed").inc()
        logger.info("task_ended", task=record.id, app=record.droplet, status=exit_status, reason=detail)
        await self._wind_up(record)

    async def _wind_up(self, record: Instance) -> None:
        """Clean up after an ended task, and announce its end."""
        await self._end_unit(record)
        if record.state is not InstanceState.DELETED:
            record.move(InstanceState.DELETED, time.time())
        self._give_back(record)
        self.save()
        await self._context.gone.take(self._launcher.directory(record))
        if record.told:
            # An earlier agent announced it, and ended before it removed the log.
            await self._forget(record)
        else:
            await self._tell(record)

    async def _forget(self, record: Instance) -> None:
        await self._logs.drop(record.id)
        self._registry.remove(record)
        self.save()

    async def _linger(self, record: Instance) -> None:
        """Keep the log for readers that read it to its end."""
        await asyncio.sleep(self._config.task_keep)
        await self._forget(record)

    async def _tell(self, record: Instance) -> None:
        assert record.task is not None
        assert record.task.ended is not None
        if record.told:
            return
        # Before the attempt: the bus may come back in the middle of it and ask for it again.
        record.told = True
        record.told = await self._announcer.task_ended(record.task.ended)
        if record.told:
            self.save()
            self._spawn(self._linger(record), f"task-{record.id}")


def _running() -> float:
    """Return the seconds since the machine's start, a clock that the next agent shares."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _too_long(task: TaskFacts) -> str:
    return f"ran longer than {task.timeout:g} s"
