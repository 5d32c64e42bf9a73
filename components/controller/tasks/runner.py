"""One-off tasks: a command run once beside an application (docs/decisions/0007-the-core.md).

The row is written first, then its DEA, then that DEA is asked. If a process dies in between, another controller finds the
row and ends it by the DEAs' beats. A second DEA is asked only if the first refused.
"""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from components.common import log
from components.common.bus.messages import DeaStart
from components.common.bus.operation_messages import TaskEnded, TaskRef, TaskReply, TaskStart
from components.common.bus.thread import BusThread
from components.common.database import BATCH
from components.common.errors import BusError, MessageError
from components.controller.accounts.auth import Caller
from components.controller.accounts.quotas import check_registered, lock, standing
from components.controller.apps import rows as app_rows
from components.controller.apps.change_plan import LEAST_MEMORY
from components.controller.apps.messages import start_message
from components.controller.config import ControllerConfig
from components.controller.db.database import Database
from components.controller.db.models_records import OPEN_TASKS, Task, TaskState
from components.controller.errors import ApiError, Code, bad_request, invalid_app
from components.controller.pool.placement import Need
from components.controller.pool.registry import LOST, Pool
from components.controller.requests.query import members, whole
from components.controller.storage.store import Store
from components.controller.tasks.watch import Heard, Open, TaskWatch

LONGEST_COMMAND = 4096
LONGEST_TAIL = 64 << 10
LISTED = 100
# The number of an application's ended tasks that keep the tail of their output; only as many as are listed are kept at all.
TAILS = 20
DEFAULT_TIMEOUT = 3600
ANSWER_SECONDS = 5.0
_ROOM_SECONDS = 2.0
_TRIES = 3
_DAY = 86400.0
_chooser = random.SystemRandom()
logger = log.get(__name__)


@dataclass(frozen=True, slots=True)
class TaskLog:
    """The place of a task's lines."""

    state: str
    uri: str
    credentials: list[str]
    tail: str


