"""Real servers on loopback for all integration tests: nats-server, PostgreSQL, ports the kernel gave."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.platform_fixture import person, platform

__all__ = ["person", "platform"]


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """Gives a function: each call names a TCP port of loopback that is free now."""

    def pick() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])

    return pick


@pytest.fixture
def nats_server(free_port: Callable[[], int], tmp_path: Path) -> Iterator[str]:
    """A nats-server without accounts; yields its URL."""
    port = free_port()
    with (tmp_path / "nats.log").open("wb") as out:
        process = subprocess.Popen(
            ["nats-server", "-a", "127.0.0.1", "-p", str(port)], stdout=out, stderr=subprocess.STDOUT
        )
        try:
            _await_port(port, process)
            yield f"nats://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(10)


@pytest.fixture(scope="session")
def postgres_cluster(free_port: Callable[[], int]) -> Iterator[str]:
    """A PostgreSQL cluster of its own, run as `postgres` where the tests are root; yields `host:port`."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not binaries:
        pytest.skip("PostgreSQL is not installed")
    home, port = Path(tempfile.mkdtemp(prefix="ingot-pg-")), free_port()
    data = home / "data"
    account = _postgres_account()
    if account:
        os.chown(home, account["user"], account["group"])
    run: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": "/", **account}
    initdb = [
        str(binaries[-1] / "initdb"),
        "-D",
        str(data),
        "-U",
        "ingot",
        "-A",
        "trust",
        "-E",
        "UTF8",
        "--no-sync",
    ]
    subprocess.run(initdb, check=True, **run)
    settings = ["listen_addresses=127.0.0.1", f"unix_socket_directories={home}", "fsync=off", f"port={port}"]
    options = [word for setting in settings for word in ("-c", setting)]
    process: subprocess.Popen[bytes] = subprocess.Popen(
        [str(binaries[-1] / "postgres"), "-D", str(data), *options], **run
    )
    try:
        _await_port(port, process)
        # It listens a moment before it takes connections.
        ready = [str(binaries[-1] / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port), "-t", "30"]
        deadline = time.monotonic() + 30
        while subprocess.run(ready, check=False, cwd="/").returncode:
            assert time.monotonic() < deadline, "PostgreSQL takes no connections"
            time.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres_cluster: str) -> Iterator[str]:
    """An empty database; yields an SQLAlchemy URL (psycopg 3)."""
    import psycopg

    name = f"test_{os.getpid()}_{time.monotonic_ns()}"
    server = f"postgresql://ingot@{postgres_cluster}"
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    yield f"postgresql+psycopg://ingot@{postgres_cluster}/{name}"
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def _postgres_account() -> dict[str, int]:
    if os.geteuid() != 0:
        return {}
    account = pwd.getpwnam("postgres")
    return {"user": account.pw_uid, "group": account.pw_gid}


def _await_port(port: int, process: subprocess.Popen[bytes], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise AssertionError(f"the server ended with {process.returncode}")
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(f"nothing listens on port {port}")
