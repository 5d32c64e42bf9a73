"""Two controllers, and DEAs that answer for tasks and lines, for the tests of operations under /v2."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec
import psycopg
import pytest

from components.common.bus.messages import FoundDroplet
from components.common.bus.operation_messages import (
    TaskEnded,
    TaskRef,
    TaskReply,
    TaskStart,
)
from tests.integration.common_rig import NatsServer
from tests.integration.controller_rig import Client, ControllerProcess, Peers
from tests.support.waiting import until


@dataclass
class LogServer:
    """A DEA's numbered lines: `windows` by instance, each `(first, [texts])`; it honours `wait`."""

    windows: dict[str, tuple[int, list[str]]] = field(default_factory=dict)
    slow: set[str] = field(default_factory=set)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def __post_init__(self) -> None:
        world = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                self.answer(parts.path.removeprefix("/logs/"), dict(parse_qsl(parts.query)))

            def answer(self, name: str, query: dict[str, str]) -> None:
                after, limit, wait = int(query["after"]), int(query["limit"]), float(query["wait"])
                good = base64.b64encode(b"u:p").decode()
                if self.headers["Authorization"] != f"Basic {good}" or name not in world.windows:
                    self.reply(404, b"")
                    return
                with world.changed:
                    if name in world.slow:
                        world.changed.wait(30)
                    world.changed.wait_for(lambda: world.last(name) > after, timeout=wait)
                    first, texts = world.windows[name]
                lines = [{"n": n, "at": float(n), "stream": "stdout", "text": text}
                         for n, text in enumerate(texts, first) if n > after]  # fmt: skip
                page = {"instance": name, "first": first, "last": world.last(name), "lines": lines[:limit]}
                self.reply(200, json.dumps(page).encode())

            def reply(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_args: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def last(self, name: str) -> int:
        first, texts = self.windows[name]
        return first + len(texts) - 1

    def write(self, name: str, *texts: str, first: int = 1) -> None:
        with self.changed:
            begin, known = self.windows.get(name, (first, []))
            self.windows[name] = (begin, [*known, *texts])
            self.changed.notify_all()

    def close(self) -> None:
        with self.changed:
            self.slow.clear()
            self.changed.notify_all()
        self.server.shutdown()
        self.server.server_close()


class Deas(Peers):
    """DEAs that run tasks and show logs."""

    def __init__(self, nats_url: str, logs: LogServer) -> None:
        self.logs = logs
        self.asked: list[tuple[str, TaskStart]] = []
        self.told: list[tuple[str, str]] = []
        self.named: dict[str, set[str]] = {}
        self.refusal: str | None = None
        self.mute = False
        self.crashed: dict[int, list[str]] = {}
        super().__init__(nats_url)

    async def _begin(self) -> None:
        if not self.named:
            for id_ in self.deas:
                self.named[id_] = set()
                await self._listen(f"ingot.dea.{id_}.task", self._task_asked(id_))
                await self._listen(f"ingot.dea.{id_}.task_stop", self._task_told(id_))
        await super()._begin()

    async def _listen(self, subject: str, handler: Any) -> None:
        connection = self.bus.bus._connection
        assert connection is not None
        await connection.client.subscribe(subject, cb=handler)

    def _task_asked(self, id_: str) -> Any:
        async def receive(message: Any) -> None:
            start = msgspec.json.decode(message.data, type=TaskStart)
            self.asked.append((id_, start))
            if self.mute:
                return
            if self.refusal is None:
                self._name(id_, start.task, here=True)
            reply = TaskReply(task=start.task, error=self.refusal, log_uri=f"{self.logs.url}/logs/{start.task}",
                              credentials=["u", "p"])  # fmt: skip
            await message.respond(msgspec.json.encode(reply))

        return receive

    def _task_told(self, id_: str) -> Any:
        async def receive(message: Any) -> None:
            self.told.append((id_, msgspec.json.decode(message.data, type=TaskRef).task))

        return receive

    def _name(self, id_: str, task: str, *, here: bool) -> None:
        (self.named[id_].add if here else self.named[id_].discard)(task)
        self.deas[id_] = msgspec.structs.replace(self.deas[id_], tasks=sorted(self.named[id_]))

    def end(self, task: str, **more: Any) -> None:
        dea = next(id_ for id_, names in self.named.items() if task in names)
        self._name(dea, task, here=False)
        self.bus.publish("ingot.task.ended", TaskEnded(task=task, dea=dea, **more))

    async def _find(self, message: Any) -> None:
        query = message.body
        found = [(index, f"{droplet:x}-{index}", dea, start.version, "RUNNING")
                 for (droplet, index), (dea, start) in self.running.items() if droplet == query.droplet]  # fmt: skip
        found += [(0, name, "0-a", "old", "CRASHED") for name in self.crashed.get(query.droplet, [])]
        for index, name, dea, version, state in sorted(found, key=lambda entry: entry[4]):
            if query.indices is not None and index not in query.indices:
                continue
            await message.respond(
                FoundDroplet(dea=dea, version=version, droplet=query.droplet, instance=name, index=index, state=state,
                             state_timestamp=1, credentials=["u", "p"], log_uri=f"{self.logs.url}/logs/{name}")
            )  # fmt: skip


@dataclass
class Platform:
    one: ControllerProcess
    two: ControllerProcess
    peers: Deas
    logs: LogServer
    database_url: str

    def person(self, email: str, **quota: int) -> Client:
        boss = Client(self.one.url).login()
        assert boss.call("POST", "/users", {"email": email, "password": "pw"}).status_code == 204
        if quota:
            assert boss.call("PUT", f"/v2/users/{email}/quota", quota).status_code == 200
        return Client(self.one.url).login(email, "pw")

    def started(self, client: Client, name: str, instances: int = 1) -> int:
        assert client.create(name, instances=instances).status_code == 302
        assert client.upload(name, {"app.py": name}).status_code == 200
        assert client.put(name, state="STARTED").status_code == 200
        id_ = next(a["id"] for a in client.call("GET", "/v2/apps").json()["apps"] if a["name"] == name)
        until(lambda: len([k for k in self.peers.running if k[0] == id_]) == instances, "instances")
        return int(id_)


@contextmanager
def platform_in(
    request: pytest.FixtureRequest, folder: Path, free_port: Callable[[], int]
) -> Iterator[Platform]:
    """Two controllers over one PostgreSQL and one bus, with DEAs that are peers in this process."""
    cluster = request.getfixturevalue("postgres_cluster")
    name = f"operations_{time.monotonic_ns()}"
    with psycopg.connect(f"postgresql://ingot@{cluster}/postgres", autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    url = f"postgresql+psycopg://ingot@{cluster}/{name}"
    with ExitStack() as stack:
        nats = NatsServer(folder)
        nats.start()
        stack.callback(nats.stop)
        logs = LogServer()
        stack.callback(logs.close)
        peers = Deas(nats.url, logs)
        stack.callback(peers.close)
        one, two = (ControllerProcess(folder, free_port(), nats.url, url) for _ in range(2))
        for controller in (one, two):
            stack.callback(controller.stop)
        for controller in (one, two):
            # Both at once; each is then waited for.
            stack.callback(controller.process.terminate)
        for controller in (one, two):
            until(controller.ready, "controller is ready")
        yield Platform(one, two, peers, logs, url)
