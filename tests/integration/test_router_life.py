"""The router's life under constant load: what ends, restarts or churns, and no request lost by it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial

import pytest

from tests.bench import bench_churn, bench_websockets
from tests.integration.router_rig import Rig, load, running
from tests.support.waiting import until

INSTANCE = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # One write for an answer: what has begun to arrive cannot be asked for again elsewhere.
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
"""


@pytest.fixture
def rig() -> Iterator[Rig]:
    with running() as started:
        yield started


def test_an_instance_that_is_killed_is_not_noticed(rig: Rig) -> None:
    instances = [
        subprocess.Popen([sys.executable, "-c", INSTANCE], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    try:
        for number, instance in enumerate(instances):
            assert instance.stdout is not None
            rig.register(
                int(instance.stdout.readline()), "killed.localhost", app=1, private_instance_id=f"{number}"
            )
        until(lambda: len(rig.dump().get("killed.localhost", [])) == 3, "nginx has all three")
        with load(rig, "killed.localhost") as seen:

            def beyond(goal: int) -> bool:
                return seen.total() > goal

            for victim in instances[:2]:
                until(partial(beyond, seen.total() + 60), "requests go on")
                os.kill(victim.pid, signal.SIGKILL)
            until(partial(beyond, seen.total() + 100), "requests go on")
        assert set(seen) == {200}
    finally:
        for instance in instances:
            instance.kill()
            instance.wait(10)
            assert instance.stdout is not None
            instance.stdout.close()


def test_idle_websockets_outlive_the_router_process_and_are_told_when_it_drains() -> None:
    with running(router={**bench_websockets.DRAIN, "websocket_drain_seconds": 2}) as rig:
        result = asyncio.run(bench_websockets.run(rig, 200))
    print(result)
    assert (result["alive"], result["told_on_drain"], result["ended_on_drain"]) == (200, 200, 0)


def test_a_port_that_is_used_again_never_answers_for_another_application() -> None:
    with running(router=bench_churn.SETTINGS) as rig:
        churn = asyncio.run(bench_churn.run(rig, 60_000, 16, clients=4))
    assert churn.wrong == 0
    assert churn.instances >= 32
    assert churn.statuses[200] > 1000
    # 502: the only instance of an application ended while it answered, and there was nowhere else to ask.
    assert set(churn.statuses) <= {200, 404, 502, 503}
