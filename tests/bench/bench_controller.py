"""A controller under a fixed rate of requests: real PostgreSQL that waits for its disk, real NATS, gunicorn as shipped.

    python -m tests.bench.bench_controller [--rate 200] [--seconds 10] [--rounds 3] [--slow-clients 0] [--quick] [--out FILE]

Four of five requests read (GET /apps, /apps/NAME, /apps/NAME/stats, /info), one writes (PUT of an environment, POST and DELETE of
applications). They are sent when they are due (open loop), straight to the controller. The peer of the same run is a plain Flask
application under the same gunicorn that reads one row, at the same rate, by turns with the controller. DEAs and the health manager are
one small process that always answers; it, the load, the database and the bus share the machine with the controller. Slow clients, where
requested, are a process of their own (`slow_clients`), and attack the controller alone.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg

from tests.bench import machine
from tests.bench.open_loop import Call, Outcome, run, shape
from tests.integration.controller_rig import Client, ControllerProcess, close_clients
from tests.integration.servers import await_port, postgres
from tests.support.ports import free_port
from tests.support.waiting import until

ROOT = Path(__file__).resolve().parents[2]
READS = {"list": 25, "show": 35, "stats": 10, "info": 10}
WRITES = {"env": 10, "create": 5, "delete": 5}
GOAL_READS_MS, GOAL_WRITES_MS = 100.0, 300.0
INSTANCES = 2
WORKERS, THREADS = 2, 16
HERTZ = os.sysconf("SC_CLK_TCK")


class Mix:
    """The requests, one after the other, as independent users would send them."""

    def __init__(self, url: str, tokens: list[str], apps: int) -> None:
        self.url, self.apps = url, apps
        self.headers = [{"AUTHORIZATION": t} for t in tokens]
        self._dice = random.Random(11)
        self._serial = itertools.count()
        # Applications that were made on the way and may be deleted again: their owners and names.
        self._made: list[tuple[int, str]] = []
        kinds = {**READS, **WRITES}
        self._kinds, self._weights = list(kinds), list(kinds.values())

    def next(self) -> Call:
        """Return the next request."""
        kind = self._dice.choices(self._kinds, self._weights)[0]
        who = self._dice.randrange(len(self.headers))
        name = f"app{who}-{self._dice.randrange(self.apps)}"
        if kind == "delete" and self._made:
            who, name = self._made.pop(0)
            return self._call(kind, "DELETE", f"/apps/{name}", who)
        if kind in ("create", "delete"):
            return self._create(who)
        if kind == "env":
            return self._call(kind, "PUT", f"/apps/{name}", who, body={"env": [f"N={next(self._serial)}"]})
        path = {"list": "/apps", "show": f"/apps/{name}", "stats": f"/apps/{name}/stats", "info": "/info"}[
            kind
        ]
        return self._call(kind, "GET", path, who)

    def _create(self, who: int) -> Call:
        name = f"made{next(self._serial)}"

        def made(good: bool) -> None:
            if good:
                self._made.append((who, name))

        return self._call("create", "POST", "/apps", who, body=new_app(name), done=made)

    def _call(
        self,
        group: str,
        method: str,
        path: str,
        who: int,
        *,
        body: object = None,
        done: Callable[[bool], None] = lambda _good: None,
    ) -> Call:
        return Call(group, method, self.url + path, self.headers[who], body, done)


def new_app(name: str) -> dict[str, object]:
    """Return the body that makes an application."""
    return {
        "name": name,
        "staging": {"framework": "wsgi", "runtime": None},
        "uris": [f"{name}.ingot.localhost"],
        "instances": INSTANCES,
        "resources": {"memory": 64},
    }


def populate(url: str, database: str, users: int, apps: int) -> list[str]:
    """Register users, make each some applications that ccdb records as started; return the users' tokens."""
    tokens = []
    for number in range(users):
        email = f"user{number}@example.org"
        anyone = Client(url)
        anyone.call("POST", "/users", {"email": email, "password": "a good password"})
        person = anyone.login(email, "a good password")
        for app in range(apps):
            assert person.call("POST", "/apps", new_app(f"app{number}-{app}")).status_code < 400
        tokens.append(person.token)
    with psycopg.connect(database, autocommit=True) as connection:
        digest = "ab" * 20
        connection.execute(
            "UPDATE apps SET state = 'STARTED', package_state = 'STAGED', run_count = 1, package_hash = %s, staged_package_hash = %s",
            (digest, digest),
        )
    return tokens


