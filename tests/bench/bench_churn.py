"""Never a wrong application: requests while instances come and go on ports that are used again and again.

    python -m tests.bench.bench_churn [--requests N] [--ports N] [--out build/bench/churn.json]

Each port is used as in a DEA's ring: an instance of some application serves there and registers every half second, ends (four in five
unregister, one in five is killed and is silent), and the port rests for two prune thresholds, closed, until the next instance, of another
application. Every answer names its application; the benchmark counts wrong answers, and fails where there is one.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.integration.router_rig import Rig, running
from tests.support.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
PRUNE_SECONDS, CONFIRM_SECONDS = 2.0, 0.5
SETTINGS = {"prune_seconds": PRUNE_SECONDS, "sweep_seconds": 0.2, "start_seconds": 1}


@dataclass
class Churn:
    """The counts of a run.

    Args:
        statuses: answers by status; 404 and 503 are right while an application has no instance.
        wrong: answers by another application than the requested one.
        instances: number of instances that lived.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    wrong: int = 0
    instances: int = 0
    killed: int = 0
    over: bool = False


class Port:
    """One port and the instances that serve there one after the other."""

    def __init__(self, rig: Rig, churn: Churn, apps: int) -> None:
        self._rig, self._churn, self._apps = rig, churn, apps
        self._port = free_port()
        self._app = 0
        self._writers: set[asyncio.StreamWriter] = set()

    async def live(self) -> None:
        while not self._churn.over:
            self._app = random.randrange(self._apps)
            self._churn.instances += 1
            instance = f"{self._churn.instances:032x}"
            server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
            try:
                await self._be_there(instance)
            finally:
                server.close()
                for writer in list(self._writers):
                    writer.transport.abort()
            await asyncio.sleep(2 * PRUNE_SECONDS)

    async def _be_there(self, instance: str) -> None:
        host, app = f"a{self._app}.localhost", self._app + 1
        ends = time.monotonic() + random.uniform(0.5, 3)
        while time.monotonic() < ends:
            self._rig.register(self._port, host, app=app, private_instance_id=instance)
            await asyncio.sleep(CONFIRM_SECONDS)
        if random.random() < 0.8:
            self._rig.unregister(self._port, host, app=app, private_instance_id=instance)
        else:
            self._churn.killed += 1

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        name = f"a{self._app}".encode()
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(name), name))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()


async def _ask(port: int, churn: Churn, apps: int, requests: int, instances: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while churn.statuses.total() < requests or churn.instances < instances:
        app = random.randrange(apps)
        writer.write(b"GET / HTTP/1.1\r\nHost: a%d.localhost\r\n\r\n" % app)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        body = await reader.readexactly(length)
        status = int(head[9:12])
        churn.statuses[status] += 1
        if status == 200 and body != b"a%d" % app:
            churn.wrong += 1
        if b"connection: close" in head.lower():
            writer.close()
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.close()


async def run(rig: Rig, requests: int, ports: int, clients: int = 16) -> Churn:
    """Churn until this number of requests was answered and each port has had two instances, however fast the machine is."""
    churn, apps = Churn(), max(2, ports // 4)
    lives = [asyncio.create_task(Port(rig, churn, apps).live()) for _ in range(ports)]
    try:
        await asyncio.gather(*(_ask(rig.port, churn, apps, requests, 2 * ports) for _ in range(clients)))
    finally:
        churn.over = True
        for task in lives:
            task.cancel()
        for task in lives:
            with contextlib.suppress(asyncio.CancelledError):
                await task
    return churn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--ports", type=int, default=60)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "bench" / "churn.json")
    arguments = parser.parse_args()
    started = time.monotonic()
    with running(router=SETTINGS) as rig:
        churn = asyncio.run(run(rig, arguments.requests, arguments.ports))
    result = {
        "requests": churn.statuses.total(),
        "wrong": churn.wrong,
        "statuses": {str(k): v for k, v in sorted(churn.statuses.items())},
        "instances": churn.instances,
        "killed": churn.killed,
        "seconds": round(time.monotonic() - started, 1),
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    sys.exit(1 if churn.wrong else 0)


if __name__ == "__main__":
    main()
