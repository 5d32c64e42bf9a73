"""A real nats-server with the contract's users, and a small daemon made of `components.common` alone."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from components.common.bus.client import Bus
from components.common.bus.subjects import COMPONENTS, OPERATOR, PEER, permissions
from components.common.config import BusConfig
from tests.support.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
DAEMON = """
import sys
from components.common.config import DaemonConfig
from components.common.daemon import run

class Config(DaemonConfig, frozen=True, forbid_unknown_fields=True, kw_only=True):
    colour: str

class Sample:
    def __init__(self, config, bus, identity):
        self.bus = bus
    async def start(self): print("sample started", flush=True)
    async def stop(self): print("sample stopped", flush=True)
    def ready(self): return [] if self.bus.connected else ["bus_lost"]
    def varz(self): return {"colour": "green"}

sys.argv[0] = "ingot-sample"
run("sample", "Sample", Config, Sample)
"""


def authorization(without: str = " ", password: str | None = None) -> str:
    """Return nats-server's users of the contract, each with its name as password.

    Args:
        without: the prefix of subjects that no user may use.
        password: of all users, instead of each user's name.
    """
    known = []
    for user in (*COMPONENTS, OPERATOR, PEER):
        may = permissions(user)
        rights: dict[str, Any] = {
            "publish": [s for s in may.publish if not s.startswith(without)],
            "subscribe": [s for s in may.subscribe if not s.startswith(without)],
        }
        if may.allow_responses:
            rights["allow_responses"] = {"max": -1, "expires": "60s"}
        known.append({"user": user, "password": password or user, "permissions": rights})
    return f"authorization {{ users: {json.dumps(known)} }}"


class NatsServer:
    """One nats-server; with `users` it knows the contract's users, each with its own name as password."""

    def __init__(self, folder: Path, *, users: bool = False) -> None:
        self.port = free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self._config = folder / "nats.conf"
        self._process: subprocess.Popen[bytes] | None = None
        self.log = folder / "nats.log"
        self._lines = [f'listen: "127.0.0.1:{self.port}"', f'log_file: "{self.log}"']
        self._write(authorization() if users else "")

    def start(self) -> None:
        self._process = subprocess.Popen(["nats-server", "-c", str(self._config)])
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with socket.socket() as s:
                if s.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise AssertionError("nats-server does not listen")

    def reload(self, rest: str) -> None:
        """Have the server read a configuration of its address and `rest`, and wait until it has."""
        assert self._process is not None
        self._write(rest)
        before = self._reloads()
        self._process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 60
        while self._reloads() == before:
            assert time.monotonic() < deadline, "nats-server does not reload"
            time.sleep(0.02)

    def hang(self) -> None:
        """Freeze the server, with its connections open, until it is stopped."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _write(self, rest: str) -> None:
        self._config.write_text("\n".join([*self._lines, rest]) + "\n")

    def _reloads(self) -> int:
        return self.log.read_text().count("Reloaded server configuration")


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[NatsServer]:
    server = NatsServer(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def closing() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


def bus_of(stack: AsyncExitStack, server: NatsServer, user: str = "", password: str | None = None) -> Bus:
    """Make a bus that ends with the test; `up` connects it."""
    bus = Bus(
        BusConfig(urls=[server.url], user=user, password=user if password is None else password), "test"
    )
    stack.push_async_callback(bus.close)
    return bus


async def up(bus: Bus) -> Bus:
    """Connect a bus, and return it."""
    await bus.start()
    assert await bus.wait_connected(20)
    return bus
