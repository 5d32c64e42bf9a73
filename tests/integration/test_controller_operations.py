"""What operators and users see of a platform of two controllers: logs, tasks, usage, events, over a real bus and PostgreSQL."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec
import pytest
import sqlalchemy as sa

from components.common.messages import (
    DeaUsage,
    FoundDroplet,
    RouterUsage,
    TaskEnded,
    TaskRef,
    TaskReply,
    TaskStart,
    UsageSample,
)
from tests.integration.controller_rig import Client, ControllerProcess, Peers, until


@dataclass
class LogServer:
    """A DEA's numbered lines: `windows` by instance, each `(first, [texts])`; one asked to wait waits."""

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
        client = self.bus.bus._client
        assert client is not None
        await client.subscribe(subject, cb=handler)

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


@pytest.fixture(scope="module")
def platform(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]
) -> Iterator[Platform]:
    with rig(request, tmp_path_factory.mktemp("operations"), free_port) as made:
        yield made


def rig(request: pytest.FixtureRequest, folder: Path, free_port: Callable[[], int]) -> Any:
    from contextlib import ExitStack, contextmanager

    from tests.integration.common_rig import NatsServer

    @contextmanager
    def run() -> Iterator[Platform]:
        import psycopg

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
            controllers = (one, two)
            for controller in controllers:
                stack.callback(controller.stop)
            for controller in controllers:
                # Both at once; each is then waited for.
                stack.callback(controller.process.terminate)
            for controller in controllers:
                until(controller.ready, "controller is ready", 60)
            yield Platform(one, two, peers, logs, url)

    return run()


def lines(answer: dict[str, Any]) -> list[tuple[int, str]]:
    return [(line["instance"], line["text"]) for line in answer["lines"]]


def test_lines_of_all_instances_wherever_one_asks(platform: Platform) -> None:
    one = platform.person("logs@b.com")
    two, logs = one.at(platform.two.url), platform.logs
    id_ = platform.started(one, "talks", 3)
    a, b, c = (f"{id_:x}-{n}" for n in range(3))
    logs.write(a, *(f"a{n}" for n in range(1, 6)))
    logs.write(b, "b1", "b2")
    began = one.call("GET", "/v2/apps/talks/logs?tail=3").json()
    assert lines(began) == [(0, "a3"), (0, "a4"), (0, "a5")], "c says nothing: it has no lines yet"
    assert set(began["lines"][0]) == {"instance", "id", "n", "at", "stream", "text"}
    nothing = two.call("GET", f"/v2/apps/talks/logs?cursor={began['cursor']}").json()
    assert (nothing["lines"], nothing["missed"]) == ([], [])

    threading.Timer(0.3, logs.write, (b, "b3")).start()
    before = time.monotonic()
    more = one.call("GET", f"/v2/apps/talks/logs?cursor={nothing['cursor']}&wait=10").json()
    assert lines(more) == [(1, "b3")]
    assert time.monotonic() - before < 8, "the first line ends the wait"

    logs.write(c, "c9", first=9)
    logs.windows[a] = (20, ["a20"])
    gap = two.call("GET", f"/v2/apps/talks/logs?cursor={more['cursor']}&wait=1").json()
    assert sorted(lines(gap)) == [(0, "a20"), (2, "c9")]
    assert sorted((m["instance"], m["count"]) for m in gap["missed"]) == [(0, 14), (2, 8)]

    logs.slow.add(b)
    logs.write(a, "a21")
    late = one.call("GET", f"/v2/apps/talks/logs?cursor={gap['cursor']}").json()
    assert lines(late) == [(0, "a21")], "one that does not answer holds up nobody"
    logs.slow.clear()
    del logs.windows[c]
    logs.write(b, "b4")
    assert lines(two.call("GET", f"/v2/apps/talks/logs?cursor={late['cursor']}").json()) == [(1, "b4")]
    assert lines(one.call("GET", "/v2/apps/talks/logs?instance=1").json()) == [
        (1, f"b{n}") for n in range(1, 5)
    ]

    platform.peers.crashed[id_] = ["dead"]
    logs.write("dead", "last words")
    assert (0, "last words") in lines(one.call("GET", "/v2/apps/talks/logs").json())

    foreign = platform.person("else@b.com")
    platform.started(foreign, "other")
    assert foreign.call("GET", "/v2/apps/talks/logs").json()["code"] == 301
    for bad in (
        f"cursor={late['cursor']}x",
        f"cursor={foreign.call('GET', '/v2/apps/other/logs').json()['cursor']}",
        "wait=11",
        "tail=-1",
        "tail=1001",
        "instance=x",
        "colour=red",
    ):
        answer = one.call("GET", f"/v2/apps/talks/logs?{bad}")
        assert (answer.status_code, answer.json()["code"]) == (400, 100), bad
        assert bad.partition("=")[0] in answer.json()["description"]


