"""Who may be silent, and for how long: the machine's settings are for endpoints, and nginx exempts its clients from them."""

from __future__ import annotations

import ctypes
import os
import socket
from pathlib import Path

import yaml

from components.router import nginx_conf
from tests.integration.router_rig import Rig, running
from tests.support.waiting import until

PIDFD_GETFD = 438


def tcp_listeners(pid: int) -> list[socket.socket]:
    """Give a process's listening TCP sockets, shared with it."""
    found = []
    process = os.pidfd_open(pid)
    try:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            if not str(link.readlink()).startswith("socket:"):
                continue
            fd = ctypes.CDLL(None, use_errno=True).syscall(PIDFD_GETFD, process, int(link.name), 0)
            assert fd >= 0, os.strerror(ctypes.get_errno())
            taken = socket.socket(fileno=fd)
            listens = taken.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            if listens and taken.family == socket.AF_INET:
                found.append(taken)
            else:
                taken.close()
    finally:
        os.close(process)
    return found


def patience(rig: Rig) -> list[int]:
    """Give for each door of nginx the milliseconds for which a client may acknowledge nothing."""
    doors = tcp_listeners(int(rig.log("nginx.pid")))
    try:
        return [door.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) for door in doors]
    finally:
        for door in doors:
            door.close()


def test_clients_keep_the_kernels_patience() -> None:
    with running() as rig:
        until(lambda: patience(rig) == [924_600], "a worker has said so")


def requests_made(tries_seconds: int) -> int:
    """Count the endpoints that see an idempotent request which each of two breaks off after two seconds."""
    with running(nginx={"router_tries_seconds": tries_seconds}) as rig:
        backends = [rig.backend("first"), rig.backend("second")]
        for backend in backends:
            rig.register(backend.port, "breaks.localhost")
        until(lambda: len(rig.dump().get("breaks.localhost", [])) == len(backends), "nginx has both routes")
        assert rig.get("breaks.localhost", "/break=2").status == 502
        return sum(backend.requests > 0 for backend in backends)


def test_an_old_request_is_sent_elsewhere_until_its_time_is_over() -> None:
    assert requests_made(1) == 1
    assert requests_made(30) == 2
    defaults = yaml.safe_load((nginx_conf.ROLE / "defaults" / "main.yml").read_text())
    assert defaults["router_tries_seconds"] >= defaults["router_app_seconds"]
