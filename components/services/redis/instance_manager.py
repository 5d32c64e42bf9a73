"""The life of Redis instances on this machine: start, supervise, change users, remove, and find again after a restart."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

from prometheus_client import Counter

from components.common import aio, log
from components.common.units import Runner, UnitError
from components.services.base.credentials import digest, new_password
from components.services.base.errors import ServiceError
from components.services.base.ports import next_port
from components.services.redis import uids
from components.services.redis.config import RedisNodeConfig
from components.services.redis.errors import (
    DESTROY_FAILED,
    NOT_CONNECTED,
    NOT_FOUND,
    SAVE_FAILED,
    START_FAILED,
)
from components.services.redis.folders import Folders
from components.services.redis.records import UNIT_PREFIX, Binding, Record
from components.services.redis.server import ServerError, ServerState, apply_users, ask

RESTARTS = Counter("ingot_redis_restarts_total", "Servers that ended unasked and were started again.")
_LOOK_SECONDS = 0.05
_RETRY_SECONDS = (1.0, 30.0)
_STARTS_AT_ONCE = 4
Lock = Callable[[str], asyncio.Lock]
Spawn = Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]]
logger = log.get(__name__)


class InstanceManager:
    """The supervisor of instances. The disk has the truth: a server that cannot be changed is started anew from there.

    Args:
        config: the node's.
        runner: runs the units.
        lock: returns an instance's lock; callers of `add_binding`, `remove_binding` and `remove` hold it.
        spawn: runs a coroutine in the background.
    """

    def __init__(self, config: RedisNodeConfig, runner: Runner, lock: Lock, spawn: Spawn) -> None:
        self._config = config
        self._runner = runner
        self._lock = lock
        self._spawn = spawn
        self._folders = Folders(config)
        self._supervisors: dict[str, asyncio.Task[None]] = {}
        self._starts = asyncio.Semaphore(_STARTS_AT_ONCE)
        self.records: dict[str, Record] = {}
        self.down: set[str] = set()

    async def recover(self) -> None:
        """Recover the instances of an earlier node: adopt running ones, start others, end unknown ones.

        Raises:
            UnitError: the service manager cannot be asked.
        """
        records = await asyncio.to_thread(self._folders.load)
        for record in records:
            self.records[record.name] = record
        for name in await self._runner.names(UNIT_PREFIX):
            if name.removeprefix(UNIT_PREFIX) not in self.records:
                logger.warning("unit_unknown", unit=name)
                await self._runner.stop(name, self._config.stop_grace)
        for record in records:
            if not record.ready:
                logger.warning("instance_unfinished", instance=record.name)
                await self._discard(record)
                continue
            self.down.add(record.name)
            self._supervise(record)

    async def create(self, plan: str, name: str, password: str) -> Record:
        """Make an instance.

        Raises:
            ServiceError: it does not start; nothing is left of it.
        """
        record = Record(
            name=name,
            port=self._take_port(),
            plan=plan,
            admin_password=new_password(),
            owner_digest=digest(password),
            uid=self._take_uid(),
        )
        # From here on it counts, and its port is taken.
        self.records[name] = record
        try:
            await asyncio.to_thread(self._folders.make, record)
            await asyncio.to_thread(self._folders.save_last_port, record.port)
            await self._start(record)
            record.ready = True
            await self._save(record)
        except (UnitError, ServiceError, OSError) as error:
            await self._discard(record)
            raise ServiceError(START_FAILED, f"the instance did not start: {error}") from None
        except BaseException:
            await self._discard(record)
            raise
        self._supervise(record)
        logger.info("instance_started", instance=name, port=record.port)
        return record

    def get(self, name: str) -> Record:
        """Return an instance.

        Raises:
            ServiceError: 31102, there is none.
        """
        record = self.records.get(name)
        if record is None or not record.ready:
            raise ServiceError(NOT_FOUND, f"there is no instance {name} on this node")
        return record

    async def add_binding(self, record: Record, binding: Binding) -> None:
        """Add a binding to an instance.

        Raises:
            ServiceError: its server does not run or does not answer; then it was not added.
        """
        before, record.bindings = record.bindings, record.with_binding(binding)
        try:
            await self._save(record)
            await apply_users(self._config.local_address, record)
        except (ServiceError, ServerError) as error:
            record.bindings = before
            await self._save(record)
            await self._tell_or_restart(record)
            raise ServiceError(
                NOT_CONNECTED, f"the instance {record.name} does not answer: {error}"
            ) from None

    async def remove_binding(self, record: Record, binding: Binding) -> None:
        """Remove a binding from an instance, and close its connections.

        Raises:
            ServiceError: it could not be recorded, or the server could not be ended.
        """
        await self._write_bindings(record, record.without(binding))
        await self._tell_or_restart(record)

    async def remove(self, name: str) -> None:
        """Remove an instance with its data; a missing one is no error.

        Raises:
            ServiceError: a part of it is left; the request may be repeated.
        """
        record = self.records.get(name)
        if record is None:
            return
        supervisor = self._supervisors.pop(name, None)
        await aio.cancel_and_wait([supervisor] if supervisor is not None else [])
        try:
            # After a crash in the middle of this it counts as unfinished, and is removed then.
            record.ready = False
            await self._save(record)
            await self._discard(record)
        except (UnitError, OSError) as error:
            raise ServiceError(DESTROY_FAILED, f"the instance {name} was not removed: {error}") from None
        logger.info("instance_removed", instance=name, port=record.port)

    async def close(self) -> None:
        """End the supervision; the instances run on."""
        await aio.cancel_and_wait(self._supervisors.values())
        await self._runner.close()

    def _take_port(self) -> int:
        ports, taken = self._config.ports, {r.port for r in self.records.values()}
        port = next_port(ports.first, ports.last, taken, self._folders.last_port(), self._port_free)
        if port is None:
            raise ServiceError(START_FAILED, f"no port from {ports.first} to {ports.last} is free")
        return port

    def _take_uid(self) -> int | None:
        if self._config.sandbox != "systemd":
            return None
        allowed = self._config.uids
        return uids.free(allowed.first, allowed.last, (r.uid for r in self.records.values()))

    def _port_free(self, port: int) -> bool:
        with socket.socket(socket.AF_INET6 if ":" in self._config.bind else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((self._config.bind, port))
            except OSError:
                return False
        return True

    async def _save(self, record: Record) -> None:
        try:
            await asyncio.to_thread(self._folders.save, record)
        except OSError as error:
            raise ServiceError(SAVE_FAILED, f"{record.name}: {error.strerror}") from None

    async def _write_bindings(self, record: Record, bindings: list[Binding]) -> None:
        before, record.bindings = record.bindings, bindings
        try:
            await self._save(record)
        except ServiceError:
            record.bindings = before
            raise

    async def _start(self, record: Record) -> None:
        """Start its unit, and wait until it answers.

        Raises:
            UnitError: the unit did not start.
            ServiceError: it ended, or does not answer in time.
        """
        async with self._starts:
            await self._settle(record)
            await self._runner.start(self._folders.spec(record))
            loop = asyncio.get_running_loop()
            deadline = loop.time() + self._config.start_timeout
            while (answer := await ask(self._config.local_address, record)) is ServerState.NONE:
                status = await self._runner.status(record.unit)
                if not status.alive:
                    last_words = await asyncio.to_thread(self._folders.last_words, record.name)
                    raise ServiceError(
                        START_FAILED, f"its server {status.describe()}: {last_words}".rstrip(": ")
                    )
                if loop.time() > deadline:
                    raise ServiceError(START_FAILED, f"its server does not answer on port {record.port}")
                await asyncio.sleep(_LOOK_SECONDS)
            if answer is ServerState.LOADING:
                logger.info("instance_loading", instance=record.name)

    async def _settle(self, record: Record) -> None:
        """Assign a uid of its own to a server that an earlier release made.

        Raises:
            ServiceError: none is free, or its files cannot be handed over; it has none then.
        """
        if record.uid is not None or (uid := self._take_uid()) is None:
            return
        record.uid = uid
        try:
            # The record is written last: it is always true.
            await asyncio.to_thread(self._folders.hand_over, record)
        except OSError as error:
            record.uid = None
            raise ServiceError(SAVE_FAILED, f"{record.name}: {error.strerror or error}") from None
        logger.info("instance_has_own_uid", instance=record.name, uid=uid)

    async def _discard(self, record: Record) -> None:
        await self._runner.stop(record.unit, self._config.stop_grace)
        await asyncio.to_thread(self._folders.remove, record.name)
        self.records.pop(record.name, None)
        self.down.discard(record.name)

    async def _tell_or_restart(self, record: Record) -> None:
        """Apply the record to a running server, if need be by ending it: its supervisor starts it again."""
        try:
            if not (await self._runner.status(record.unit)).alive:
                return
            try:
                await apply_users(self._config.local_address, record)
            except ServerError as error:
                logger.warning("server_not_told", instance=record.name, reason=str(error))
                await self._runner.kill(record.unit)
                await self._runner.wait(record.unit)
        except UnitError as error:
            raise ServiceError(
                NOT_CONNECTED, f"the server of {record.name} could not be ended: {error}"
            ) from None

    def _supervise(self, record: Record) -> None:
        self._supervisors[record.name] = self._spawn(self._keep_up(record), f"keep-{record.name}")

    async def _keep_up(self, record: Record) -> None:
        """Keep a server running: adopt or start it, again and again."""
        pause, most = _RETRY_SECONDS
        while True:
            try:
                async with self._lock(record.name):
                    await self._bring_up(record)
                self.down.discard(record.name)
                pause = _RETRY_SECONDS[0]
                status = await self._runner.wait(record.unit)
                self.down.add(record.name)
                RESTARTS.inc()
                logger.warning("instance_ended", instance=record.name, reason=status.describe())
            except (UnitError, ServiceError) as error:
                logger.warning("instance_down", instance=record.name, reason=str(error))
                await asyncio.sleep(pause)
                pause = min(2 * pause, most)

    async def _bring_up(self, record: Record) -> None:
        if (await self._runner.status(record.unit)).alive:
            # It was found running: pending changes of the record are applied now.
            await self._tell_or_restart(record)
            if (await self._runner.status(record.unit)).alive:
                return
        # An ended unit is remembered until it is stopped.
        await self._runner.stop(record.unit, 0)
        await self._save(record)
        await self._start(record)
