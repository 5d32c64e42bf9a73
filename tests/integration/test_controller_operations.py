"""What operators and users see of a platform of two controllers: logs, tasks, usage, events, over a real bus and PostgreSQL."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from components.common.bus.operation_messages import (
    DeaUsage,
    RouterUsage,
    UsageSample,
)
from tests.integration.controller_rig import Client
from tests.integration.operations_rig import Platform, platform_in
from tests.support.waiting import until


@pytest.fixture(scope="module")
def platform(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]
) -> Iterator[Platform]:
    with platform_in(request, tmp_path_factory.mktemp("operations"), free_port) as made:
        yield made


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
