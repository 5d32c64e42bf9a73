"""From `router.register` to the first answer, with a full table; and ten thousand registrations a second beside traffic.

    python -m tests.bench.bench_registration [--hosts N] [--tries N] [--rate N] [--seconds N] [--out build/bench/registration.json]

The router learns the table over the bus, as it does in use. Then the benchmark registers new hosts one after the other and requests each
until it is served. Then it sends `rate` registrations a second, of which nine in ten confirm a route and one brings a new endpoint, while
one client sends requests all the time; its latencies are compared with those before.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import socket
import statistics
import sys
import threading
import time
from pathlib import Path
from typing import Any

from tests.integration.router_rig import Rig, running
from tests.support.waiting import until

ROOT = Path(__file__).resolve().parents[2]
BATCH_SECONDS = 0.02


def message(port: int, host: str, uris: list[str], app: int) -> bytes:
    body = json.dumps(
        {
            "host": host,
            "port": port,
            "uris": uris,
            "app": app,
            "private_instance_id": f"{app:x}.{host}.{port}",
        }
    ).encode()
    return b"PUB router.register %d\r\n%s\r\n" % (len(body), body)


class Publisher:
    """A connection to the bus that writes messages as fast as it can."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), 30)
        self._socket.recv(4096)
        self._socket.sendall(b'CONNECT {"verbose":false}\r\n')
        self._thread = threading.Thread(target=self._answer, daemon=True)
        self._thread.start()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(5)

    def _answer(self) -> None:
        try:
            while data := self._socket.recv(4096):
                if b"PING" in data:
                    self._socket.sendall(b"PONG\r\n")
        except OSError:
            pass


def fill(rig: Rig, bus: Publisher, hosts: int, endpoints: int = 10) -> None:
    """Have the router learn a table."""
    for number in range(endpoints):
        for start in range(0, hosts, 100):
            uris = [f"h{i}.full.localhost" for i in range(start, min(start + 100, hosts))]
            bus.send(message(61001 + start // 100, f"127.1.{number}.1", uris, start // 100 + 1))
    until(lambda: rig.varz()["urls"] >= hosts, "the table is learned", 120)
    until(lambda: len(rig.dump()) >= hosts, "nginx has it", 120)


class Client:
    """One connection that sends requests."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._connection = http.client.HTTPConnection("127.0.0.1", rig.port, timeout=30)

    def ask(self, host: str) -> int:
        self._connection.request("GET", "/", headers={"Host": host})
        response = self._connection.getresponse()
        response.read()
        return response.status

    def close(self) -> None:
        self._connection.close()


def first_answers(bus: Publisher, client: Client, port: int, tries: int) -> list[float]:
    """Return the milliseconds from a registration to the first served request, with requests all the time."""
    found = []
    for number in range(tries):
        host = f"new{number}.localhost"
        data = message(port, "127.0.0.1", [host], 999_999)
        began = time.perf_counter()
        bus.send(data)
        while client.ask(host) != 200:
            if time.perf_counter() - began > 10:
                sys.exit(f"bench_registration: {host} was never served")
        found.append((time.perf_counter() - began) * 1000)
    return found


def traffic(client: Client, seconds: float) -> tuple[list[float], int]:
    """Return the milliseconds of each request for a served host, and the number of failures."""
    times, failed = [], 0
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        began = time.perf_counter()
        failed += client.ask("new0.localhost") != 200
        times.append((time.perf_counter() - began) * 1000)
    return times, failed


def flood(bus: Publisher, rate: int, seconds: float, hosts: int) -> int:
    """Register at a rate; return the number of registrations sent."""
    sent, began = 0, time.monotonic()
    while (now := time.monotonic() - began) < seconds:
        due = int(now * rate) - sent
        parts = []
        for _ in range(due):
            group, number = random.randrange(hosts // 100), random.randrange(10)
            host = f"h{group * 100 + random.randrange(100)}.full.localhost"
            # One in ten is new: nginx is told of each such.
            port = 61001 + group if random.random() < 0.9 else random.randrange(20000, 60000)
            parts.append(message(port, f"127.1.{number}.1", [host], group + 1))
        bus.send(b"".join(parts))
        sent += due
        time.sleep(BATCH_SECONDS)
    return sent


def percentile(values: list[float], share: float) -> float:
    return round(sorted(values)[min(len(values) - 1, int(len(values) * share))], 2)


def measure(rig: Rig, arguments: argparse.Namespace) -> dict[str, Any]:
    bus, client = Publisher(rig.bus_port), Client(rig)
    try:
        fill(rig, bus, arguments.hosts)
        backend = rig.backend("served")
        first = first_answers(bus, client, backend.port, arguments.tries)
        quiet, _ = traffic(client, min(5.0, arguments.seconds))
        sent: list[int] = []
        thread = threading.Thread(
            target=lambda: sent.append(flood(bus, arguments.rate, arguments.seconds, arguments.hosts))
        )
        thread.start()
        busy, failed = traffic(client, arguments.seconds)
        thread.join()
        # The router has taken in all earlier messages: the bus keeps their order.
        began = time.monotonic()
        last = first_answers(bus, client, backend.port, 1)
        behind = time.monotonic() - began
        during = last[0]
    finally:
        bus.close()
        client.close()
    return {
        "hosts": arguments.hosts,
        "endpoints": arguments.hosts * 10,
        "first_answer_ms": {
            "p50": percentile(first, 0.5),
            "p99": percentile(first, 0.99),
            "max": round(max(first), 2),
        },
        "registrations_per_second": round(sent[0] / arguments.seconds),
        "seconds_behind_at_the_end": round(behind, 3),
        "first_answer_after_flood_ms": round(during, 2),
        "traffic_failed": failed,
        "traffic_ms": {
            "before": {"p50": round(statistics.median(quiet), 3), "p99": percentile(quiet, 0.99)},
            "during": {"p50": round(statistics.median(busy), 3), "p99": percentile(busy, 0.99)},
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, default=10_000)
    parser.add_argument("--tries", type=int, default=300)
    parser.add_argument("--rate", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "bench" / "registration.json")
    arguments = parser.parse_args()
    with running() as rig:
        result = measure(rig, arguments)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
