"""Real servers on loopback, for tests and benchmarks."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.ports import free_port

POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


@contextmanager
def postgres(*, durable: bool = False, environment: Mapping[str, str] | None = None) -> Iterator[str]:
    """Run a PostgreSQL cluster, as `postgres` where this process is root; yield `host:port`.

    Args:
        durable: whether it waits for the disk, as in production.
        environment: more variables of the server.
    """
    home, port = Path(tempfile.mkdtemp(prefix="ingot-pg-")), free_port()
    data = home / "data"
    account = _postgres_account()
    if account:
        os.chown(home, account["user"], account["group"])
    run: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": "/", **account}
    initdb = [str(POSTGRES[-1] / "initdb"), "-D", str(data), "-U", "ingot", "-A", "trust", "-E", "UTF8"]
    subprocess.run([*initdb, "--no-sync"], check=True, **run)
    settings = ["listen_addresses=127.0.0.1", f"unix_socket_directories={home}", f"port={port}"]
    settings += [] if durable else ["fsync=off"]
    options = [word for setting in settings for word in ("-c", setting)]
    process: subprocess.Popen[bytes] = subprocess.Popen(
        [str(POSTGRES[-1] / "postgres"), "-D", str(data), *options],
        env={**os.environ, **(environment or {})},
        **run,
    )
    try:
        await_port(port, process)
        # PostgreSQL listens a moment before it takes connections.
        ready = [str(POSTGRES[-1] / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port), "-t", "30"]
        deadline = time.monotonic() + 30
        while subprocess.run(ready, check=False, cwd="/").returncode:
            assert time.monotonic() < deadline, "PostgreSQL takes no connections"
            time.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)
        shutil.rmtree(home, ignore_errors=True)


def await_port(port: int, process: subprocess.Popen[bytes], seconds: float = 30) -> None:
    """Wait until a program listens on a port of loopback, or fail when the process ends before."""
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


def _postgres_account() -> dict[str, int]:
    if os.geteuid() != 0:
        return {}
    account = pwd.getpwnam("postgres")
    return {"user": account.pw_uid, "group": account.pw_gid}
