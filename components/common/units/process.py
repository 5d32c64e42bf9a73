"""Units as plain processes in sessions of their own, for development and tests: no root, no systemd, no isolation."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import subprocess
from pathlib import Path

import msgspec

from components.common import aio
from components.common.filesystem.files import write_atomically
from components.common.procfs import read_stat
from components.common.units.spec import MISSING, UnitError, UnitSpec, UnitState, UnitStatus

_POLL_SECONDS = 0.2
_STEP_SECONDS = 0.05


class _Record(msgspec.Struct):
    """The record of a unit, by which the next daemon finds it; `born` is the process's start in clock ticks."""

    pid: int
    born: int
    ended: bool = False
    exit_code: int | None = None
    signal: int | None = None
    result: str = ""


class ProcessRunner:
    """A `Runner` of plain processes; uid, paths and all limits but open files and the length of a file are not enforced.

    Args:
        directory: where its records lie; made if missing.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._watchers: dict[str, asyncio.Task[None]] = {}
        # The endings of units that the disk does not take.
        self._unwritten: dict[str, _Record] = {}
        directory.mkdir(parents=True, exist_ok=True)

    async def start(self, spec: UnitSpec) -> None:
        """See `Runner.start`."""
        spec.check()
        if (await self.status(spec.name)).state is not UnitState.MISSING:
            raise UnitError(f"{spec.name}: exists already")
        with contextlib.ExitStack() as files:
            try:
                process = subprocess.Popen(  # noqa: ASYNC220 - asyncio's own kills its children when the loop ends
                    list(spec.argv),
                    cwd=spec.directory,
                    env=dict(spec.environment),
                    stdin=subprocess.DEVNULL,
                    stdout=_append(spec.stdout, files),
                    stderr=_append(spec.stderr, files),
                    start_new_session=True,
                )
            except OSError as error:
                raise UnitError(f"{spec.name}: {error.strerror}") from error
        # Its finaliser would complain about a child that goes on; the watcher below waits for the child itself.
        process.returncode = 0
        if spec.nofile is not None:
            _limit(process.pid, resource.RLIMIT_NOFILE, spec.nofile)
        if spec.file_mb is not None:
            _limit(process.pid, resource.RLIMIT_FSIZE, spec.file_mb * 1024 * 1024)
        record = _Record(pid=process.pid, born=_born(process.pid) or 0)
        try:
            self._write(spec.name, record)
        except OSError as error:
            _signal(process.pid, signal.SIGKILL)
            os.waitpid(process.pid, 0)  # noqa: ASYNC222 - it was killed: this only collects
            raise UnitError(f"{spec.name}: {error.strerror}") from error
        self._watchers[spec.name] = asyncio.create_task(
            self._watch(spec.name, record, spec.timeout_seconds), name=f"unit-{spec.name}"
        )

    async def stop(self, name: str, grace_seconds: float = 5.0) -> None:
        """See `Runner.stop`."""
        record = self._read(name)
        if record is None:
            return
        group = _group(record)
        if group is not None:
            _signal(group, signal.SIGTERM)
            for _ in range(int(grace_seconds / _STEP_SECONDS)):
                if not _group_alive(group):
                    break
                await asyncio.sleep(_STEP_SECONDS)
            _signal(group, signal.SIGKILL)
            await self.wait(name)
        watcher = self._watchers.pop(name, None)
        if watcher is not None:
            await watcher
        self._path(name).unlink(missing_ok=True)
        self._unwritten.pop(name, None)

    async def kill(self, name: str) -> None:
        """See `Runner.kill`."""
        record = self._read(name)
        if record is not None and (group := _group(record)) is not None:
            _signal(group, signal.SIGKILL)

    async def status(self, name: str) -> UnitStatus:
        """See `Runner.status`."""
        record = self._read(name)
        if record is None:
            return MISSING
        if record.ended:
            return UnitStatus(
                UnitState.EXITED, None, record.exit_code, record.signal, record.result or "unknown"
            )
        if name in self._watchers or _born(record.pid) == record.born:
            return UnitStatus(UnitState.RUNNING, record.pid)
        return UnitStatus(UnitState.EXITED, result="unknown")

    async def names(self, prefix: str) -> list[str]:
        """See `Runner.names`."""
        return sorted(p.stem for p in self._directory.glob("*.json") if p.stem.startswith(prefix))

    async def wait(self, name: str) -> UnitStatus:
        """See `Runner.wait`."""
        watcher = self._watchers.get(name)
        if watcher is not None:
            await asyncio.shield(watcher)
        # A process that an earlier daemon started is no child of this one: how it ended stays unknown.
        while (status := await self.status(name)).alive and status.pid is not None:
            await _ended(status.pid)
            await asyncio.sleep(_POLL_SECONDS)
        return status

    async def close(self) -> None:
        """See `Runner.close`."""
        await aio.cancel_and_wait(self._watchers.values())
        self._watchers.clear()

    async def _watch(self, name: str, record: _Record, timeout: float) -> None:
        timed_out = False
        try:
            await asyncio.wait_for(_ended(record.pid), timeout or None)
        except TimeoutError:
            timed_out = True
            _signal(record.pid, signal.SIGKILL)
            await _ended(record.pid)
        # Processes that it left in its session end with it, as in a control group.
        _signal(record.pid, signal.SIGKILL)
        _pid, ending = os.waitpid(record.pid, 0)  # noqa: ASYNC222 - it has ended: this only collects
        code = os.waitstatus_to_exitcode(ending)
        record.ended = True
        record.exit_code, record.signal = (code, None) if code >= 0 else (None, -code)
        record.result = "success" if code == 0 else "signal" if code < 0 else "exit-code"
        if timed_out:
            record.result = "timeout"
        try:
            self._write(name, record)
        except OSError:
            self._unwritten[name] = record
        self._watchers.pop(name, None)

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}.json"

    def _read(self, name: str) -> _Record | None:
        if name in self._unwritten:
            return self._unwritten[name]
        try:
            return msgspec.json.decode(self._path(name).read_bytes(), type=_Record)
        except (OSError, msgspec.MsgspecError):
            return None

    def _write(self, name: str, record: _Record) -> None:
        write_atomically(self._path(name), msgspec.json.encode(record))


def _append(path: Path | None, files: contextlib.ExitStack) -> int:
    return subprocess.DEVNULL if path is None else files.enter_context(path.open("ab")).fileno()


def _limit(pid: int, which: int, wanted: int) -> None:
    hard = resource.getrlimit(which)[1]
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    with contextlib.suppress(ProcessLookupError):
        resource.prlimit(pid, which, (limit, limit))


async def _ended(pid: int) -> None:
    """Wait until a process, a child of ours or not, has ended; it is not reaped."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    gone = asyncio.Event()
    loop.add_reader(handle, gone.set)
    try:
        await gone.wait()
    finally:
        loop.remove_reader(handle)
        os.close(handle)


def _born(pid: int) -> int | None:
    """Return when a living process started; None for one that is gone or a zombie."""
    found = read_stat(pid)
    return found.born if found is not None and found.alive else None


def _group(record: _Record) -> int | None:
    """Return the process group to signal; None when the pid belongs to another process by now."""
    if record.ended:
        return None
    born = _born(record.pid)
    return record.pid if born is None or born == record.born else None


def _group_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _signal(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
