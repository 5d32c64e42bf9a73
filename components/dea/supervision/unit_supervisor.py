"""The common part of both supervisors: reserve, prepare, end and find again what runs in a unit."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from components.common import log
from components.common.bus.messages import DeaStart
from components.common.errors import IngotError
from components.common.filesystem.gone import Gone
from components.common.states import InstanceState
from components.common.units import Runner, UnitError, UnitStatus
from components.dea.agent_state import AgentState
from components.dea.bus.announcer import Announcer
from components.dea.config import DeaConfig
from components.dea.errors import NoRoomError
from components.dea.folders.droplet_cache import Droplets
from components.dea.folders.launcher import Launcher
from components.dea.folders.remains import clear_unknown
from components.dea.instances.holdings import Holdings
from components.dea.instances.instance import Instance, facts
from components.dea.instances.registry import Registry
from components.dea.instances.snapshot import Snapshot
from components.dea.limits.disk_quota import DiskQuota
from components.dea.logs.logbook import LogBook
from components.dea.supervision.background import Background
from components.dea.supervision.environment import environment

_RETRY_SECONDS = 1.0
logger = log.get(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisorContext:
    """The parts of an agent that both supervisors use.

    Attributes:
        crowded: returns the limit of tasks (processes and threads) where an instance has met it lately.
    """

    config: DeaConfig
    state: AgentState
    registry: Registry
    snapshot: Snapshot
    holdings: Holdings
    disk_quota: DiskQuota
    droplets: Droplets
    runner: Runner
    gone: Gone
    announcer: Announcer
    logs: LogBook
    background: Background
    crowded: Callable[[str], int | None]


class UnitSupervisor(ABC):
    """A supervisor of records that each have a folder and a unit.

    Args:
        context: the parts that it shares with the other supervisor.
        launcher: makes the folders of its own records.
        discard: removes a crashed instance whose disk is wanted.
    """

    # The beginning of its units' names.
    unit_prefix: ClassVar[str]
    # Follows in the log of a record that broke a rule.
    last_words: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        context: SupervisorContext,
        launcher: Launcher,
        discard: Callable[[Instance], Coroutine[Any, Any, None]],
    ) -> None:
        self._context = context
        self._config, self._state = context.config, context.state
        self._registry, self._snapshot = context.registry, context.snapshot
        self._runner, self._announcer, self._logs = context.runner, context.announcer, context.logs
        self._spawn = context.background.spawn
        self._launcher, self._discard = launcher, discard
        # The reasons for which this agent ended something.
        self._verdicts: dict[str, str] = {}

    async def end(self, record: Instance, why: str, *, cut: bool = False) -> None:
        """End a live record that broke a rule; its owner reads `why`.

        Args:
            record: may have ended already.
            why: also written to its log.
            cut: its files are too large.
        """
        if not record.live or record.id in self._verdicts:
            return
        self._verdicts[record.id] = why
        self._note_end(record, why, cut=cut)
        lines = [f"FATAL: {line}" for line in (why, *self.last_words)]
        await asyncio.to_thread(self._launcher.append_error_log, record, lines)
        try:
            await self._runner.kill(record.unit)
        except UnitError:
            # Otherwise the next check finds it too large again.
            del self._verdicts[record.id]
            raise

    async def recover(self) -> None:
        """Find the records' units of an earlier agent again, and end unknown ones.

        Raises:
            UnitError: the service manager cannot be asked.
        """
        units = {n: await self._runner.status(n) for n in await self._runner.names(self.unit_prefix)}
        for record in self._records():
            folder = self._launcher.directory(record)
            await self._logs.follow(record.id, folder, record.uid, grows=record.live)
            self._resume(record, units.pop(record.unit, None))
        for name in units:
            logger.warning("unit_unknown", unit=name)
            await self._runner.stop(name, self._config.stop_grace)
        await clear_unknown(self._launcher, self._registry, self._context.gone)

    def save(self) -> bool:
        """Write the records of instances and tasks down; return whether the disk has them."""
        return self._snapshot.save(self._registry)

    @abstractmethod
    def _records(self) -> Iterable[Instance]:
        """Return its records."""

    @abstractmethod
    def _note_end(self, record: Instance, why: str, *, cut: bool) -> None:
        """Log that a record is ended for breaking a rule, and note whether its files are cut."""

    @abstractmethod
    def _resume(self, record: Instance, status: UnitStatus | None) -> None:
        """Go on with the record of an earlier agent; None for one without a unit."""

    def _unable(self, message: DeaStart) -> str | None:
        """Return why an application can never run on this DEA; None where it can."""
        if not (message.sha1 and (message.executableFile or message.executableUri)):
            return "the message names no droplet"
        if not self._state.runtimes.offers(message.runtime):
            return f"the runtime {message.runtime} is not on this machine"
        return None

    def _admit(self, record: Instance) -> None:
        """Reserve what a record needs, and register it.

        Raises:
            NoRoomError: there is not enough of something; nothing is reserved.
        """
        self._registry.check_room(record.limits)
        others = self._registry.in_the_way(record.limits)
        self._context.holdings.take(record)
        self._registry.add(record)
        if not self.save():
            self._give_back(record)
            self._registry.remove(record)
            raise NoRoomError(f"what runs here cannot be written down ({self._snapshot.problem})")
        for other in others:
            self._spawn(self._discard(other), f"discard-{other.id}")

    def _give_back(self, record: Instance) -> None:
        """Take back what is reserved for a record that has no processes any more."""
        self._verdicts.pop(record.id, None)
        self._context.holdings.give_back(record)

    async def _prepare(self, record: Instance, message: DeaStart) -> bool:
        """Fetch the droplet, make the folder, begin to keep the log; return False when it is no longer wanted.

        Raises:
            StartError: the text is for the owner.
        """
        droplet = await self._context.droplets.get(
            message.sha1, message.executableFile, message.executableUri
        )
        if record.state is not InstanceState.STARTING:
            return False
        await self._context.disk_quota.hold(record.uid, record.limits.disk)
        runtime = self._state.runtimes.find(message.runtime)
        executable = runtime.executable if runtime else None
        await asyncio.to_thread(self._launcher.prepare, record, droplet, executable)
        await self._logs.follow(record.id, self._launcher.directory(record), record.uid)
        return record.state is InstanceState.STARTING

    def _variables(self, record: Instance, message: DeaStart) -> dict[str, str]:
        """Return the whole environment of a record's processes."""
        runtime = self._state.runtimes.find(message.runtime)
        return environment(
            message,
            record,
            self._launcher.directory(record),
            address=self._config.address,
            dea=self._state.dea,
            path=self._config.path,
            temporary=self._launcher.temporary(record),
            runtime=runtime.environment if runtime else {},
        )

    async def _end_unit(self, record: Instance) -> None:
        """End and forget a unit, and retry while the service manager cannot be reached."""
        while True:
            try:
                await self._runner.stop(record.unit, self._config.stop_grace)
            except IngotError as error:
                logger.warning("unit_not_stopped", reason=str(error), **facts(record))
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                return
