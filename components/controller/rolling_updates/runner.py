"""The runner of rolling updates: it observes the instances, takes the next step, and records the progress.

Every worker of every controller looks for updates without a holder; the row has all that another worker needs to go on.
Steps are recorded before they are taken, so that a successor never repeats a start that is under way.
"""

from __future__ import annotations

import threading
import time
import uuid
from dataclasses import dataclass, field

from prometheus_client import Counter
from sqlalchemy import or_, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from components.common import log
from components.common.bus.messages import DeaStart, DropletExited, FindDroplet, FoundDroplet
from components.common.bus.thread import BusThread
from components.common.errors import BusError
from components.common.periodic import Periodic
from components.common.states import LIVE, AppState, InstanceState
from components.controller.apps import rows as app_rows
from components.controller.apps.messages import start_message
from components.controller.config import ControllerConfig
from components.controller.db.database import Database
from components.controller.db.models import OPEN_UPDATES, App, AppUpdate, UpdateState
from components.controller.instances.dispatcher import Dispatcher
from components.controller.instances.queries import STEP_SECONDS, find
from components.controller.rolling_updates import rows as update_rows
from components.controller.rolling_updates import saved_states
from components.controller.rolling_updates.plan import Goal, Outcome, Seen, Step, next_step
from components.controller.services.broker import ServiceBroker
from components.controller.services.rows import Bound
from components.controller.storage.store import Store

UPDATES = Counter("ingot_controller_updates_total", "Rolling updates, by how they ended.", ["result"])
LOOK_SECONDS = 1.0
TURN_SECONDS = 0.3
# A holder that has not renewed its row for this long has died.
HOLD_SECONDS = 8.0
# The time for which an unmentioned instance still counts: its DEA's answer may have been lost, or late.
_REMEMBER_SECONDS = 3.0
# The reason of a crash may arrive a moment after the crash is seen.
_REASON_SECONDS = 1.0
# The time to fetch and unpack a droplet, in addition to that of the health check.
_FETCH_SECONDS = 20.0
_HEALTH_SECONDS = 60.0
_MOST = 16
_JUMP_SECONDS = 1.0
logger = log.get(__name__)


@dataclass
class _Memory:
    """The memory of one worker about an update that it holds; a successor begins without one."""

    seen: dict[str, tuple[FoundDroplet, float]] = field(default_factory=dict)
    since: dict[tuple[str, str], float] = field(default_factory=dict)
    exited: dict[str, str] = field(default_factory=dict)
    sent: dict[int, float] = field(default_factory=dict)
    no_room: set[int] = field(default_factory=set)
    of: tuple[str, str] = ("", "")
    # The database's clock minus this process's.
    ahead: float | None = None

    def jump(self, now: float, monotonic: float) -> float:
        """Return the seconds by which the database's clock was set since the last call; less than a second counts as none."""
        ahead = now - monotonic
        jump = ahead - self.ahead if self.ahead is not None else 0.0
        self.ahead = ahead
        return jump if abs(jump) >= _JUMP_SECONDS else 0.0


@dataclass(frozen=True, slots=True)
class _Facts:
    serial: str
    state: str
    goal: Goal


@dataclass(frozen=True, slots=True)
class _Written:
    """A recorded step: the start message, the state (empty where the row has changed), and the bindings to be removed."""

    message: DeaStart | None
    state: str
    gone: list[Bound] = field(default_factory=list)


