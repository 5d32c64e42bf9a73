"""The life of instances on this machine: start, supervise, stop, crash, and find again after a restart of the agent."""

from __future__ import annotations

import asyncio
import time

from components.common import log
from components.common.bus.messages import DeaStart
from components.common.errors import IngotError
from components.common.identity import new_id
from components.common.states import InstanceState
from components.common.units import UnitError, UnitState, UnitStatus
from components.dea.bus.announcer import CRASHED, STOPPED
from components.dea.errors import NoRoomError, StartError
from components.dea.folders.launcher import Launcher
from components.dea.folders.remains import Remains
from components.dea.instances.instance import UNIT_PREFIX, Instance, facts
from components.dea.instances.renewal import outdated
from components.dea.limits import exit_reason
from components.dea.limits.accounting import UsageAccounting
from components.dea.ports.readiness import NotReadyError, ready
from components.dea.supervision.metrics import CRASHES, START_SECONDS, STARTS, refused
from components.dea.supervision.unit_supervisor import SupervisorContext, UnitSupervisor

logger = log.get(__name__)


class Supervisor(UnitSupervisor):
    """The supervisor of instances.

    Args:
        context: the parts that it shares with the supervisor of tasks.
        launcher: makes the folders of instances.
        accounting: counts crashes.
    """

    unit_prefix = UNIT_PREFIX
    last_words = ("the instance is stopped",)

    def __init__(self, context: SupervisorContext, launcher: Launcher, accounting: UsageAccounting) -> None:
        super().__init__(context, launcher, self.discard)
        self._remains = Remains(context.gone, context.config.most_files, context.config.logs.file_mb)
        self._accounting = accounting
        self._starting: dict[str, asyncio.Task[None]] = {}
        # The instances of whose files only logs are kept.
        self._cut: set[str] = set()

    def start(self, message: DeaStart) -> Instance | None:
        """Begin to start an instance; return None, with the reason logged, where it cannot run here."""
        if (unable := self._unable(message)) is not None:
            refused(message, unable)
            return None
        instance = Instance.of(message, new_id(), time.time())
        try:
            self._admit(instance)
        except NoRoomError as error:
            refused(message, str(error))
            return None
        self._starting[instance.id] = self._spawn(self._start(instance, message), f"start-{instance.id}")
        return instance

    async def stop(self, instance: Instance) -> None:
        """Stop a live instance, or remove a crashed one: announce it first, then end it, then clean up."""
        if instance.state is InstanceState.CRASHED:
            if not instance.released:
                await self._end_unit(instance)
            await self.discard(instance)
            return
        if not instance.live:
            return
        instance.move(InstanceState.STOPPING, time.time())
        self.save()
        await self._announcer.unregister(instance)
        await self._announcer.exited(instance, STOPPED)
        logger.info("instance_stopping", **facts(instance))
        await asyncio.sleep(self._config.drain)
        starting = self._starting.get(instance.id)
        if starting is not None:  # A thread may be unpacking: it sees the state and ends by itself.
            await asyncio.wait([starting])
        await self._end_unit(instance)
        await self.discard(instance)

    async def discard(self, instance: Instance) -> None:
        """Remove a dead instance, once no work on its files is under way; its resources do not wait for the disk."""
        await self._remains.settled(instance)
        self._cut.discard(instance.id)
        if instance.state is not InstanceState.DELETED:
            instance.move(InstanceState.DELETED, time.time())
        self._give_back(instance)
        self._registry.remove(instance)
        self.save()
        await self._context.gone.take(self._launcher.directory(instance))
        await self._logs.drop(instance.id)
        logger.info("instance_removed", **facts(instance))

    async def recover(self) -> None:
        """Recover the instances of an earlier agent: adopt living ones, report dead ones, end unknown ones.

        Raises:
            UnitError: the service manager cannot be asked.
        """
        # Tasks are among the records: their supervisor goes on with them afterwards.
        for record in self._snapshot.load():
            self._registry.add(record)
            self._context.holdings.claim(record)
        await super().recover()
        self.save()

    def save_again(self) -> None:
        """Write the records down that the disk refused before."""
        if self._snapshot.problem is not None:
            self.save()
            self._context.holdings.save()
            self._snapshot.evacuating = self._state.evacuating

    def close(self, *, recovered: bool) -> None:
        """Close everything; the instances go on. Without `recovered`, the records stay as they are."""
        self._remains.close()
        if recovered:
            self.save()
            self._context.holdings.save()

    def _records(self) -> list[Instance]:
        return self._registry.in_state(*InstanceState)

    def _note_end(self, record: Instance, why: str, *, cut: bool) -> None:
        if cut:
            self._cut.add(record.id)
        logger.warning("instance_ended", reason=why, **facts(record))

    def _resume(self, instance: Instance, status: UnitStatus | None) -> None:
        if instance.state is InstanceState.CRASHED:
            if not instance.released:
                self._spawn(self._settle(instance), f"settle-{instance.id}")
            elif status is not None:
                self._spawn(self._end_unit(instance), f"forget-{instance.id}")
        elif instance.state is InstanceState.STOPPING:
            self._spawn(self._finish_stop(instance), f"stop-{instance.id}")
        elif status is not None and status.state is not UnitState.MISSING:
            # It is alive, or ended while no agent was there: the supervisor finds out which.
            old = outdated(instance, status)
            logger.info("instance_adopted", old_unit=old, **facts(instance))
            if old:
                self._state.renewal.add(instance.id)
            if instance.state is InstanceState.STARTING:
                self._starting[instance.id] = self._spawn(self._run(instance), f"start-{instance.id}")
            else:
                self._spawn(self._supervise(instance), f"watch-{instance.id}")
        else:
            self._spawn(self.crash(instance, "its process was gone when the agent came back"), "crash")

    async def _finish_stop(self, instance: Instance) -> None:
        await self._end_unit(instance)
        await self.discard(instance)

    async def _start(self, instance: Instance, message: DeaStart) -> None:
        try:
            if not await self._prepare(instance, message):
                return
            variables = self._variables(instance, message)
            await self._runner.start(self._launcher.spec(instance, variables))
        except Exception as error:
            if not isinstance(error, (StartError, UnitError)):
                logger.exception("start_broken", **facts(instance))
            # Output that came with the droplet is no news to its owner.
            self._cut.add(instance.id)
            await self.crash(
                instance, str(error) if isinstance(error, IngotError) else "the agent's own fault"
            )
            return
        await self._run(instance)

    async def _run(self, instance: Instance) -> None:
        """Bring an instance whose unit exists to RUNNING."""
        supervising = self._spawn(self._supervise(instance), f"watch-{instance.id}")
        late = ""
        try:
            await ready(instance, self._launcher.directory(instance), self._config)
        except NotReadyError as error:
            late = str(error)
        self._starting.pop(instance.id, None)
        if instance.state is not InstanceState.STARTING or supervising.done():
            return
        if late:
            await self.end(instance, late)
            return
        instance.move(InstanceState.RUNNING, time.time())
        self.save()
        await self._announcer.say_heartbeat(instance)
        await self._announcer.register(instance)
        STARTS.labels("running").inc()
        START_SECONDS.observe(time.time() - instance.started)
        logger.info("instance_running", port=instance.port, **facts(instance))

    async def _supervise(self, instance: Instance) -> None:
        status = await self._runner.wait(instance.unit)
        if instance.live:
            why = self._verdicts.get(instance.id)
            if why is None:
                why = exit_reason.describe(
                    status, instance.limits, self._config.file_mb, self._context.crowded(instance.id)
                )
                if why != status.describe():
                    # A limit that the kernel enforces: its owner finds the message where the agent's own verdicts
                    # are.
                    await asyncio.to_thread(self._launcher.append_error_log, instance, [f"FATAL: {why}"])
            await self.crash(instance, why)

    async def crash(self, instance: Instance, detail: str, *, verdict: bool = False) -> None:
        """Treat a live instance as crashed: remove its routes, announce it, end its unit.

        Args:
            instance: counts as crashed from the first step of this on.
            detail: the reason.
            verdict: whether the agent itself decided it; then the reason is in its log too.
        """
        if not instance.live:
            return
        was_starting = instance.state is InstanceState.STARTING
        instance.move(InstanceState.CRASHED, time.time(), detail)
        self._starting.pop(instance.id, None)
        self.save()
        await self._announcer.unregister(instance)
        CRASHES.inc()
        self._accounting.crashed(instance)
        if was_starting:
            STARTS.labels("failed").inc()
        logger.warning("instance_crashed", reason=detail, **facts(instance))
        if verdict:
            await asyncio.to_thread(self._launcher.append_error_log, instance, [f"FATAL: {detail}"])
        await self._announcer.exited(instance, CRASHED)
        await self._settle(instance)

    async def _settle(self, instance: Instance) -> None:
        """Free a crashed instance's unit, port and uid; its files stay for a while."""
        await self._end_unit(instance)
        await self._logs.finish(instance.id)
        if instance.state is not InstanceState.CRASHED:
            # It was discarded meanwhile: nothing is left to keep.
            return
        cut = instance.id in self._cut
        if instance.flapping:
            await self.discard(instance)
            return
        await self._remains.keep(instance, self._launcher.directory(instance), cut=cut)
        self._cut.discard(instance.id)
        self._give_back(instance)
        self.save()
