"""The other side of `forked.py`, run as a program: imports modules once, then forks a child for each that is asked for.

    python -u fork_server.py CONTROL TARGET MODULE...

CONTROL is the number of an inherited socket, TARGET the module whose `main` a child runs, and each MODULE is imported before. Each packet on it is a request in JSON, with the descriptors of a reply socket and
of the child's standard streams. The child says its number on the reply socket, this process says how it ended, and keeps it
as a zombie until the asker has closed the socket: as with a child of their own, its number is nobody else's before.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import socket
import sys
from collections.abc import Callable
from typing import Any

REQUEST_BYTES = 1 << 17


def serve(control: socket.socket) -> dict[str, Any] | None:
    """Fork until the asker has gone; returns None then, and in a child what was asked of it."""
    poller = select.poll()
    poller.register(control, select.POLLIN)
    # By the descriptor that tells their end, then by the reply socket alone: the child's number and the reply socket.
    running: dict[int, tuple[int, int]] = {}
    ended: dict[int, int] = {}
    while True:
        for descriptor, _ in poller.poll():
            if descriptor in running:
                pid, reply = running.pop(descriptor)
                poller.unregister(descriptor)
                os.close(descriptor)
                with contextlib.suppress(BrokenPipeError):
                    os.write(reply, str(_ending(pid)).encode())
                ended[reply] = pid
                poller.register(reply, select.POLLIN)
            elif descriptor in ended:
                os.waitpid(ended.pop(descriptor), 0)
                poller.unregister(descriptor)
                os.close(descriptor)
            else:
                packet, descriptors, _, _ = socket.recv_fds(control, REQUEST_BYTES, 4)
                if not packet:
                    return None
                request: dict[str, Any] = json.loads(packet)
                pid = os.fork()
                if not pid:
                    control.detach()
                    _become(request, *descriptors)
                    return request
                for stream in descriptors[1:]:
                    os.close(stream)
                end = os.pidfd_open(pid)
                running[end] = pid, descriptors[0]
                poller.register(end, select.POLLIN)


def _ending(pid: int) -> int:
    """Look how a child has ended, as Popen's returncode says it, and leave it a zombie."""
    found = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert found is not None
    return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status


def _become(request: dict[str, Any], reply: int, *streams: int) -> None:
    """Take what a new program is given: streams, session, folder, environment, arguments."""
    if request["session"]:
        os.setsid()
    os.write(reply, str(os.getpid()).encode())
    for target, stream in enumerate(streams):
        os.dup2(stream, target)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.argv = request["argv"]


def main(control: str, target: str, *modules: str) -> int | None:
    """Import, serve, and run in a child what it was forked for."""
    for module in modules:
        importlib.import_module(module)
    # What is there already is not looked through again in each child, neither while it runs nor when it ends.
    gc.freeze()
    # A thread does not survive a fork, but the locks it holds do.
    assert len(os.listdir("/proc/self/task")) == 1, f"one of {modules} makes threads when it is imported"  # noqa: PTH208
    if serve(socket.socket(fileno=int(control))) is None:
        return 0
    program: Callable[[], int | None] = importlib.import_module(target).main
    return program()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
