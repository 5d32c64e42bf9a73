"""Real servers on loopback for all integration tests: nats-server, PostgreSQL, ports chosen by the kernel."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from common_rig import closing, nats

from tests.integration import forked
from tests.integration.platform_fixture import person, platform
from tests.integration.servers import POSTGRES, await_port, postgres
from tests.support import ports

__all__ = ["closing", "nats", "person", "platform"]


@pytest.fixture(scope="session", autouse=True)
def forks() -> Iterator[None]:
    """Daemons are forked, except where a test asks for real starts with `forked.forking(False)`."""
    with forked.forking(True):
        yield


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """Gives a function: each call names a TCP port of loopback that is free now."""
    return ports.free_port


@pytest.fixture
def nats_server(free_port: Callable[[], int], tmp_path: Path) -> Iterator[str]:
    """A nats-server without accounts; yields its URL."""
    port = free_port()
    with (tmp_path / "nats.log").open("wb") as out:
        process = subprocess.Popen(
            ["nats-server", "-a", "127.0.0.1", "-p", str(port)], stdout=out, stderr=subprocess.STDOUT
        )
        try:
            await_port(port, process)
            yield f"nats://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(10)


@pytest.fixture(scope="session")
def postgres_cluster() -> Iterator[str]:
    """A PostgreSQL cluster of its own; yields `host:port`."""
    if not POSTGRES:
        pytest.skip("PostgreSQL is not installed")
    with postgres() as address:
        yield address


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
