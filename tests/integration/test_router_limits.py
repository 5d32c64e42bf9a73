"""What one application may have open: counted over all workers of nginx, and right again when one of them is killed."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.integration.router_rig import Rig, running
from tests.support.waiting import until


def workers(rig: Rig) -> list[int]:
    """Process ids of nginx's workers, as their files say."""
    return sorted(int(p.name.split(".")[1]) for p in rig.folder.glob("worker.*.stats"))


@contextmanager
def asleep(worker: int) -> Iterator[None]:
    """Have one worker sleep, so that another accepts what comes."""
    os.kill(worker, signal.SIGSTOP)
    # Until it has really stopped, the kernel may still wake it for a connection, and nobody else.
    stat = Path(f"/proc/{worker}/stat")
    until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", "the worker sleeps")
    try:
        yield
    finally:
        os.kill(worker, signal.SIGCONT)


def held_open(rig: Rig, count: int) -> list[socket.socket]:
    """Open requests that take longer than the test."""
    clients = [socket.create_connection(("127.0.0.1", rig.port), 20) for _ in range(count)]
    for client in clients:
        client.sendall(b"GET /slow=120 HTTP/1.1\r\nHost: busy.localhost\r\n\r\n")
    return clients


def counted(rig: Rig, *apps: str) -> bool:
    numbers = rig.varz()["apps"]
    return all(numbers.get(app, {}).get("requests") for app in apps)


def opened(rig: Rig, count: int) -> Callable[[], bool]:
    return lambda: rig.varz()["app_connections"] == count


def test_the_limit_of_an_application_holds_over_all_workers() -> None:
    clients: list[socket.socket] = []
    inputs = {"router_app_requests": 4, "router_workers": 2, "router_app_seconds": 120}
    with running(nginx=inputs) as rig:
        try:
            for name, app in (("busy", 5), ("other", 6)):
                rig.register(rig.backend(name).port, f"{name}.localhost", app=app)
                rig.wait_status(f"{name}.localhost", 200)
            until(lambda: len(workers(rig)) == 2, "both workers serve")
            # A worker that sleeps while it still says that one of these is open would say so till it wakes.
            until(lambda: counted(rig, "5", "6") and opened(rig, 0)(), "what was asked is added up")
            one, two = workers(rig)
            with asleep(one):
                clients += held_open(rig, 2)
                until(opened(rig, 2), "two are open in one worker")
            with asleep(two):
                clients += held_open(rig, 2)
                until(opened(rig, 4), "two are open in the other")
                assert rig.get("busy.localhost").status == 429
                assert rig.get("other.localhost").status == 200
            with asleep(one):
                assert rig.get("busy.localhost").status == 429
            # What a killed worker had open is counted no more, and the rest is.
            os.kill(two, signal.SIGKILL)
            rig.wait_status("busy.localhost", 200)
            until(opened(rig, 2), "two are left")
            clients += held_open(rig, 2)
            until(opened(rig, 4), "as many are open again")
            assert {rig.get("busy.localhost").status for _ in range(8)} == {429}
            for client in clients:
                client.close()
            rig.wait_status("busy.localhost", 200)
            until(opened(rig, 0), "none is left")
            # One that a reload replaced counts what it still has open.
            clients += held_open(rig, 4)
            until(opened(rig, 4), "four are open")
            before = set(workers(rig))
            rig.reload_nginx()
            until(lambda: len(set(workers(rig)) - before) == 2, "new workers serve")
            assert {rig.get("busy.localhost").status for _ in range(4)} == {429}
            assert "cannot be shared" not in rig.log("error.log")
        finally:
            for client in clients:
                client.close()
