"""The benchmarks' own code, in small: what they write has its shape, and they notice wrong answers. No times are judged."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.bench import (
    bench_controller,
    bench_health_manager,
    bench_placement,
    bench_push,
    machine,
    open_loop,
)
from tests.bench.open_loop import Call, Outcome
from tests.integration.servers import await_port
from tests.support.ports import free_port

FACTS = {"cores", "cpu", "memory_mb", "load_before", "python", "kernel"}


def check(path: Path, said: str, *keys: str) -> dict[str, Any]:
    """What was written, and the one line that was printed, are the same and have these keys."""
    written: dict[str, Any] = json.loads(path.read_text())
    assert json.loads(said.strip()) == written
    assert written["machine"].keys() >= FACTS
    assert set(keys) <= written.keys()
    return written


def test_the_health_managers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "health_manager.json"
    bench_health_manager.main(["--quick", "--out", str(out)])
    said = capsys.readouterr().out
    keys = ("seconds", "first_pass_seconds", "wall_seconds", "phases", "ratio_to_plain_json", "picture_mb")
    written = check(out, said, *keys, "reached")
    assert written["instances"] >= 2400
    assert written["found"]["starts"] == written["found"]["missing"] > 0


def test_the_health_managers_notices_a_wrong_decision(monkeypatch: pytest.MonkeyPatch) -> None:
    made = bench_health_manager.make(500, 5)
    made.missing += 1
    monkeypatch.setattr(bench_health_manager, "make", lambda *_: made)
    with pytest.raises(SystemExit, match="wrong decisions"):
        bench_health_manager.measure(500, 5, 1)


def test_placements(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "placement.json"
    bench_placement.main(["--quick", "--out", str(out)])
    keys = ("decisions_per_second", "naive_per_second", "ratio_to_naive", "reached")
    check(out, capsys.readouterr().out, *keys)


def test_placements_notices_what_lies_unevenly() -> None:
    assert bench_placement.uneven([(1, "dea0"), (1, "dea1"), (1, "dea2"), (1, "dea0")]) == 0
    assert bench_placement.uneven([(1, "dea0"), (1, "dea3")]) == 1


def test_the_controllers_mix() -> None:
    mix = bench_controller.Mix("http://x", ["t0", "t1"], 3)
    calls = []
    for _ in range(2000):
        call = mix.next()
        call.done(True)
        calls.append(call)
    groups = Counter(c.group for c in calls)
    assert set(groups) == {*bench_controller.READS, *bench_controller.WRITES}
    reads = sum(groups[g] for g in bench_controller.READS)
    assert 0.75 < reads / len(calls) < 0.85
    # What was made by somebody is deleted by the same person, once.
    made = [
        (c.headers["AUTHORIZATION"], c.body["name"])
        for c in calls
        if isinstance(c.body, dict) and "name" in c.body
    ]
    gone = [(c.headers["AUTHORIZATION"], c.url.rpartition("/")[2]) for c in calls if c.method == "DELETE"]
    assert set(gone) <= set(made)
    assert len(gone) == len(set(gone)) > 50


def test_the_controllers_result() -> None:
    ours, theirs = Outcome(), Outcome()
    for group in (*bench_controller.READS, *bench_controller.WRITES):
        ours.latencies[group] = [0.01, 0.02]
    theirs.latencies["peer"] = [0.005]
    spent = {"controller": 0.014, "flask": 0.007, "load": 0.0}
    result = bench_controller._result(ours, theirs, spent)
    assert result["reached"] is True
    assert result["reads_p99_ms"] == 20.0
    assert result["cpu_ms_per_request"] == {"controller": 1.0, "flask": 0.5, "load": 0.0}
    ours.failures["list: status 500"] = 1
    assert bench_controller._result(ours, theirs, spent)["reached"] is False


async def test_the_open_loop_charges_a_server_for_standing_still() -> None:
    busy = asyncio.Lock()

    async def answer(request: web.Request) -> web.Response:
        async with busy:
            await asyncio.sleep(0.05)
        return web.Response(status=int(request.match_info["status"]))

    app = web.Application()
    app.router.add_get("/{status}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    told: list[bool] = []
    statuses = iter([200] * 19 + [500])
    try:
        # Twenty times as many as it can take: they queue, and the queue counts.
        outcome = await open_loop.run(
            lambda: Call("a", "GET", f"{url}/{next(statuses)}", done=told.append), rate=400, seconds=0.05
        )
    finally:
        await runner.cleanup()
    assert outcome.failures == {"a: status 500": 1}
    assert sorted(told) == [False] + [True] * 19
    assert len(outcome.of("a")) == 20
    assert max(outcome.of("a")) > 0.5
    assert open_loop.shape(outcome.of("a"))["requests"] == 20
    both = Outcome()
    both.add(outcome)
    both.add(outcome)
    assert len(both.of("a")) == 40
    assert both.failures == {"a: status 500": 2}


def test_percentiles() -> None:
    values = [float(n) for n in range(1, 101)]
    assert machine.percentile(values, 0.5) == 51.0
    assert machine.percentile(values, 0.99) == 100.0
    assert machine.percentile([], 0.5) == 0.0
    assert machine.resident_mb() > 1


def test_a_pushs_phases() -> None:
    line = "took 3.2 s (packing 0.1 s, uploading 0.2 s, staging 1.9 s, starting 0.9 s)"
    found = {k: float(v) for k, v in bench_push.PHASE.findall(line.rpartition("took")[2])}
    assert found == {"packing": 0.1, "uploading": 0.2, "staging": 1.9, "starting": 0.9}
    assert bench_push._medians([{"a": 1.0, "b": 2.0}, {"a": 3.0, "b": 4.0}]) == {"a": 2.0, "b": 3.0}


def test_an_application_by_hand(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("hello")
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"],
        cwd=tmp_path,
        env={"VCAP_APP_PORT": str(port)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        await_port(port, process)
        began = time.perf_counter()
        seconds = bench_push.by_hand(process.pid)
        assert 0 < seconds <= time.perf_counter() - began
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()