class TaskRunner:
    """The operations on one-off tasks."""

    def __init__(
        self, config: ControllerConfig, db: Database, store: Store, bus: BusThread, pool: Pool
    ) -> None:
        self._config = config
        self._db = db
        self._store = store
        self._bus = bus
        self._pool = pool
        self._watch = TaskWatch()

    def create(self, caller: Caller, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Start a task; return its JSON once a DEA has taken it, or all have refused.

        Raises:
            ApiError: BAD_REQUEST naming the member; APP_NOT_FOUND; APP_INVALID for an application without a droplet;
                ACCOUNT_NOT_ENOUGH_MEMORY, ACCOUNT_TOO_MANY_INSTANCES, ACCOUNT_NOT_ENOUGH_DISK, REGISTERED_ACCOUNTS_FULL over a quota.
        """
        members(body, ("command", "memory", "timeout"))
        command = body.get("command")
        if not isinstance(command, str) or not command.strip() or len(command) > LONGEST_COMMAND:
            raise bad_request(f"command: want a string of 1 to {LONGEST_COMMAND} characters")
        if "\0" in command:
            raise bad_request("command: want a string without NUL")
        timeout = whole(body, "timeout", DEFAULT_TIMEOUT, 1, self._config.max_task_seconds)
        with self._db.session() as session:
            # The application is locked first, as everywhere: a task's row locks it as well.
            app = app_rows.find(session, caller, name, lock=True)
            owner = lock(session.connection(), caller.id)
            start = start_message(app, self._config, self._store)
            memory = whole(body, "memory", app.memory, LEAST_MEMORY, 1 << 20) or app.memory
            if not owner or not start.sha1:
                raise invalid_app("nothing was staged yet that a command could run in")
            has = standing(session.connection(), self._config, caller.id)
            most = has.capacity
            if has.memory + memory > most.memory:
                raise ApiError(Code.ACCOUNT_NOT_ENOUGH_MEMORY, f"{most.memory}M")
            if has.instances >= most.instances:
                raise ApiError(Code.ACCOUNT_TOO_MANY_INSTANCES, has.instances + 1, most.instances)
            if has.disk + app.disk_quota > most.disk:
                raise ApiError(Code.ACCOUNT_NOT_ENOUGH_DISK, has.disk + app.disk_quota, most.disk)
            if has.registered:
                check_registered(self._db, session, self._config, memory, 1)
            _forget(session, app.id)
            task = Task(
                id=secrets.token_hex(16),
                app_id=app.id,
                command=command,
                memory=memory,
                timeout=float(timeout or DEFAULT_TIMEOUT),
                state=TaskState.PENDING,
                detail="",
                tail="",
                dea="",
                log_uri="",
                credentials=[],
                by=caller.by or caller.email,
                created_at=time.time(),
            )
            session.add(task)
            id_ = task.id
        message = TaskStart(
            task=id_,
            command=command,
            start=msgspec.structs.replace(
                start, uris=[], limits=msgspec.structs.replace(start.limits, mem=memory)
            ),
            timeout=task.timeout,
        )
        self._place(message)
        return self.show(caller, name, id_)

    def listing(self, caller: Caller, name: str) -> list[dict[str, Any]]:
        """Return the JSON of an application's tasks, newest first."""
        with self._db.session() as session:
            app = app_rows.find(session, caller, name)
            query = select(Task).where(Task.app_id == app.id).order_by(Task.created_at.desc(), Task.id)
            return [to_json(task) for task in session.scalars(query.limit(LISTED))]

    def show(self, caller: Caller, name: str, id_: str) -> dict[str, Any]:
        """Return a task's JSON.

        Raises:
            ApiError: APP_NOT_FOUND, APP_FILE_NOT_FOUND.
        """
        with self._db.session() as session:
            return to_json(_own(session, caller, name, id_))

    def stop(self, caller: Caller, name: str, id_: str) -> dict[str, Any]:
        """Stop a task and return its JSON; one that has ended stays as it is.

        Raises:
            ApiError: APP_NOT_FOUND, APP_FILE_NOT_FOUND.
        """
        with self._db.session() as session:
            _own(session, caller, name, id_)
        if self._close(id_, TaskState.FAILED, f"stopped by {caller.by or caller.email}"):
            with self._db.session() as session:
                dea = _own(session, caller, name, id_).dea
            self._tell_stop(dea, id_)
        return self.show(caller, name, id_)

    def log_of(self, caller: Caller, name: str, id_: str) -> TaskLog:
        """Return the place of a task's lines.

        Raises:
            ApiError: APP_NOT_FOUND, APP_FILE_NOT_FOUND.
        """
        with self._db.session() as session:
            task = _own(session, caller, name, id_)
            return TaskLog(task.state, task.log_uri, list(task.credentials), task.tail)

    def ended(self, message: TaskEnded) -> None:
        """Handle a DEA's message that a task has ended; a second message changes nothing but an empty tail."""
        good = message.exit_status == 0
        detail = message.detail or ("" if good else f"exit status {message.exit_status}")
        closed = self._close(
            message.task,
            TaskState.SUCCEEDED if good else TaskState.FAILED,
            detail,
            dea=message.dea,
            exit_status=_within(message.exit_status),
            tail=_clean(message.tail)[-LONGEST_TAIL:],
        )
        if not closed:
            with self._db.session() as session:
                session.execute(
                    update(Task)
                    .where(Task.id == message.task, Task.dea == message.dea, Task.tail == "")
                    .values(tail=_clean(message.tail)[-LONGEST_TAIL:])
                )

    def sweep(self, now: float) -> None:
        """Close tasks that ended without a message, and have DEAs stop tasks that are closed or unknown."""
        with self._db.session() as session:
            wall = time.time()
            known = [
                Open(t.id, t.dea, t.state == TaskState.PENDING, wall - t.created_at)
                for t in session.scalars(select(Task).where(Task.state.in_(OPEN_TASKS)))
            ]
        deas = {
            beat.id: Heard(frozenset(beat.tasks), lost=self._pool.state(beat.id, now) == LOST)
            for beat, _ in self._pool.beats()
        }
        if not known and not any(heard.tasks for heard in deas.values()):
            return
        found = self._watch.look(known, deas, now)
        for id_ in found.running:
            self._taken(id_, TaskReply(task=id_))
        for id_, why in found.over.items():
            if self._close(id_, TaskState.FAILED, why):
                logger.warning("task_given_up", task=id_, reason=why)
        for dea, ids in found.stray.items():
            for id_ in ids:
                self._tell_stop(dea, id_)

    def prune(self, now: float) -> None:
        """Delete tasks that ended long ago; `now` is seconds since 1970."""
        self._db.prune(Task, Task.ended_at < now - self._config.tasks_days * _DAY)

    def _place(self, message: TaskStart) -> None:
        refusals: list[str] = []
        for _ in range(_TRIES):
            dea = self._choose(message.start)
            if dea is None:
                refusals.append("no DEA has room for it")
                break
            if not self._assign(message.task, dea):
                return
            try:
                reply = self._bus.request(f"ingot.dea.{dea}.task", message, TaskReply, timeout=ANSWER_SECONDS)
            except (BusError, MessageError) as error:
                # The task may run there all the same, so no other DEA is asked; if it runs, it is stopped.
                logger.warning("task_not_answered", task=message.task, dea=dea, reason=str(error))
                self._tell_stop(dea, message.task)
                self._close(message.task, TaskState.FAILED, "the DEA chosen for it did not answer")
                return
            if reply.error is None:
                self._taken(message.task, reply)
                logger.info("task_placed", task=message.task, app=message.start.droplet, dea=dea)
                return
            refusals.append(reply.error)
        self._close(
            message.task, TaskState.FAILED, f"it could not be started: {'; '.join(dict.fromkeys(refusals))}"
        )

    def _choose(self, start: DeaStart) -> str | None:
        need = Need(start.droplet, start.limits.mem, start.limits.disk, start.runtime or "")
        deadline = time.monotonic() + _ROOM_SECONDS
        while True:
            chosen = self._pool.reserve(need, 1, _chooser.choice, time.monotonic())
            if chosen or time.monotonic() >= deadline:
                return chosen[0] if chosen else None
            time.sleep(0.1)

    def _assign(self, id_: str, dea: str) -> bool:
        with self._db.session() as session:
            query = update(Task).where(Task.id == id_, Task.state == TaskState.PENDING).values(dea=dea)
            return bool(session.execute(query).rowcount)  # type: ignore[attr-defined]

    def _taken(self, id_: str, reply: TaskReply) -> None:
        with self._db.session() as session:
            session.execute(
                update(Task)
                .where(Task.id == id_, Task.state == TaskState.PENDING)
                .values(state=TaskState.RUNNING, started_at=time.time())
            )
            if reply.log_uri:
                # Also for a task that has ended already: its DEA keeps the lines for a while.
                where = {"log_uri": reply.log_uri[:1024], "credentials": list(reply.credentials)}
                session.execute(update(Task).where(Task.id == id_).values(**where))

    def _close(self, id_: str, state: str, detail: str, dea: str | None = None, **more: Any) -> bool:
        """Close an open task; return False where it is not open. With `dea`, only a task of that DEA."""
        query = update(Task).where(Task.id == id_, Task.state.in_(OPEN_TASKS))
        if dea is not None:
            query = query.where(Task.dea == dea)
        values = {"state": state, "detail": _clean(detail)[:1000], "ended_at": time.time(), **more}
        with self._db.session() as session:
            return bool(session.execute(query.values(**values)).rowcount)  # type: ignore[attr-defined]

    def _tell_stop(self, dea: str, id_: str) -> None:
        if dea:
            self._bus.publish(f"ingot.dea.{dea}.task_stop", TaskRef(task=id_))


def to_json(task: Task) -> dict[str, Any]:
    """Return a task's JSON (docs/platform.md); times are seconds since 1970."""
    return {
        "id": task.id,
        "command": task.command,
        "memory": task.memory,
        "timeout": task.timeout,
        "state": task.state,
        "exit_status": task.exit_status,
        "detail": task.detail,
        "created": _rounded(task.created_at),
        "started": _rounded(task.started_at),
        "ended": _rounded(task.ended_at),
        "by": task.by,
    }


def _forget(session: Session, app_id: int) -> None:
    """Bound the rows of an application's ended tasks, however many it begins within the days for which they are kept."""
    ended = select(Task.id).where(Task.app_id == app_id, Task.ended_at.is_not(None))
    newest = ended.order_by(Task.ended_at.desc(), Task.id)
    # One more is about to be added. A list of ids, because not every database can limit a DELETE, and a bounded one, because
    # parameters of a statement are: where an earlier release left more rows, each new task removes some.
    old = list(session.scalars(newest.offset(TAILS - 1).limit(BATCH)))
    if old:
        session.execute(update(Task).where(Task.id.in_(old), Task.tail != "").values(tail=""))
        session.execute(delete(Task).where(Task.id.in_(old[LISTED - TAILS :])))


def _own(session: Session, caller: Caller, name: str, id_: str) -> Task:
    app = app_rows.find(session, caller, name)
    task = session.get(Task, id_) if "\0" not in id_ else None
    if task is None or task.app_id != app.id:
        raise ApiError(Code.APP_FILE_NOT_FOUND, f"tasks/{id_[:64]}")
    return task


def _within(status: int | None) -> int | None:
    # The range of the column.
    return None if status is None else max(-(1 << 31), min(status, (1 << 31) - 1))


def _clean(text: str) -> str:
    # PostgreSQL accepts no NUL in a text.
    return text.replace("\0", "")


def _rounded(at: float | None) -> float | None:
    return None if at is None else round(at, 3)
