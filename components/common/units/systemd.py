"""Units as transient units of systemd, over D-Bus: they outlive the daemon and its connection."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from typing import Any, NamedTuple

from dbus_fast import BusType, DBusFastError, Message, MessageType
from dbus_fast.aio import MessageBus

from components.common import log
from components.common.units import accounts
from components.common.units.properties import Files, escape_path, properties
from components.common.units.spec import MISSING, UnitError, UnitSpec, UnitState, UnitStatus

_NAME = "org.freedesktop.systemd1"
_ROOT = "/org/freedesktop/systemd1"
_MANAGER = "org.freedesktop.systemd1.Manager"
_PROPERTIES = "org.freedesktop.DBus.Properties"
_NO_SUCH_UNIT = "org.freedesktop.systemd1.NoSuchUnit"
_JOB_RULE = f"type='signal',sender='{_NAME}',interface='{_MANAGER}',member='JobRemoved'"
_CHANGE_RULE = (
    f"type='signal',sender='{_NAME}',interface='{_PROPERTIES}',"
    f"member='PropertiesChanged',path_namespace='{_ROOT}/unit'"
)
_CALL_SECONDS = 10.0
_JOB_SECONDS = 90.0
_JOBS_KEPT = 1000
# A lost signal (the connection broke) is made up for by asking.
_LOOK_SECONDS = 5.0
_RETRY_SECONDS = 1.0
_CLD_EXITED = 1
logger = log.get(__name__)


class _Target(NamedTuple):
    """The address of a D-Bus call."""

    name: str
    path: str
    interface: str


_DBUS = _Target("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")


class _RefusedError(UnitError):
    """systemd answered with an error; `kind` is its D-Bus name."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class SystemdRunner:
    """A `Runner` of transient units; the daemon must be root.

    Args:
        directory: a folder of root's (0700) where units' files lie while they start.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._bus: MessageBus | None = None
        self._connecting = asyncio.Lock()
        self._changed: dict[str, asyncio.Event] = {}
        # Results of recent jobs by path: two callers that stop the same unit may share one job.
        self._jobs: dict[str, str] = {}
        self._job_done = asyncio.Event()

    async def start(self, spec: UnitSpec) -> None:
        """See `Runner.start`."""
        spec.check()
        files = self._write_files(spec)
        try:
            wanted = [[name, value] for name, value in properties(spec, files)]
            reply = await self._manager(
                "StartTransientUnit", "ssa(sv)a(sa(sv))", [_unit(spec.name), "fail", wanted, []]
            )
            result = await self._job(reply[0])
        finally:
            # A file that is mounted elsewhere stays there without its name; only a restart reads it again.
            if not spec.again:
                self._forget(spec.name)
        if result != "done":
            status = await self.status(spec.name)
            await self.stop(spec.name, 0)
            raise UnitError(f"{spec.name}: did not start ({result or 'no end of it'}: {status.describe()})")

    async def stop(self, name: str, grace_seconds: float = 5.0) -> None:
        """See `Runner.stop`."""
        try:
            reply = await self._manager("StopUnit", "ss", [_unit(name), "replace"])
        except _RefusedError as error:
            if error.kind == _NO_SUCH_UNIT:
                self._forget(name)
                return
            raise
        if await self._job(reply[0], grace_seconds) is None:
            await self.kill(name)
            if await self._job(reply[0]) is None:
                raise UnitError(f"{name}: is still there after SIGKILL")
        # A failed unit stays, so that its status can be read; no caller wants it any more.
        with contextlib.suppress(_RefusedError):
            await self._manager("ResetFailedUnit", "s", [_unit(name)])
        self._forget(name)

    async def kill(self, name: str) -> None:
        """See `Runner.kill`."""
        with contextlib.suppress(_RefusedError):
            await self._manager("KillUnit", "ssi", [_unit(name), "all", 9])

    async def status(self, name: str) -> UnitStatus:
        """See `Runner.status`."""
        path = f"{_ROOT}/unit/{escape_path(_unit(name))}"
        unit = await self._all(path, "org.freedesktop.systemd1.Unit")
        if not _there(unit.get("LoadState", ""), unit.get("ActiveState", "")):
            return MISSING
        return _status(unit, await self._all(path, "org.freedesktop.systemd1.Service"))

    async def names(self, prefix: str) -> list[str]:
        """See `Runner.names`."""
        reply = await self._manager("ListUnitsByPatterns", "asas", [[], [f"{prefix}*.service"]])
        return sorted(
            str(row[0]).removesuffix(".service")
            for row in reply[0]
            # A stopped unit may linger, inactive, until systemd collects it; a unit with a job is being restarted.
            if _there(row[2], row[3]) and (row[3] != "inactive" or row[7])
        )

    async def wait(self, name: str) -> UnitStatus:
        """See `Runner.wait`."""
        changed = self._changed.setdefault(escape_path(_unit(name)), asyncio.Event())
        try:
            while True:
                changed.clear()
                try:
                    status = await self.status(name)
                except UnitError as error:
                    logger.warning("units_unreachable", reason=str(error))
                    await asyncio.sleep(_RETRY_SECONDS)
                    continue
                if not status.alive:
                    return status
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), _LOOK_SECONDS)
        finally:
            self._changed.pop(escape_path(_unit(name)), None)

    async def close(self) -> None:
        """See `Runner.close`."""
        if self._bus is not None:
            self._bus.disconnect()
            self._bus = None

    def _write_files(self, spec: UnitSpec) -> Files:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        files = self._files(spec.name)
        # A file that systemd reads as root: every user of the machine can read the property `Environment`.
        _write(
            files.environment,
            0o600,
            "".join(f'{key}="{_quoted(value)}"\n' for key, value in spec.environment.items()),
        )
        if spec.uid is not None:
            _write(files.passwd, 0o444, accounts.passwd(spec))
            _write(files.group, 0o444, accounts.group(spec))
        return files

    def _files(self, name: str) -> Files:
        return Files(*(self._directory / f"{name}.{kind}" for kind in ("env", "passwd", "group")))

    def _forget(self, name: str) -> None:
        files = self._files(name)
        for path in (files.environment, files.passwd, files.group):
            path.unlink(missing_ok=True)

    async def _job(self, path: str, timeout: float = _JOB_SECONDS) -> str | None:
        """Wait for a job's end; return `done` or the reason of its failure, None while it still runs after `timeout`.

        Raises:
            UnitError: the connection broke meanwhile.
        """
        bus = self._bus
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while path not in self._jobs:
            if bus is None or not bus.connected:
                raise UnitError("the connection to systemd broke while a job was under way")
            self._job_done.clear()
            left = deadline - loop.time()
            if left <= 0:
                return None
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._job_done.wait(), min(left, _LOOK_SECONDS))
        return self._jobs[path]

    async def _manager(self, member: str, signature: str, body: list[Any]) -> list[Any]:
        return await _call(await self._connection(), _Target(_NAME, _ROOT, _MANAGER), member, signature, body)

    async def _all(self, path: str, interface: str) -> dict[str, Any]:
        target = _Target(_NAME, path, _PROPERTIES)
        reply = await _call(await self._connection(), target, "GetAll", "s", [interface])
        return {key: variant.value for key, variant in reply[0].items()}

    async def _connection(self) -> MessageBus:
        async with self._connecting:
            if self._bus is not None and self._bus.connected:
                return self._bus
            bus = MessageBus(bus_type=BusType.SYSTEM)
            try:
                await asyncio.wait_for(bus.connect(), _CALL_SECONDS)
            except (OSError, EOFError, DBusFastError, TimeoutError) as error:
                raise UnitError(f"the system's D-Bus cannot be reached: {error}") from error
            bus.add_message_handler(self._on_message)
            for rule in (_JOB_RULE, _CHANGE_RULE):
                await _call(bus, _DBUS, "AddMatch", "s", [rule])
            await _call(bus, _Target(_NAME, _ROOT, _MANAGER), "Subscribe")
            self._jobs.clear()
            self._bus = bus
            return bus

    def _on_message(self, message: Message) -> None:
        if message.message_type is not MessageType.SIGNAL:
            return
        if message.member == "JobRemoved":
            _number, path, unit, result = message.body
            if unit.startswith("ingot-"):
                self._jobs[path] = result
                while len(self._jobs) > _JOBS_KEPT:
                    del self._jobs[next(iter(self._jobs))]
                self._job_done.set()
        elif message.member == "PropertiesChanged" and message.path is not None:
            changed = self._changed.get(message.path.rpartition("/")[2])
            if changed is not None:
                changed.set()


async def _call(
    bus: MessageBus, target: _Target, member: str, signature: str = "", body: list[Any] | None = None
) -> list[Any]:
    message = Message(
        destination=target.name,
        path=target.path,
        interface=target.interface,
        member=member,
        signature=signature,
        body=body or [],
    )
    try:
        reply = await asyncio.wait_for(bus.call(message), _CALL_SECONDS)
    except (OSError, EOFError, DBusFastError, TimeoutError) as error:
        raise UnitError(f"{member}: systemd did not answer ({type(error).__name__})") from error
    if reply.message_type is MessageType.ERROR:
        text = reply.body[0] if reply.body else ""
        raise _RefusedError(reply.error_name or "", f"{member}: {text}")
    return list(reply.body)


def _write(path: Path, mode: int, text: str) -> None:
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        # Under any umask of the daemon, a guest must be able to read the files that it is shown.
        os.fchmod(handle, mode)
        file.write(text)


def _there(load: str, active: str) -> bool:
    # A running unit exists, whatever became of its file.
    return load == "loaded" or active in ("activating", "active", "deactivating")


def _status(unit: dict[str, Any], service: dict[str, Any]) -> UnitStatus:
    active, sub, user = unit["ActiveState"], unit["SubState"], str(service.get("User", ""))
    code, number = service.get("ExecMainCode", 0), service.get("ExecMainStatus", 0)
    if active in ("activating", "reloading") or (active == "active" and sub == "running"):
        return UnitStatus(UnitState.RUNNING, service.get("MainPID") or None, user=user)
    if active == "deactivating":
        return UnitStatus(UnitState.STOPPING, service.get("MainPID") or None, user=user)
    if active in ("inactive", "failed") and unit.get("Job", (0, "/"))[0]:
        # It is being restarted, or about to be forgotten.
        return UnitStatus(UnitState.STOPPING, user=user)
    if active == "inactive":
        # It was stopped on request; systemd has not collected it yet.
        return MISSING
    by_itself = code == _CLD_EXITED
    return UnitStatus(
        UnitState.EXITED,
        None,
        number if by_itself else None,
        number if code and not by_itself else None,
        str(service.get("Result", "")),
        user,
    )


def _unit(name: str) -> str:
    return f"{name}.service"


def _quoted(value: str) -> str:
    return "".join(f"\\{c}" if c in '\\"`$' else c for c in value)
