"""The server of `forked.py`, run as a program: imports modules once, then forks a child for each request.

    python -u fork_server.py CONTROL TARGET MODULE...

CONTROL is the number of an inherited socket, TARGET the module whose `main` a child runs, and each MODULE is imported before. Each packet
on the socket is a request in JSON, with the descriptors of a reply socket and of the child's standard streams. The child writes its number
to the reply socket, this process writes its exit status, and keeps it as a zombie until the client has closed the socket: as with a child
of the client's own, no other process gets its number before.
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
    """Fork until the client has gone; return None then, and in a child its request."""
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
    """Return a child's exit status in the form of Popen's returncode, and leave it a zombie."""
    found = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert found is not None
    return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status


def _become(request: dict[str, Any], reply: int, *streams: int) -> None:
    """Set up the state of a new program: streams, session, folder, environment, arguments."""
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
    """Import, serve, and run in a child the requested program."""
    for module in modules:
        importlib.import_module(module)
    # So that the garbage collector of a child does not walk existing objects, neither while it runs nor when it ends.
    gc.freeze()
    # A thread does not survive a fork, but the locks it holds do.
    assert len(os.listdir("/proc/self/task")) == 1, f"one of {modules} makes threads when it is imported"  # noqa: PTH208
    if serve(socket.socket(fileno=int(control))) is None:
        return 0
    program: Callable[[], int | None] = importlib.import_module(target).main
    return program()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