class RollingUpdates:
    """The updates that this worker holds."""

    def __init__(
        self,
        config: ControllerConfig,
        db: Database,
        store: Store,
        bus: BusThread,
        *,
        dispatcher: Dispatcher,
        services: ServiceBroker,
    ) -> None:
        self._config = config
        self._db = db
        self._store = store
        self._bus = bus
        self._dispatcher = dispatcher
        self._services = services
        self._holder = uuid.uuid4().hex
        self._held: dict[int, _Memory] = {}
        self._lock = threading.Lock()
        self._periodic = Periodic("updates", LOOK_SECONDS, self._look, "updates_not_read")
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin to look for updates."""
        self._periodic.start()

    def wake(self) -> None:
        """Look for updates at once, because one was opened."""
        self._periodic.wake()

    def leave(self) -> None:
        """Begin the hand-over: held updates are released after the present step."""
        self._periodic.leave()

    def stop(self) -> None:
        """Hand over the held updates, and wait for the end."""
        self._periodic.stop()
        for thread in self._threads:
            thread.join(timeout=5)

    def exited(self, message: DropletExited) -> None:
        """Store the reason why an instance ended."""
        with self._lock:
            memory = self._held.get(message.droplet)
        if memory is not None:
            memory.exited[message.instance] = message.detail

    def _look(self) -> None:
        if not self._bus.bus.connected:
            return
        try:
            taken = self._take()
        except SQLAlchemyError as error:
            logger.warning("updates_not_read", reason=type(error).__name__)
            return
        for app_id in taken:
            with self._lock:
                self._held[app_id] = _Memory()
            thread = threading.Thread(target=self._run, args=(app_id,), name=f"update-{app_id}", daemon=True)
            self._threads = [t for t in self._threads if t.is_alive()] + [thread]
            thread.start()

    def _take(self) -> list[int]:
        """Take updates without a holder; return their applications' ids."""
        with self._lock:
            held = set(self._held)
        if len(held) >= _MOST:
            return []
        taken = []
        with self._db.session() as session:
            now = self._db.now(session)
            due = (
                select(AppUpdate)
                .where(AppUpdate.state.in_(OPEN_UPDATES))
                # The second case: the clock was set back since the renewal.
                .where(or_(AppUpdate.alive_until < now, AppUpdate.alive_until > now + HOLD_SECONDS))
                .order_by(AppUpdate.started_at)
                .limit(_MOST - len(held))
                .with_for_update(skip_locked=True)
            )
            for update in session.scalars(due):
                if update.app_id in held:
                    continue
                update.holder, update.alive_until = self._holder, now + HOLD_SECONDS
                taken.append(update.app_id)
        return taken

    def _run(self, app_id: int) -> None:
        memory = self._held[app_id]
        logger.info("update_taken", app=app_id)
        try:
            while self._step(app_id, memory):
                if self._periodic.wait(TURN_SECONDS):
                    self._give_back(app_id)
                    return
        except (SQLAlchemyError, BusError) as error:
            # The row is no longer renewed, so that another worker goes on.
            logger.warning("update_interrupted", app=app_id, reason=type(error).__name__)
        except Exception:
            logger.exception("update_interrupted", app=app_id)
        finally:
            with self._lock:
                self._held.pop(app_id, None)

    def _give_back(self, app_id: int) -> None:
        with self._db.session() as session:
            update = session.get(AppUpdate, app_id, with_for_update=True)
            if update is not None and update.holder == self._holder:
                update.holder, update.alive_until = "", 0.0

    def _step(self, app_id: int, memory: _Memory) -> bool:
        """Take one step; return False when this worker has nothing more to do."""
        facts = self._read(app_id, memory)
        if facts is None:
            return False
        seen = self._observe(app_id, memory)
        step = next_step(facts.goal, seen)
        written = self._write(app_id, facts, step)
        message, state = written.message, written.state
        if state == "":
            return True
        if step.outcome == Outcome.FAILED and message is not None:
            # The running instances may have got routes that were taken back.
            self._dispatcher.update(message)
            self._dispatcher.changed(app_id)
            self._services.unbind(written.gone)
        if step.stop:
            self._dispatcher.stop(app_id, instances=step.stop)
            for instance in step.stop:
                memory.seen.pop(instance, None)
        if message is not None and step.start:
            self._send(message, step, memory, facts.goal.now)
            if not self._wanted(app_id):
                # The application was stopped meanwhile; the starts that were just sent must not outlive that.
                self._dispatcher.stop(app_id)
        if state in (UpdateState.SUCCEEDED, UpdateState.CANARY_FAILED):
            UPDATES.labels("succeeded" if state == UpdateState.SUCCEEDED else "failed").inc()
            self._dispatcher.changed(app_id)
            logger.info("update_ended", app=app_id, state=state, reason=step.reason or None)
            return False
        return True

    def _read(self, app_id: int, memory: _Memory) -> _Facts | None:
        with self._db.session() as session:
            app, update = self._mine(session, app_id)
            if app is None or update is None:
                return None
            now = self._db.now(session)
            update.alive_until = now + HOLD_SECONDS
            if jump := memory.jump(now, time.monotonic()):
                # The shift keeps the age of each start.
                logger.warning("database_clock_set", app=app_id, seconds=round(jump, 1))
                update.asked = {index: at + jump for index, at in update.asked.items()}
                memory.sent = {index: at + jump for index, at in memory.sent.items()}
            if memory.of != (update.serial, update.state):
                memory.of = (update.serial, update.state)
                memory.sent.clear()
                memory.no_room.clear()
            goal = Goal(
                version=app.version if update.state == UpdateState.GOING_BACK else update.to_version,
                instances=app.instances,
                now=now,
                patience=_patience(app),
                asked={int(index): at for index, at in update.asked.items()},
                sent=dict(memory.sent),
                no_room=frozenset(memory.no_room),
                back=update.state == UpdateState.GOING_BACK,
            )
            return _Facts(update.serial, update.state, goal)

    def _write(self, app_id: int, facts: _Facts, step: Step) -> _Written:
        """Record a step."""
        with self._db.session() as session:
            app, update = self._mine(session, app_id)
            if app is None or update is None or (update.serial, update.state) != (facts.serial, facts.state):
                return _Written(None, "")
            now = self._db.now(session)
            if step.outcome == Outcome.FAILED:
                update_rows.turn_back(session, app, update, step.reason, now)
                gone = []
                if update.state == UpdateState.GOING_BACK:
                    gone = saved_states.take_back(
                        session, app, saved_states.UPDATE, update.serial, self._services
                    )
                logger.warning("update_fails", app=app_id, reason=step.reason)
                return _Written(start_message(app, self._config, self._store), update.state, gone)
            update.asked = {str(index): at for index, at in step.asked.items()}
            update.instances = app.instances
            if not facts.goal.back:
                update.replaced = step.replaced
            if step.outcome == Outcome.REACHED:
                update.state = UpdateState.CANARY_FAILED if facts.goal.back else UpdateState.SUCCEEDED
                if step.reason:
                    update.message += f"; of the version before, {step.reason}"
                update.changed_at, update.holder, update.asked = now, "", {}
                saved_states.forget(session, app_id, saved_states.UPDATE)
                app_rows.touch(app)
            message = start_message(app, self._config, self._store)
            return _Written(message if message.version == facts.goal.version else None, update.state)

    def _mine(self, session: Session, app_id: int) -> tuple[App | None, AppUpdate | None]:
        app = app_rows.by_id(session, app_id, lock=True)
        update = update_rows.running(session, app_id)
        if app is None or app.state != AppState.STARTED or update is None:
            return None, None
        if update.holder != self._holder:
            if update.holder:
                return None, None
            # A newer update of the same application keeps its holder.
            update.holder = self._holder
        return app, update

    def _wanted(self, app_id: int) -> bool:
        with self._db.session() as session:
            app = app_rows.by_id(session, app_id)
            return app is not None and app.state == AppState.STARTED

    def _send(self, message: DeaStart, step: Step, memory: _Memory, now: float) -> None:
        for index in step.start:
            placed = self._dispatcher.start(message, [index], patience=0)
            memory.no_room.discard(index)
            if not placed:
                memory.no_room.add(index)
            memory.sent[index] = now

    def _observe(self, app_id: int, memory: _Memory) -> list[Seen]:
        query = FindDroplet(droplet=app_id, states=[*LIVE, InstanceState.CRASHED])
        answers = self._bus.run(find(self._bus.bus, query, STEP_SECONDS))
        now = time.monotonic()
        for answer in answers:
            memory.seen[answer.instance] = (answer, now)
        found = []
        for instance, (answer, at) in list(memory.seen.items()):
            if now - at > _REMEMBER_SECONDS or (instance in memory.exited and now > at):
                del memory.seen[instance]
                continue
            since = memory.since.setdefault((instance, answer.state), now)
            crashed = answer.state == InstanceState.CRASHED
            if crashed and instance not in memory.exited and now - since < _REASON_SECONDS:
                continue
            found.append(
                Seen(
                    answer.index,
                    answer.version,
                    instance,
                    answer.state,
                    answer.state_timestamp,
                    now - since if answer.state == InstanceState.RUNNING else 0.0,
                    memory.exited.get(instance, ""),
                )
            )
        return found


def _patience(app: App) -> float:
    health = app.details.get("health")
    seconds = health.get("timeout") if isinstance(health, dict) else None
    return float(seconds or _HEALTH_SECONDS) + _FETCH_SECONDS