def test_a_task_from_beginning_to_end(platform: Platform) -> None:
    peers, logs = platform.peers, platform.logs
    one = platform.person("tasks@b.com", memory=200)
    two = one.at(platform.two.url)
    assert one.create("works").status_code == 302
    assert one.call("POST", "/v2/apps/works/tasks", {"command": "true"}).json()["code"] == 300
    assert one.upload("works", {"app.py": "x"}).status_code == 200
    assert one.put("works", state="STARTED").status_code == 200
    asked = len(peers.asked)
    answer = one.call(
        "POST", "/v2/apps/works/tasks", {"command": "rake db:migrate", "memory": 100, "timeout": 60}
    )
    task = answer.json()
    assert (answer.status_code, task["state"], task["by"]) == (202, "running", "tasks@b.com")
    dea, start = peers.asked[asked]
    assert (start.task, start.command, start.timeout) == (task["id"], "rake db:migrate", 60)
    assert (start.start.limits.mem, start.start.uris, start.start.name) == (100, [], "works")
    assert start.start.sha1
    assert two.call("GET", f"/v2/apps/works/tasks/{task['id']}").json() == task
    assert one.call("GET", "/info").json()["usage"]["memory"] == 164, "what a task may use counts"
    assert one.call("POST", "/v2/apps/works/tasks", {"command": "x"}).json()["code"] == 600
    logs.write(task["id"], "migrating", "done")
    shown = two.call("GET", f"/v2/apps/works/tasks/{task['id']}/logs").json()
    assert ([line["text"] for line in shown["lines"]], shown["state"]) == (["migrating", "done"], "running")

    peers.end(task["id"], exit_status=0, tail="migrating\ndone\nand out\n")
    ended = until(
        lambda: (t := one.call("GET", f"/v2/apps/works/tasks/{task['id']}").json())["ended"] and t, "end"
    )
    assert (ended["state"], ended["exit_status"], ended["detail"]) == ("succeeded", 0, "")
    assert one.call("GET", "/info").json()["usage"]["memory"] == 64
    logs.windows.pop(task["id"])
    rest = one.call("GET", f"/v2/apps/works/tasks/{task['id']}/logs?cursor={shown['cursor']}&wait=10").json()
    assert ([line["text"] for line in rest["lines"]], rest["state"]) == (["and out"], "succeeded")

    failing = one.call("POST", "/v2/apps/works/tasks", {"command": "false"}).json()
    peers.end(failing["id"], exit_status=None, detail="memory over 64 MB", tail="")
    path = f"/v2/apps/works/tasks/{failing['id']}"
    until(lambda: one.call("GET", path).json()["state"] == "failed", "failed")
    assert one.call("GET", path).json()["detail"] == "memory over 64 MB"

    stopped = one.call("POST", "/v2/apps/works/tasks", {"command": "sleep 99"}).json()
    path = f"/v2/apps/works/tasks/{stopped['id']}"
    answer = two.call("DELETE", path)
    assert (answer.status_code, answer.json()["state"], answer.json()["detail"]) == (
        200,
        "failed",
        "stopped by tasks@b.com",
    )
    until(lambda: stopped["id"] in [t for _, t in peers.told], "the DEA is told")
    peers.end(stopped["id"], exit_status=None, detail="stopped", tail="z z z\n")
    until(lambda: one.call("GET", path + "/logs").json()["lines"], "its tail is kept all the same")
    assert one.call("DELETE", path).json() == one.call("GET", path).json(), "an end is an end"
    assert one.call("GET", path).json()["detail"] == "stopped by tasks@b.com"

    ids = [t["id"] for t in one.call("GET", "/v2/apps/works/tasks").json()["tasks"]]
    assert ids == [stopped["id"], failing["id"], task["id"]]
    assert dea in peers.deas
    foreign = platform.person("nosy@b.com")
    assert foreign.call("GET", path).json()["code"] == 301


def test_tasks_that_make_no_sense(platform: Platform) -> None:
    one = platform.person("odd@b.com")
    assert one.create("odd").status_code == 302
    for bad in ({"command": ""}, {"command": 1}, {"command": "x" * 5000}, {"command": "x", "memory": -1},
                {"command": "x", "memory": "1"}, {"command": "x", "timeout": 0}, {"command": "x", "timeout": 1e9},
                {"command": "x", "colour": "red"}, {"command": "a\0b"}):  # fmt: skip
        answer = one.call("POST", "/v2/apps/odd/tasks", bad)
        assert (answer.status_code, answer.json()["code"]) == (400, 100), bad
        assert list(bad)[-1] in answer.json()["description"]
    assert one.call("GET", "/v2/apps/odd/tasks/none").json()["code"] == 303
    assert one.call("GET", "/v2/apps/odd/tasks/%00").json()["code"] == 303