def cpu_seconds(roots: dict[str, int]) -> dict[str, float]:
    """Return the processor time of processes and all their children, by name."""
    parents: dict[int, tuple[int, float]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(entry.name)] = (int(fields[1]), (int(fields[11]) + int(fields[12])) / HERTZ)

    def below(pid: int, root: int) -> bool:
        while pid > 1:
            if pid == root:
                return True
            pid = parents.get(pid, (0, 0.0))[0]
        return False

    return {
        name: sum(cpu for pid, (_, cpu) in parents.items() if below(pid, root))
        for name, root in roots.items()
    }


@contextmanager
def process(argv: list[str], log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program until the end of the block."""
    with log.open("ab") as out:
        made = subprocess.Popen(
            argv, stdout=out, stderr=out, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), **environment}
        )
    try:
        yield made
    finally:
        made.send_signal(signal.SIGTERM)
        try:
            made.wait(20)
        except subprocess.TimeoutExpired:
            made.kill()
            made.wait()


@contextmanager
def slow_clients(count: int, port: int, token: str, log: Path) -> Iterator[None]:
    """Attack a controller with slow clients until the end of the block."""
    if not count:
        yield
        return
    arguments = [str(count), str(port), token]
    with process([sys.executable, "-m", "tests.bench.slow_clients", *arguments], log):
        until(lambda: b"begun" in log.read_bytes(), "slow clients are there", 60)
        yield


def measure(
    rate: float, seconds: float, rounds: int, users: int, apps: int, *, slow: int = 0
) -> dict[str, Any]:
    """Run the benchmark."""
    facts = machine.facts()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ingot-bench-")))
        stack.callback(close_clients)
        address = stack.enter_context(postgres(durable=True))
        with psycopg.connect(f"postgresql://ingot@{address}/postgres", autocommit=True) as connection:
            connection.execute("CREATE DATABASE ccdb")
        database = f"postgresql://ingot@{address}/ccdb"
        ports = [free_port() for _ in range(3)]
        nats_url = f"nats://127.0.0.1:{ports[0]}"
        nats = stack.enter_context(
            process(["nats-server", "-a", "127.0.0.1", "-p", str(ports[0])], folder / "nats.log")
        )
        await_port(ports[0], nats)
        peers = stack.enter_context(
            process(
                [sys.executable, "-m", "tests.bench.controller_peers", nats_url, str(INSTANCES)],
                folder / "peers.log",
            )
        )
        controller = ControllerProcess(
            folder,
            ports[1],
            nats_url,
            database.replace("postgresql://", "postgresql+psycopg://"),
            workers=WORKERS,
            threads=THREADS,
        )
        stack.callback(controller.stop)
        until(controller.ready, "the controller is ready", 60)
        flask = stack.enter_context(
            process(
                [
                    *(sys.executable, "-m", "gunicorn", "-b", f"127.0.0.1:{ports[2]}", "-w", str(WORKERS)),
                    *("-k", "gthread", "--threads", str(THREADS), "--keep-alive", "20"),
                    "tests.bench.flask_peer:make()",
                ],
                folder / "flask.log",
                BENCH_DATABASE_URL=database.replace("postgresql://", "postgresql+psycopg://"),
            )
        )
        await_port(ports[2], flask)
        tokens = populate(controller.url, database, users, apps)
        mix = Mix(controller.url, tokens, apps)
        plain = Call("peer", "GET", f"http://127.0.0.1:{ports[2]}/user/user0@example.org")
        # PostgreSQL is the parent of its backends and a child of ours, as the others are.
        roots = {
            "controller": controller.process.pid,
            "nats": nats.pid,
            "peers": peers.pid,
            "flask": flask.pid,
            "database": _postmaster(address),
        }
        warm = min(3.0, seconds)
        asyncio.run(run(mix.next, rate / 2, warm))
        asyncio.run(run(lambda: plain, rate / 2, warm))
        ours, theirs = Outcome(), Outcome()
        spent: dict[str, float] = dict.fromkeys((*roots, "load"), 0.0)
        for _ in range(rounds):
            before, load_before = cpu_seconds(roots), time.process_time()
            with slow_clients(slow, ports[1], tokens[0], folder / "slow.log"):
                ours.add(asyncio.run(run(mix.next, rate, seconds)))
            after = cpu_seconds(roots)
            for name in roots.keys() - {"flask"}:
                spent[name] += after[name] - before[name]
            spent["load"] += time.process_time() - load_before
            flask_before = cpu_seconds(roots)["flask"]
            theirs.add(asyncio.run(run(lambda: plain, rate, seconds)))
            spent["flask"] += cpu_seconds(roots)["flask"] - flask_before
    settings = {
        "rate": rate,
        "seconds": seconds,
        "rounds": rounds,
        "workers": WORKERS,
        "threads": THREADS,
        "slow_clients": slow,
    }
    return {**_result(ours, theirs, spent), **settings, "machine": facts}


def _postmaster(address: str) -> int:
    with psycopg.connect(f"postgresql://ingot@{address}/postgres") as connection:
        row = connection.execute("SELECT setting FROM pg_settings WHERE name = 'data_directory'").fetchone()
    assert row is not None
    return int((Path(row[0]) / "postmaster.pid").read_text().split()[0])


def _result(ours: Outcome, theirs: Outcome, spent: dict[str, float]) -> dict[str, Any]:
    reads, writes, plain = shape(ours.of(*READS)), shape(ours.of(*WRITES)), shape(theirs.of("peer"))
    requests = reads["requests"] + writes["requests"]
    reached = reads["p99_ms"] <= GOAL_READS_MS and writes["p99_ms"] <= GOAL_WRITES_MS and not ours.failures
    return {
        "benchmark": "controller",
        "reads_p99_ms": reads["p99_ms"],
        "writes_p99_ms": writes["p99_ms"],
        "goal_ms": {"reads": GOAL_READS_MS, "writes": GOAL_WRITES_MS},
        "reached": bool(reached),
        "reads": reads,
        "writes": writes,
        "peer": plain,
        "ratio_reads_p50_to_peer": round(reads["p50_ms"] / max(plain["p50_ms"], 0.1), 2),
        "ratio_reads_p99_to_peer": round(reads["p99_ms"] / max(plain["p99_ms"], 0.1), 2),
        "routes": {kind: shape(ours.of(kind)) for kind in (*READS, *WRITES)},
        "cpu_ms_per_request": {k: round(v / requests * 1000, 2) for k, v in spent.items()},
        "failures": ours.failures,
        "peer_failures": theirs.failures,
        "generator_late_ms": round(max(ours.late, theirs.late) * 1000, 1),
    }


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Measure, write and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--users", type=int, default=20)
    parser.add_argument("--apps", type=int, default=5, help="of each user")
    parser.add_argument("--slow-clients", type=int, default=0, help="how many hold on to the controller")
    parser.add_argument("--quick", action="store_true", help="a few requests, once")
    parser.add_argument("--out", type=Path, default=machine.output("controller"))
    given = parser.parse_args(argv)
    if given.quick:
        given.rate, given.seconds, given.rounds, given.users = 50.0, 1.0, 1, 2
    return machine.report(
        measure(given.rate, given.seconds, given.rounds, given.users, given.apps, slow=given.slow_clients),
        given.out,
    )


if __name__ == "__main__":
    main()
