"""Daemons and the client as forks of a process that has imported their modules, so that a start does not import them again.

    process = forked.start("components.dea.main", "--config", str(path), cwd=ROOT, stdout=log, stderr=log)

does what `Popen([sys.executable, "-m", "components.dea.main", "--config", str(path)], …)` does. Each program is forked from a
process of its own, so that it knows nothing of another's modules and metrics. Tests that are about the start of a process start
real ones, and so does the platform's harness.
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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import msgspec

ROOT = Path(__file__).resolve().parents[2]
SERVER = Path(__file__).with_name("fork_server.py")
# By default a program's own module. The controller's metrics look at the environment when they are imported, which its `main`
# prepares for each process anew: it has what it builds on.
_IMPORTED = {
    "components.controller.main": (
        *(
            "aiohttp.web",
            "alembic.command",
            "argon2",
            "flask",
            "gunicorn.arbiter",
            "gunicorn.workers.gthread",
        ),
        *("httpx", "itsdangerous", "msgspec", "nats", "rich", "sqlalchemy.dialects.postgresql.psycopg"),
        *("sqlalchemy.orm", "structlog", "yaml"),
    )
}
_servers: dict[str, tuple[subprocess.Popen[bytes], socket.socket]] = {}
Stream = int | IO[Any] | None


class Forked(subprocess.Popen[bytes]):
    """A process of a program; like a child of ours, it stays a zombie until somebody has asked how it ended."""

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
            raise OSError(f"{self.args}: the process to fork from has ended")
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
) -> Forked:
    """Start a program; the options are Popen's, without pipes.

    Args:
        module: where its `main` is.
        arguments: of the program.
        name: its own name, where it says it.
    """
    request = {
        "argv": [name or module, *arguments],
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
        return Forked(request["argv"], _control(module), msgspec.json.encode(request), streams)


def run(module: str, *arguments: str, timeout: float, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a program to its end and give what it wrote, as `subprocess.run(…, capture_output=True, text=True)` does."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = start(module, *arguments, stdin=subprocess.DEVNULL, stdout=out, stderr=err, **options)
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
    return subprocess.CompletedProcess(process.args, code, *texts)


def _control(module: str) -> socket.socket:
    """Give the socket of the process that a program is forked from."""
    if module not in _servers:
        ours, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-uP", str(SERVER), str(theirs.fileno()), module]
            server = subprocess.Popen(
                [*command, *_IMPORTED.get(module, (module,))],
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