def test_a_task_that_no_dea_takes_or_keeps(platform: Platform) -> None:
    peers = platform.peers
    one = platform.person("unlucky@b.com")
    platform.started(one, "lost")
    peers.refusal = "no room here"
    try:
        before = len(peers.asked)
        refused = one.call("POST", "/v2/apps/lost/tasks", {"command": "true"}).json()
        assert (refused["state"], refused["detail"]) == ("failed", "it could not be started: no room here")
        assert len(peers.asked) - before == 3
    finally:
        peers.refusal = None
    huge = platform.person("huge@b.com", memory=1 << 20)
    platform.started(huge, "huge")
    none = huge.call("POST", "/v2/apps/huge/tasks", {"command": "true", "memory": 100_000}).json()
    assert none["detail"] == "it could not be started: no DEA has room for it"

    peers.mute = True
    try:
        before = len(peers.asked)
        silent = one.call("POST", "/v2/apps/lost/tasks", {"command": "true"}).json()
        assert (silent["state"], silent["detail"]) == ("failed", "the DEA chosen for it did not answer")
        assert len(peers.asked) - before == 1, "it is never run twice"
        until(lambda: silent["id"] in [t for _, t in peers.told], "it is ended, should it run")
    finally:
        peers.mute = False

    forgotten = one.call("POST", "/v2/apps/lost/tasks", {"command": "true"}).json()
    engine = sa.create_engine(platform.database_url)
    with engine.begin() as connection:
        # As a controller leaves it that is killed while it asks.
        connection.execute(
            sa.text("UPDATE tasks SET state='pending', started_at=NULL, log_uri='' WHERE id=:id"),
            {"id": forgotten["id"]},
        )
        connection.execute(
            sa.text(
                "INSERT INTO tasks SELECT 'never', app_id, command, memory, timeout, 'pending', NULL, '', '', '', '', '[]',"
                " by, created_at - 3600, NULL, NULL FROM tasks WHERE id=:id"
            ),
            {"id": forgotten["id"]},
        )
    engine.dispose()
    path = "/v2/apps/lost/tasks/"
    until(
        lambda: one.call("GET", path + forgotten["id"]).json()["state"] == "running",
        "it runs: its DEA says so",
    )
    until(lambda: one.call("GET", path + "never").json()["state"] == "failed", "it was never started")
    for dea in peers.deas:
        peers._name(dea, forgotten["id"], here=False)
    gone = until(
        lambda: (t := one.call("GET", path + forgotten["id"]).json())["ended"] and t,
        "its DEA names it no more",
        40,
    )
    assert gone["detail"] == "its DEA no longer runs it, and how it ended is not known"


def test_usage_by_day(platform: Platform) -> None:
    one, boss = platform.person("used@b.com"), Client(platform.one.url).login()
    id_ = platform.started(one, "busy")
    now = int(time.time())
    today = dt.datetime.fromtimestamp(now, dt.UTC).date()
    bus = platform.peers.bus
    sample = UsageSample(droplet=id_, instance="i", reserved=60, used=30.0, cpu=1.5)
    again = msgspec.structs.replace(sample, restarted=True)
    for dea, samples in (("0-a", [sample, again]), ("1-b", [sample])):
        bus.publish("ingot.dea.usage", DeaUsage(dea=dea, at=now, seconds=60, samples=samples))
    for _ in range(20):
        bus.publish(
            "ingot.router.usage",
            RouterUsage(router="r", at=now, seconds=60, requests={str(id_): 5, "999999": 1}),
        )
    bus.publish(
        "ingot.router.usage", RouterUsage(router="r", at=now - 86400, seconds=60, requests={str(id_): 1})
    )
    bus.publish("ingot.dea.usage", b"{not json")

    def rows(query: str = "", client: Client = one) -> list[dict[str, Any]]:
        return list(client.call("GET", f"/v2/usage{query}").json()["usage"])

    until(
        lambda: (r := rows()) and r[0]["requests"] == 100 and r[0]["cpu_seconds"] == 4.5 and len(r) == 2,
        "all added",
    )
    first = {"day": today.isoformat(), "user": "used@b.com", "app": "busy", "reserved_mb_hours": 3.0,
             "used_mb_hours": 1.5, "cpu_seconds": 4.5, "requests": 100, "restarts": 1}  # fmt: skip
    assert rows()[0] == first
    yesterday = today - dt.timedelta(days=1)
    assert [r["requests"] for r in rows(f"?to={yesterday}")] == [1]
    assert rows("?app=none") == []
    assert first in rows("?user=used@b.com&app=busy", boss)
    assert one.call("GET", f"/v2/usage?user={boss_email()}").json()["code"] == 200
    text = one.call("GET", "/v2/usage", headers={"Accept": "text/csv"})
    assert text.headers["Content-Type"].startswith("text/csv")
    assert text.text == one.call("GET", "/v2/usage?format=csv").text
    assert text.text.splitlines()[1] == f"{today},used@b.com,busy,3.0,1.5,4.5,100,1"
    for bad in (
        "from=2011",
        "to=x",
        f"from={today}&to={yesterday}",
        "from=2001-01-01",
        "format=xml",
        "colour=red",
    ):
        answer = one.call("GET", f"/v2/usage?{bad}")
        assert (answer.status_code, answer.json()["code"]) == (400, 100), bad
    assert one.call("DELETE", "/apps/busy").status_code == 200
    assert rows()[0] == first, "it outlives the application"


