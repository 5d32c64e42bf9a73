"""The life of instances on this machine: start, supervise, stop, crash, and find again after a restart of the agent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

from components.common import log, tasks
from components.common.errors import IngotError
from components.common.gone import Gone
from components.common.identity import new_id
from components.common.messages import DeaStart
from components.common.units import Runner, UnitError, UnitState, UnitStatus
from components.dea.agent_state import AgentState
from components.dea.bus.announcer import CRASHED, STOPPED, Announcer
from components.dea.config import DeaConfig
from components.dea.errors import NoRoomError, StartError
from components.dea.folders.droplet_cache import Droplets
from components.dea.folders.launcher import Launcher
from components.dea.folders.remains import Remains, clear_unknown
from components.dea.instances.holdings import Holdings
from components.dea.instances.instance import UNIT_PREFIX, Instance, State, facts
from components.dea.instances.registry import Registry
from components.dea.instances.renewal import outdated
from components.dea.instances.snapshot import Snapshot
from components.dea.limits import exit_reason
from components.dea.limits.accounting import UsageAccounting
from components.dea.limits.disk_quota import DiskQuota
from components.dea.logs.logbook import LogBook
from components.dea.ports.readiness import NotReadyError, ready
from components.dea.supervision.environment import environment
from components.dea.supervision.metrics import CRASHES, START_SECONDS, STARTS, refused

_RETRY_SECONDS = 1.0
logger = log.get(__name__)


class Supervisor:
    """The supervisor of instances.

    Args:
        config: the DEA's.
        state: the agent's.
        registry: their records.
        runner: runs their units.
        launcher: makes their folders.
        droplets: has their droplets.
        snapshot: the file of records.
        gone: removes folders.
        announcer: publishes events.
        logs: keeps their output.
        accounting: counts crashes.
    """

    def __init__(
        self,
        config: DeaConfig,
        *,
        state: AgentState,
        disk_quota: DiskQuota,
        registry: Registry,
        runner: Runner,
        launcher: Launcher,
        droplets: Droplets,
        snapshot: Snapshot,
        gone: Gone,
        announcer: Announcer,
        logs: LogBook,
        accounting: UsageAccounting,
    ) -> None:
        self._config = config
        self._state = state
        self._disk_quota = disk_quota
        self._registry = registry
        self._runner = runner
        self._launcher = launcher
        self._droplets = droplets
        self._snapshot = snapshot
        self._gone = gone
        self._remains = Remains(gone, config.most_files, config.logs.file_mb)
        self._announcer = announcer
        self._logs = logs
        self._accounting = accounting
        # Returns whether an instance met its limit of tasks; set once there is an enforcer.
        self.crowded: Callable[[str], int | None] = lambda _instance: None
        self._holdings = Holdings(config, snapshot)
        # For other parts: the agent lets time pass for ports, and tasks end by themselves.
        self.ports, self.give_back = self._holdings.ports, self._holdings.give_back
        self._starting: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        # The reasons for which this agent ended instances.
        self._verdicts: dict[str, str] = {}
        # The instances of whose files only logs are kept.
        self._cut: set[str] = set()

    def start(self, message: DeaStart) -> Instance | None:
        """Begin to start an instance; return None, with the reason logged, where it cannot run here."""
        if not (message.sha1 and (message.executableFile or message.executableUri)):
            refused(message, "the message names no droplet")
            return None
        if not self._state.runtimes.offers(message.runtime):
            refused(message, f"the runtime {message.runtime} is not on this machine")
            return None
        instance = Instance.of(message, new_id(), time.time())
        try:
            self.admit(instance)
        except NoRoomError as error:
            refused(message, str(error))
            return None
        self._starting[instance.id] = self.spawn(self._start(instance, message), f"start-{instance.id}")
        return instance

    def admit(self, instance: Instance) -> None:
        """Reserve the resources of an instance or a task, and register it.

        Raises:
            NoRoomError: there is not enough of something; nothing is reserved.
        """
        self._registry.check_room(instance.limits)
        others = self._registry.in_the_way(instance.limits)
        self._holdings.take(instance)
        self._registry.add(instance)
        if not self.save():
            self.give_back(instance)
            self._registry.remove(instance)
            raise NoRoomError(f"what runs here cannot be written down ({self._snapshot.problem})")
        for other in others:
            self.spawn(self.discard(other), f"discard-{other.id}")

    async def stop(self, instance: Instance) -> None:
        """Stop a live instance, or remove a crashed one: announce it first, then end it, then clean up."""
        if instance.state is State.CRASHED:
            if not instance.released:
                await self.end_unit(instance)
            await self.discard(instance)
            return
        if not instance.live:
            return
        instance.move(State.STOPPING, time.time())
        self.save()
        await self._announcer.unregister(instance)
        await self._announcer.exited(instance, STOPPED)
        logger.info("instance_stopping", **facts(instance))
        await asyncio.sleep(self._config.drain)
        starting = self._starting.get(instance.id)
        if starting is not None:  # A thread may be unpacking: it sees the state and ends by itself.
            await asyncio.wait([starting])
        await self.end_unit(instance)
        await self.discard(instance)

    async def end(self, instance: Instance, why: str, *, cut: bool = False) -> None:
        """End a live instance that broke a rule; it counts as crashed, and its owner reads `why`.

        Args:
            instance: may have ended already.
            why: also written to its log.
            cut: its files are too large: only its logs stay.
        """
        if not instance.live or instance.id in self._verdicts:
            return
        self._verdicts[instance.id] = why
        if cut:
            self._cut.add(instance.id)
        logger.warning("instance_ended", reason=why, **facts(instance))
        await asyncio.to_thread(
            self._launcher.append_error_log, instance, [f"FATAL: {why}", "FATAL: the instance is stopped"]
        )
        try:
            await self._runner.kill(instance.unit)
        except UnitError:
            # Otherwise the next check finds it too large again.
            del self._verdicts[instance.id]
            raise

    async def discard(self, instance: Instance) -> None:
        """Remove a dead instance, once no work on its files is under way; its resources do not wait for the disk."""
        await self._remains.settled(instance)
        self._cut.discard(instance.id)
        if instance.state is not State.DELETED:
            instance.move(State.DELETED, time.time())
        self.give_back(instance)
        self._registry.remove(instance)
        self.save()
        await self._gone.take(self._launcher.directory(instance))
        await self._logs.drop(instance.id)
        logger.info("instance_removed", **facts(instance))

    async def recover(self) -> None:
        """Recover the instances of an earlier agent: adopt living ones, report dead ones, end unknown ones.

        Raises:
            UnitError: the service manager cannot be asked.
        """
        units = {name: await self._runner.status(name) for name in await self._runner.names(UNIT_PREFIX)}
        for instance in self._snapshot.load():
            self._registry.add(instance)
            self._holdings.claim(instance)
            if instance.task is None:
                status = units.pop(instance.unit, None)
                folder = self._launcher.directory(instance)
                await self._logs.follow(instance.id, folder, instance.uid, grows=instance.live)
                self._resume(instance, status)
        for name in units:
            logger.warning("unit_unknown", unit=name)
            await self._runner.stop(name, self._config.stop_grace)
        await clear_unknown(self._launcher, self._registry, self._gone)
        self.save()

    def save(self) -> bool:
        """Write the records down; return whether the disk has them."""
        return self._snapshot.save(self._registry)

    def save_again(self) -> None:
        """Write the records down that the disk refused before."""
        if self._snapshot.problem is not None:
            self.save()
            self._holdings.save()
            self._snapshot.evacuating = self._state.evacuating

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run a coroutine in the background; its exceptions are logged."""

        async def guarded() -> None:
            try:
                await work
            except Exception:
                logger.exception("task_failed", task=name)

        task = asyncio.create_task(guarded(), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self, *, recovered: bool) -> None:
        """Close everything; the instances go on. Without `recovered`, the records stay as they are."""
        await tasks.end(self._tasks)
        self._remains.close()
        if recovered:
            self.save()
            self._holdings.save()

    def _resume(self, instance: Instance, status: UnitStatus | None) -> None:
        if instance.state is State.CRASHED:
            if not instance.released:
                self.spawn(self._settle(instance), f"settle-{instance.id}")
            elif status is not None:
                self.spawn(self.end_unit(instance), f"forget-{instance.id}")
        elif instance.state is State.STOPPING:
            self.spawn(self._finish_stop(instance), f"stop-{instance.id}")
        elif status is not None and status.state is not UnitState.MISSING:
            # It is alive, or ended while no agent was there: the supervisor finds out which.
            old = outdated(instance, status)
            logger.info("instance_adopted", old_unit=old, **facts(instance))
            if old:
                self._state.renewal.add(instance.id)
            if instance.state is State.STARTING:
                self._starting[instance.id] = self.spawn(self._run(instance), f"start-{instance.id}")
            else:
                self.spawn(self._supervise(instance), f"watch-{instance.id}")
        else:
            self.spawn(self.crash(instance, "its process was gone when the agent came back"), "crash")

    async def _finish_stop(self, instance: Instance) -> None:
        await self.end_unit(instance)
        await self.discard(instance)

    async def _start(self, instance: Instance, message: DeaStart) -> None:
        try:
            if not await self.prepare(instance, message, self._launcher):
                return
            variables = self.variables(instance, message, self._launcher)
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

    async def prepare(self, instance: Instance, message: DeaStart, launcher: Launcher) -> bool:
        """Fetch the droplet, make the folder, begin to keep the log; return False when it is no longer wanted.

        Raises:
            StartError: the text is for the owner.
        """
        droplet = await self._droplets.get(message.sha1, message.executableFile, message.executableUri)
        if instance.state is not State.STARTING:
            return False
        await self._disk_quota.hold(instance.uid, instance.limits.disk)
        runtime = self._state.runtimes.find(message.runtime)
        await asyncio.to_thread(launcher.prepare, instance, droplet, runtime.executable if runtime else None)
        await self._logs.follow(instance.id, launcher.directory(instance), instance.uid)
        return instance.state is State.STARTING

    def variables(self, instance: Instance, message: DeaStart, launcher: Launcher) -> dict[str, str]:
        """Return the whole environment of an instance or a task."""
        runtime = self._state.runtimes.find(message.runtime)
        return environment(
            message,
            instance,
            launcher.directory(instance),
            address=self._config.address,
            dea=self._state.dea,
            path=self._config.path,
            temporary=launcher.temporary(instance),
            runtime=runtime.environment if runtime else {},
        )

    async def _run(self, instance: Instance) -> None:
        """Bring an instance whose unit exists to RUNNING."""
        supervising = self.spawn(self._supervise(instance), f"watch-{instance.id}")
        late = ""
        try:
            await ready(instance, self._launcher.directory(instance), self._config)
        except NotReadyError as error:
            late = str(error)
        self._starting.pop(instance.id, None)
        if instance.state is not State.STARTING or supervising.done():
            return
        if late:
            await self.end(instance, late)
            return
        instance.move(State.RUNNING, time.time())
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
                    status, instance.limits, self._config.file_mb, self.crowded(instance.id)
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
        was_starting = instance.state is State.STARTING
        instance.move(State.CRASHED, time.time(), detail)
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
        await self.end_unit(instance)
        await self._logs.finish(instance.id)
        if instance.state is not State.CRASHED:
            # It was discarded meanwhile: nothing is left to keep.
            return
        cut = instance.id in self._cut
        if instance.flapping:
            await self.discard(instance)
            return
        await self._remains.keep(instance, self._launcher.directory(instance), cut=cut)
        self._cut.discard(instance.id)
        self.give_back(instance)
        self.save()

    async def end_unit(self, instance: Instance) -> None:
        """End and forget a unit, and retry while the service manager cannot be reached."""
        while True:
            try:
                await self._runner.stop(instance.unit, self._config.stop_grace)
            except IngotError as error:
                logger.warning("unit_not_stopped", reason=str(error), **facts(instance))
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                self._verdicts.pop(instance.id, None)
                return
