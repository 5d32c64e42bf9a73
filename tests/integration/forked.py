"""Daemons and the client as forks of a process that has imported their modules, so that a start does not import them again.

    process = forked.start("components.dea.main", "--config", str(path), cwd=ROOT, stdout=log, stderr=log)

does the same as `Popen([sys.executable, "-m", "components.dea.main", "--config", str(path)], …)`, and outside of a block of
`forking` it is exactly that: for benchmarks, and for tests of the start of a process. Each program is forked from a process of
its own, so that it does not see another's modules and metrics.
"""

from __future__ import annotations

import atexit
import os
import select
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import msgspec

ROOT = Path(__file__).resolve().parents[2]
SERVER = Path(__file__).with_name("fork_server.py")
# The libraries of a controller, without its own modules: its metrics read the environment at their import, and its `main` prepares
# that environment for each process anew.
_CONTROLLER = (
    "aiohttp.web alembic.command argon2 flask gunicorn.arbiter gunicorn.workers.gthread httpx itsdangerous "
    "msgspec nats rich sqlalchemy.dialects.postgresql.psycopg sqlalchemy.orm structlog yaml"
)
# The modules imported before; by default the program's own. The orchestrator's `main` imports the others later.
_IMPORTED = {
    "components.controller.main": _CONTROLLER.split(),
    "orchestrator.main": ["orchestrator.main", "orchestrator.server"],
}
_servers: dict[str, tuple[subprocess.Popen[bytes], socket.socket]] = {}
Stream = int | IO[Any] | None
_forking = False


def enabled() -> bool:
    """Return whether programs are forked now."""
    return _forking


@contextmanager
def forking(wanted: bool) -> Iterator[None]:
    """Fork programs inside of the block, or start real ones."""
    global _forking  # noqa: PLW0603 - rigs of many kinds start programs, wherever they are made
    before, _forking = _forking, wanted
    try:
        yield
    finally:
        _forking = before


class Forked(subprocess.Popen[bytes]):
    """A process of a program; like a child of this process, it stays a zombie until its exit status is read."""

    def __init__(
        self, arguments: Sequence[str], control: socket.socket, request: bytes, streams: Sequence[int]
    ) -> None:
        self.args = arguments
        self.stdin = self.stdout = self.stderr = None
        self.returncode = None
        # The base class has no child to wait for.
        self._child_created = False
        self._lock = threading.Lock()
        self._reply, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
        with theirs:
            socket.send_fds(control, [request], [theirs.fileno(), *streams])
        self.pid = int(self._said())

    def poll(self) -> int | None:
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        code = self._ended(timeout)
        if code is None:
            assert timeout is not None
            raise subprocess.TimeoutExpired(self.args, timeout)
        return code

    def _ended(self, seconds: float | None) -> int | None:
        if self.returncode is None:
            poller = select.poll()
            poller.register(self._reply, select.POLLIN)
            if poller.poll(None if seconds is None else seconds * 1000):
                with self._lock:
                    if self.returncode is None:
                        self.returncode = int(self._said())
                        self._reply.close()
        return self.returncode

    def _said(self) -> bytes:
        said = self._reply.recv(16)
        if not said:
            raise OSError(f"{self.args!r}: the process to fork from has ended")
        return said


def start(
    module: str,
    *arguments: str,
    name: str = "",
    cwd: Path | str | None = None,
    env: Mapping[str, str] | None = None,
    stdin: Stream = None,
    stdout: Stream = None,
    stderr: Stream = None,
    start_new_session: bool = False,
) -> subprocess.Popen[bytes]:
    """Start a program; the options are Popen's, without pipes.

    Args:
        module: the module of its `main`.
        arguments: of the program.
        name: the program's name in its own output, where it prints one.
    """
    argv = [name or module, *arguments]
    if not _forking:
        code = f"import sys; from {module} import main; sys.argv[0] = {argv[0]!r}; sys.exit(main())"
        return subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            cwd=cwd,
            env=env,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=start_new_session,
        )
    request = {
        "argv": argv,
        "cwd": str(cwd or Path.cwd()),
        "env": dict(os.environ if env is None else env),
        "session": start_new_session,
    }
    with open(os.devnull, "r+b") as null:  # noqa: PTH123 - a device
        streams: list[int] = []
        for number, stream in enumerate((stdin, stdout, stderr)):
            if stream is None:
                streams.append(number)
            elif stream == subprocess.DEVNULL:
                streams.append(null.fileno())
            elif stream == subprocess.STDOUT:
                streams.append(streams[1])
            else:
                streams.append(stream if isinstance(stream, int) else stream.fileno())
        return Forked(argv, _control(module), msgspec.json.encode(request), streams)


def run(
    module: str, *arguments: str, timeout: float, name: str = "", **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end and return its output, as `subprocess.run(…, capture_output=True, text=True)` does."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = start(
            module, *arguments, name=name, stdin=subprocess.DEVNULL, stdout=out, stderr=err, **options
        )
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read().decode())
    return subprocess.CompletedProcess([name or module, *arguments], code, *texts)


def _control(module: str) -> socket.socket:
    """Return the socket of the process that a program is forked from."""
    if module not in _servers:
        ours, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-uP", str(SERVER), str(theirs.fileno()), module]
            server = subprocess.Popen(
                [*command, *_IMPORTED.get(module, [module])],
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                cwd=ROOT,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        _servers[module] = server, ours
    return _servers[module][1]


@atexit.register
def _end() -> None:
    for server, control in _servers.values():
        control.close()
        server.wait(20)
