"""The DEA's agent: its subscriptions on the bus and its periodic work."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
from prometheus_client import Gauge

from components.common import aio, log
from components.common.bus.client import Bus, Incoming
from components.common.bus.messages import DeaDiscover, DeaStart, DeaStop, DeaUpdate, FindDroplet, RouterHello
from components.common.bus.operation_messages import TaskRef, TaskStart
from components.common.errors import IngotError
from components.common.filesystem.gone import Gone
from components.common.identity import Identity
from components.common.states import InstanceState
from components.common.units import ProcessRunner, Runner, SystemdRunner
from components.dea.agent_state import AgentState
from components.dea.bus.announcer import EVACUATED, Announcer
from components.dea.bus.replies import Replies
from components.dea.config import DeaConfig
from components.dea.folders.droplet_cache import Droplets
from components.dea.folders.file_server import FileServer
from components.dea.folders.launcher import Launcher
from components.dea.instances.holdings import Holdings
from components.dea.instances.instance import Instance
from components.dea.instances.registry import Bounds, Registry, answers_discover
from components.dea.instances.snapshot import Snapshot
from components.dea.limits.accounting import UsageAccounting
from components.dea.limits.disk_quota import DiskQuota
from components.dea.limits.enforcer import LimitEnforcer
from components.dea.logs.logbook import LogBook
from components.dea.logs.spool import Bounds as LogBounds
from components.dea.ports.guard import PortGuard
from components.dea.runtimes import discover
from components.dea.supervision.background import Background
from components.dea.supervision.reaper import Reaper
from components.dea.supervision.supervisor import Supervisor
from components.dea.supervision.task_supervisor import TaskSupervisor
from components.dea.supervision.unit_supervisor import SupervisorContext

INSTANCES = Gauge("ingot_dea_instances", "Instances by state.", ["state"])
RESERVED = Gauge("ingot_dea_memory_reserved_megabytes", "Memory promised to instances.")
DISK_FULL = Gauge("ingot_dea_disk_full", "1 while the file system of instances takes no more of them.")
UNSAVED = Gauge("ingot_dea_state_unsaved", "1 while the agent cannot write down what runs.")
TO_REMOVE = Gauge("ingot_dea_folders_to_remove", "Folders of ended instances that wait for their removal.")
_TICK_SECONDS = 1.0
_LONGEST_PRUNE = 3600
_GREET_SECONDS = 2.0
# The signals with which the machine's administrators, without a bus, have it evacuate and take instances again.
_SIGNALS = {signal.SIGUSR2: True, signal.SIGUSR1: False}
logger = log.get(__name__)


class _Evacuate(msgspec.Struct):
    evacuating: bool = True


class Agent:
    """A DEA's agent; see `components.common.daemon.Component`.

    Args:
        config: its configuration.
        bus: not yet connected.
        identity: its id is the DEA's.
    """

    def __init__(self, config: DeaConfig, bus: Bus, identity: Identity) -> None:
        self._config = config
        self._bus = bus
        base = Path(config.base_dir)
        base.mkdir(mode=0o711, parents=True, exist_ok=True)
        self._runner = _runner(config)
        self._registry = Registry(Bounds(config.memory_mb, config.disk_mb, config.max_instances))
        self._state = AgentState(identity.uuid, config.address)
        self._announcer = Announcer(
            bus,
            self._state,
            self._registry,
            zone=config.zone,
            interval=config.intervals.beat,
            index=config.index,
        )
        self._snapshot = Snapshot(base)
        self._holdings = Holdings(config, self._snapshot)
        self._launcher = Launcher(config, base / "instances")
        self._task_launcher = Launcher(config, base / "tasks")
        self._droplets = Droplets(base / "droplets", Path(config.share_path), config.cache_mb)
        kept = LogBounds(config.logs.lines, config.logs.kb * 1024, config.logs.file_mb * 1024 * 1024)
        self._logs = LogBook(base / "lines", kept)
        self._gone = Gone(base / ".gone")
        self._accounting = UsageAccounting()
        self._accounted = time.monotonic()
        self._disk_quota = DiskQuota(config, self._runner)
        self._enforcer = LimitEnforcer(
            self._registry,
            self._runner,
            config,
            folder=self._place,
            end=self._end,
            accounting=self._accounting,
        )
        self._background = Background()
        context = SupervisorContext(
            config=config,
            state=self._state,
            registry=self._registry,
            snapshot=self._snapshot,
            holdings=self._holdings,
            disk_quota=self._disk_quota,
            droplets=self._droplets,
            runner=self._runner,
            gone=self._gone,
            announcer=self._announcer,
            logs=self._logs,
            background=self._background,
            crowded=self._enforcer.crowded,
        )
        self._supervisor = Supervisor(context, self._launcher, self._accounting)
        self._reaper = Reaper(self._registry, self._gone, config.crash_keep, self._supervisor.discard)
        self._task_supervisor = TaskSupervisor(context, self._task_launcher, self._supervisor.discard)
        self._guard = PortGuard(self._registry, self._lose)
        credentials = self._snapshot.credentials()
        self._files = FileServer(config.files.host, config.files.port, self._folder, self._logs, credentials)
        self._replies = Replies(self._registry, self._state, self._enforcer, credentials)
        self._register_seconds = config.intervals.register
        self._loops: list[asyncio.Task[None]] = []
        self._recovered = False
        self._subscribe()

    async def start(self) -> None:
        """Find the runtimes, recover the instances, and begin to serve files and to send beats."""
        self._state.runtimes = await discover(self._config.runtimes)
        self._state.evacuating = self._snapshot.evacuating
        await self._supervisor.recover()
        await self._task_supervisor.recover()
        await self._disk_quota.begin({i.uid for i in self._registry})
        self._background.spawn(self._disk_quota.adopt(list(self._registry)), "disk-quotas")
        await self._logs.tidy()
        self._gone.start()
        self._recovered = True
        await self._files.start()
        self._state.files_port = self._files.port
        for number, evacuating in _SIGNALS.items():
            asyncio.get_running_loop().add_signal_handler(number, self._evacuate_on_signal, evacuating)
        every = self._config.intervals
        self._loops = [
            asyncio.create_task(_repeat(work, seconds), name=work.__name__)
            for work, seconds in (
                (self._announcer.say_beat, lambda: every.beat),
                (self._heartbeat, lambda: every.heartbeat),
                (self._announcer.say_advertise, lambda: every.advertise),
                (self._announcer.register_all, lambda: self._register_seconds),
                (self._look, lambda: every.monitor),
                (self._logs.look, lambda: every.lines),
                (self._say_usage, lambda: every.usage),
                (self._reaper.reap, lambda: every.reaper),
                (self._tick, lambda: _TICK_SECONDS),
            )
        ]

    async def stop(self) -> None:
        """Stop the agent; the instances go on."""
        self._state.stopping = True
        await self._announcer.say_beat()
        await aio.cancel_and_wait(self._loops)
        with contextlib.suppress(RuntimeError):
            for number in _SIGNALS:
                asyncio.get_running_loop().remove_signal_handler(number)
        await self._background.close()
        self._supervisor.close(recovered=self._recovered)
        await self._gone.close()
        await self._droplets.close()
        self._logs.close()
        await self._files.stop()
        await self._runner.close()

    def ready(self) -> list[str]:
        """Return the reasons against serving."""
        reasons = [] if self._recovered else ["the instances of an earlier agent are not found again yet"]
        return reasons if self._bus.connected else [*reasons, "there is no connection to the bus"]

    def varz(self) -> dict[str, object]:
        """Return the facts of protocol 3.5."""
        return {
            **self._replies.varz(),
            "disk_quota": "hard" if self._disk_quota.hard else "watched",
            "disk_full": self._registry.disk_full or None,
            "state_unsaved": self._snapshot.problem,
            "logs_unsaved": self._logs.unwritten,
            "folders_to_remove": self._gone.waiting,
        }

    def _subscribe(self) -> None:
        bus, dea = self._bus, self._state.dea
        bus.on_connect(self._connected)
        bus.subscribe(f"dea.{dea}.start", DeaStart, self._on_start)
        bus.subscribe("dea.stop", DeaStop, self._on_stop)
        bus.subscribe("dea.update", DeaUpdate, self._on_update)
        bus.subscribe("dea.discover", DeaDiscover, self._on_discover)
        bus.subscribe("dea.find.droplet", FindDroplet, self._replies.on_find)
        bus.subscribe("dea.status", None, self._replies.on_status)
        bus.subscribe("droplet.status", None, self._replies.on_droplet_status)
        bus.subscribe("dea.locate", None, self._on_locate)
        bus.subscribe("healthmanager.start", None, self._on_health_manager)
        bus.subscribe("router.start", RouterHello, self._on_router)
        bus.subscribe(f"ingot.dea.{dea}.evacuate", None, self._on_evacuate)
        bus.subscribe(f"ingot.dea.{dea}.task", TaskStart, self._on_task)
        bus.subscribe(f"ingot.dea.{dea}.task_stop", TaskRef, self._on_task_stop)

    async def _connected(self) -> None:
        say = self._announcer
        # Before anything is registered: no agent checked the ports while none was there.
        await self._guard.look()
        await say.say_hello()
        await say.say_beat()
        await say.say_advertise()
        await say.say_heartbeat()
        await say.register_all()
        await say.exited_untold()
        await self._task_supervisor.tell_untold()
        if self._state.evacuating:
            await self._tell_evacuation()
        with contextlib.suppress(IngotError):
            # No answer means that there is no router, or one of 2011, which asks by itself.
            self._heed(await self._bus.request("router.greet", None, RouterHello, _GREET_SECONDS))

    async def _on_start(self, message: Incoming[DeaStart]) -> None:
        if (why := self._state.refusal()) is not None:
            logger.warning("start_refused", app=message.body.droplet, reason=why)
        elif self._supervisor.start(message.body) is not None:
            await self._announcer.say_advertise()

    async def _on_stop(self, message: Incoming[DeaStop]) -> None:
        wanted = message.body
        for instance in self._registry.find(
            wanted.droplet,
            version=wanted.version,
            instances=wanted.instances,
            indices=wanted.indices,
            states=wanted.states,
        ):
            self._background.spawn(self._supervisor.stop(instance), f"stop-{instance.id}")

    async def _on_update(self, message: Incoming[DeaUpdate]) -> None:
        wanted = message.body.uris
        for instance in self._registry.find(
            message.body.droplet, states=[InstanceState.STARTING, InstanceState.RUNNING]
        ):
            gone = [uri for uri in instance.uris if uri not in wanted]
            new = [uri for uri in wanted if uri not in instance.uris]
            instance.uris = list(wanted)
            if instance.state is InstanceState.RUNNING:
                await self._announcer.unregister(instance, gone)
                await self._announcer.register(instance, new)
        self._supervisor.save()

    async def _on_discover(self, message: Incoming[DeaDiscover]) -> None:
        runtimes = self._state.runtimes.names
        if self._state.leaving or not answers_discover(message.body, self._registry, runtimes):
            return

        async def answer() -> None:
            await asyncio.sleep(self._registry.taint(message.body.droplet))
            await message.respond(self._announcer.hello())

        self._background.spawn(answer(), "discover")

    async def _on_task(self, message: Incoming[TaskStart]) -> None:
        reply = self._task_supervisor.start(message.body)
        await message.respond(self._replies.with_log(reply))

    async def _on_task_stop(self, message: Incoming[TaskRef]) -> None:
        reply = await self._task_supervisor.stop(message.body.task)
        await message.respond(self._replies.with_log(reply))

    async def _on_locate(self, _message: Incoming[object]) -> None:
        await self._announcer.say_advertise()

    async def _on_health_manager(self, _message: Incoming[object]) -> None:
        await self._announcer.say_heartbeat()

    async def _on_router(self, message: Incoming[RouterHello]) -> None:
        self._heed(message.body)
        await self._announcer.register_all()

    def _heed(self, router: RouterHello) -> None:
        """Register as often as a router wants, and let ports rest for as long as it may hold their routes."""
        wanted = max(1.0, router.minimumRegisterIntervalInSeconds)
        self._register_seconds = min(self._config.intervals.register, wanted)
        # The upper bound is a guard against a sender that is no router.
        held = min(router.pruneThresholdInSeconds, _LONGEST_PRUNE)
        self._holdings.ports.rest = max(self._config.port_rest, 2 * held)

    async def _on_evacuate(self, message: Incoming[object]) -> None:
        try:
            wanted = msgspec.convert(message.body or {}, _Evacuate)
        except msgspec.ValidationError as error:
            logger.warning("message_malformed", subject=message.subject, reason=str(error))
            return
        await self._evacuate(wanted.evacuating)
        await message.respond(self._announcer.beat())

    def _evacuate_on_signal(self, evacuating: bool) -> None:
        self._background.spawn(self._evacuate(evacuating), "evacuate")

    async def _evacuate(self, evacuating: bool) -> None:
        """Take no more instances, and ask for successors of those here on other DEAs; they are stopped on request."""
        if evacuating != self._state.evacuating:
            logger.info(
                "evacuating" if evacuating else "evacuation_over", instances=len(self._registry.live())
            )
        self._state.evacuating = evacuating
        self._snapshot.evacuating = evacuating
        # The beat goes first, so that a subscriber that hears of the exits knows the reason already.
        await self._announcer.say_beat()
        if evacuating:
            await self._tell_evacuation()
        else:
            for instance in self._registry:
                instance.evacuated = False
        self._supervisor.save()

    async def _tell_evacuation(self) -> None:
        for instance in self._registry.live():
            await self._announcer.exited(instance, EVACUATED)

    async def _tick(self) -> None:
        if self._bus.connected:
            self._holdings.ports.advance(_TICK_SECONDS)
        for state in InstanceState:
            INSTANCES.labels(state).set(len(self._registry.in_state(state)))
        RESERVED.set(self._registry.capacity().memory_reserved)
        self._supervisor.save_again()
        DISK_FULL.set(bool(self._registry.disk_full))
        UNSAVED.set(self._snapshot.problem is not None)
        TO_REMOVE.set(self._gone.waiting)

    async def _look(self) -> None:
        await self._enforcer.look()
        await self._reaper.relieve()

    async def _say_usage(self) -> None:
        """Publish `ingot.dea.usage`; a sample that cannot be sent is part of the next."""
        now = time.monotonic()
        if await self._announcer.say_usage(time.time(), now - self._accounted, self._accounting.samples()):
            self._accounting.reset()
            self._accounted = now

    async def _end(self, instance: Instance, why: str, cut: bool) -> None:
        supervisor = self._task_supervisor if instance.is_task else self._supervisor
        await supervisor.end(instance, why, cut=cut)

    async def _heartbeat(self) -> None:
        await self._guard.look()
        await self._announcer.say_heartbeat()

    def _lose(self, instance: Instance, why: str) -> None:
        self._background.spawn(self._supervisor.crash(instance, why, verdict=True), f"lose-{instance.id}")

    def _place(self, instance: Instance) -> Path:
        return (self._task_launcher if instance.is_task else self._launcher).directory(instance)

    def _folder(self, staged: str) -> Path | None:
        instance: Instance | None = self._registry.get(staged.rpartition("-")[2])
        return None if instance is None or instance.is_task else self._launcher.directory(instance)


def _runner(config: DeaConfig) -> Runner:
    if config.sandbox == "process":
        return ProcessRunner(Path(config.base_dir) / "units")
    return SystemdRunner(Path(config.run_dir) / "units")


async def _repeat(work: Callable[[], Awaitable[None]], seconds: Callable[[], float]) -> None:
    """Call a function for ever, at a steady pace; its exceptions are logged and end nothing."""
    due = time.monotonic()
    while True:
        due = max(due + seconds(), time.monotonic())
        await asyncio.sleep(due - time.monotonic())
        try:
            await work()
        except Exception:
            logger.exception("work_failed", work=getattr(work, "__name__", ""))