def boss_email() -> str:
    from tests.integration.controller_rig import ADMIN

    return ADMIN


def test_the_platforms_own_log(platform: Platform) -> None:
    boss, one = Client(platform.one.url).login(), platform.person("curious@b.com")
    assert one.call("GET", "/v2/logs").json()["code"] == 200
    one.call("GET", "/apps/nobody-has-this")
    asked = "/v2/logs?component=controller&contains=nobody-has-this&limit=50"
    found = until(
        lambda: boss.at(platform.two.url).call("GET", asked).json()["lines"], "a line of the other controller"
    )
    assert (found[-1]["component"], found[-1]["level"], found[-1]["event"]) == (
        "controller",
        "info",
        "request",
    )
    assert "path=/apps/nobody-has-this" in found[-1]["text"]
    answer = boss.call("GET", "/v2/logs?limit=2000").json()
    assert len({line["id"] for line in answer["lines"]}) == 2, "both controllers"
    stamps = [line["at"] for line in answer["lines"]]
    assert stamps == sorted(stamps)
    assert stamps[0] > time.time() - 3600
    assert answer["silent"] == []
    assert boss.call("GET", "/v2/logs?component=dea").json()["lines"] == []
    assert boss.call("GET", f"/v2/logs?since={time.time() + 60}").json()["lines"] == []
    assert {line["level"] for line in boss.call("GET", "/v2/logs?level=warning").json()["lines"]} <= {
        "warning",
        "error",
    }
    assert len(boss.call("GET", "/v2/logs?limit=3").json()["lines"]) == 3
    for bad in ("level=loud", "limit=0", "since=x", "colour=red"):
        assert boss.call("GET", f"/v2/logs?{bad}").json()["code"] == 100
    dumped = json.dumps(answer)
    assert "correct horse" not in dumped
    assert boss.token not in dumped


def test_events_reach_the_bus_too(platform: Platform) -> None:
    one = platform.person("heard@b.com")
    one.create("noisy")
    one.call("DELETE", "/apps/noisy")
    one.call("DELETE", "/apps/noisy")
    wanted = [["USER", "heard@b.com", "POST:/apps", "SUCCEEDED"], ["USER", "heard@b.com", "DELETE:/apps/noisy", "SUCCEEDED"],
              ["USER", "heard@b.com", "DELETE:/apps/noisy", "FAILED"]]  # fmt: skip
    until(lambda: all(w in [e[1:] for e in platform.peers.events] for w in wanted), "events on the bus")
    found = one.at(platform.two.url).call("GET", "/v2/events?app=noisy").json()["events"]
    assert [e["outcome"] for e in found] == ["failed: 301 Application not found", "succeeded", "succeeded"]


def test_samples_added_at_once_are_all_there(platform: Platform) -> None:
    one = platform.person("parallel@b.com")
    ids = [platform.started(one, name) for name in ("many1", "many2")]

    async def flood() -> None:
        for n in range(200):
            order = ids if n % 2 else ids[::-1]
            requests = {str(id_): 1 for id_ in order}
            message = RouterUsage(router="r", at=int(time.time()), seconds=60, requests=requests)
            await platform.peers.bus.bus.publish("ingot.router.usage", message)

    platform.peers.bus.run(asyncio.wait_for(flood(), 30))

    def total() -> list[int]:
        counts: dict[str, int] = {}
        for row in one.call("GET", "/v2/usage").json()["usage"]:
            counts[row["app"]] = counts.get(row["app"], 0) + row["requests"]
        return sorted(counts.values())

    until(lambda: total() == [200, 200], "every sample was added once", 40)
