"""Gunicorn's threaded worker, changed so that a client gets a thread only once its request has arrived.

Gunicorn's own gives a thread to each connection for as long as the client takes to send a request and to read the answer.
"""

from __future__ import annotations

import contextlib
import errno
import json
import selectors
import socket
import time
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

from flask import Flask
from gunicorn.workers.gthread import TConn, ThreadWorker
from prometheus_client import Counter

from components.controller.api.context import EXTENSION
from components.controller.composition import Controller
from components.controller.errors import BusyError, SlowError
from components.controller.requests.arrivals import Arrival, State
from components.controller.requests.thread_limits import (
    DELIVERIES,
    REPEAT_SECONDS,
    SEND_SECONDS,
    Paced,
    Places,
)

# Threads for the requests of the platform's machines that keep it alive, and for the droplets that stagers deliver.
RESERVED = 4
_RESERVED_PATHS = ("/v2/leases/", "/bulk/", "/healthz", "/readyz", "/varz", "/metrics")
_DELIVERY_PATH = "/staging/"
# The time in which a client must send a head, and then a short body.
HEAD_SECONDS, BODY_SECONDS = 10.0, 15.0
# The time and bytes for which a client that still sends after its answer is read: otherwise it would not see the answer.
LINGER_SECONDS, LINGER_SILENT_SECONDS, LINGER_BYTES = 30.0, 5.0, 256 << 20
# Connections of one worker. The one that has waited longest makes room for a new one.
CONNECTIONS = 4000
_BLOCK = 64 << 10
_NOT_NOW = (errno.EAGAIN, errno.EWOULDBLOCK, errno.ECONNABORTED, errno.EMFILE, errno.ENFILE)
_STATUSES = {
    State.TOO_LARGE: "431 Request Header Fields Too Large",
    State.HEAD: "408 Request Timeout",
    State.BODY: "408 Request Timeout",
    State.LONG: "503 Service Unavailable",
}
_ERRORS = {State.HEAD: SlowError(), State.BODY: SlowError(), State.LONG: BusyError(REPEAT_SECONDS)}
BUSY = Counter("ingot_controller_busy_total", "Requests with a long body for which there was no place.")


class _Connection(TConn):
    """A client's connection; `arrival` is the request that arrives, `until` the time at which the worker closes it."""

    # A parser of HTTP/1: no other version is enabled.
    parser: Any

    def __init__(self, worker: Worker, sock: socket.socket, client: Any, server: Any) -> None:
        super().__init__(worker.cfg, sock, client, server)
        self.arrival = Arrival()
        self.until = time.monotonic() + HEAD_SECONDS
        self.paced: Paced | None = None
        self.delivers = False
        # One of these places is taken for the request that a thread answers.
        self.places: Places | None = None
        self.lingered = 0
        self.linger_until = 0.0

    @property
    def peer(self) -> str:
        """Return the address at the other end."""
        return str(self.client[0]) if isinstance(self.client, tuple) else ""


class Worker(ThreadWorker):
    """A worker with threads; its poller reads the requests that are incomplete and those that are only to be discarded."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.worker_connections = CONNECTIONS
        self.max_keepalived = CONNECTIONS // 2
        # The connections that the poller holds, in the order of their arrival there.
        self._awaited: dict[_Connection, None] = {}
        self._lingering: dict[_Connection, None] = {}
        self._reserved = ThreadPoolExecutor(RESERVED, thread_name_prefix="reserved")
        self._deliveries = ThreadPoolExecutor(DELIVERIES, thread_name_prefix="delivery")

    def run(self) -> None:
        """Serve until the worker is told to end."""
        try:
            super().run()
        finally:
            for pool in (self._reserved, self._deliveries):
                pool.shutdown(wait=False)

    def accept(self, listener: socket.socket) -> None:
        """Accept a connection."""
        try:
            sock, address = listener.accept()
        except OSError as error:
            if error.errno not in _NOT_NOW:
                raise
            return
        self.nr_conns += 1
        if self.nr_conns >= self.worker_connections:
            self._make_room()
        self._gather(_Connection(self, sock, address, listener.getsockname()), registered=False)

    def enqueue_req(self, conn: Any) -> None:
        """Go on with a connection whose next request began to arrive together with the one before."""
        self._await_next(conn)
        self._take(conn, conn.parser.unreader.take_buffered(), registered=False)

    def on_client_socket_readable(self, conn: Any, _client: object) -> None:
        """Go on with a connection that was kept alive."""
        self.poller.unregister(conn.sock)
        self.keepalived_conns.remove(conn)
        self._await_next(conn)
        self._gather(conn, registered=False)

    def _await_next(self, conn: _Connection) -> None:
        conn.delivers = False
        conn.arrival, conn.until = Arrival(), time.monotonic() + HEAD_SECONDS
        conn.sock.setblocking(False)

    def _gather(self, conn: _Connection, _sock: object = None, *, registered: bool = True) -> None:
        """Read the bytes that have arrived, and submit the request once it is complete."""
        if registered and conn not in self._awaited:
            # It was closed to make room for another, which was ready in the same round of the poller.
            return
        try:
            came = conn.sock.recv(_BLOCK)
        except BlockingIOError:
            if not registered:
                self._await(conn)
            return
        except OSError:
            came = b""
        if not came:
            self._forget(conn, registered=registered)
            return
        self._take(conn, came, registered=registered)

    def _take(self, conn: _Connection, came: bytes, *, registered: bool) -> None:
        before, state = conn.arrival.state, conn.arrival.take(came)
        if state in (State.HEAD, State.BODY):
            if state is not before:
                conn.until = time.monotonic() + BODY_SECONDS
                if conn.arrival.says("expect"):
                    _tell(conn, b"HTTP/1.1 100 Continue\r\n\r\n")
            if not registered:
                self._await(conn)
            return
        if registered:
            self._unregister(conn)
        if state is State.TOO_LARGE:
            self._refuse(conn)
            return
        self._submit(conn)

    def _await(self, conn: _Connection) -> None:
        self._awaited[conn] = None
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._gather, conn))

    def _submit(self, conn: _Connection) -> None:
        """Submit a request to a thread."""
        threads = self._pool_for(conn)
        if conn.arrival.state is State.LONG:
            held = self._controller().held
            conn.places = held.deliveries if conn.delivers else held.bodies
            if not conn.places.take():
                BUSY.inc()
                self._refuse(conn)
                return
        future = threads.submit(self.handle, conn)
        future.add_done_callback(lambda done: self.method_queue.defer(self.finish_request, conn, done))

    def _pool_for(self, conn: _Connection) -> ThreadPoolExecutor:
        path, whole = conn.arrival.path, conn.arrival.state is State.WHOLE
        threads: ThreadPoolExecutor = self.tpool
        if path.startswith(_RESERVED_PATHS if whole else _DELIVERY_PATH):
            forwarded = conn.arrival.says("x-forwarded-for")
            if self._controller().insiders.has(conn.peer, forwarded=forwarded):
                conn.delivers = not whole
                return self._reserved if whole else self._deliveries
        return threads

    def _controller(self) -> Controller:
        app: Flask = self.wsgi  # type: ignore[assignment]  # made by `Server.load`
        found: Controller = app.extensions[EXTENSION]
        return found

    def handle(self, conn: Any) -> Any:
        """Answer a request; in a thread."""
        arrival = conn.arrival
        conn.data_ready = True
        # Before its parser reads anything.
        conn.init()
        if conn.paced is None:
            conn.paced = Paced(conn.sock, time.monotonic)
            conn.parser.unreader.sock = conn.paced
        conn.parser.unreader.unread(bytes(arrival.came))
        places, conn.places = conn.places, None
        if places is not None:
            conn.paced.begin(places)
        try:
            return super().handle(conn)
        finally:
            conn.paced.end()

    def handle_request(self, req: Any, conn: Any) -> Any:
        """Answer a request whose head has been parsed."""
        conn.sock.settimeout(SEND_SECONDS)
        return super().handle_request(req, conn)

    def _keepalive_after(self, conn: Any, keepalive: object) -> bool:
        # The rest of a body is not waited for: `Paced` reports it, and the connection ends.
        if conn.paced is not None:
            conn.paced.end()
        try:
            return bool(keepalive) and bool(conn.parser.finish_body())
        except Exception:  # noqa: BLE001 - any fault of the rest of an unwanted body
            return False

    def finish_request(self, conn: Any, fs: Future[Any]) -> None:
        """Keep or end a connection whose answer has been written."""
        if fs.cancelled() or fs.exception() is not None or not fs.result():
            self._linger(conn)
            return
        super().finish_request(conn, fs)

    def _refuse(self, conn: _Connection) -> None:
        _tell(conn, refusal(conn.arrival.state))
        self._linger(conn)

    def _linger(self, conn: _Connection) -> None:
        """Let a client read the end of its answer, and discard the bytes that it still sends."""
        now = time.monotonic()
        try:
            conn.sock.setblocking(False)
            conn.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._close(conn)
            return
        conn.linger_until, conn.until = now + LINGER_SECONDS, now + LINGER_SILENT_SECONDS
        self._lingering[conn] = None
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._drain, conn))

    def _drain(self, conn: _Connection, _sock: object) -> None:
        if conn not in self._lingering:
            # As in `_gather`.
            return
        try:
            came = len(conn.sock.recv(_BLOCK))
        except BlockingIOError:
            return
        except OSError:
            came = 0
        conn.lingered += came
        conn.until = min(time.monotonic() + LINGER_SILENT_SECONDS, conn.linger_until)
        if not came or conn.lingered > LINGER_BYTES:
            self._forget(conn)

    def murder_pending(self) -> None:
        """Close the connections whose time is over."""
        now = time.monotonic()
        for conn in [c for c in self._lingering if c.until <= now]:
            self._forget(conn)
        for conn in [c for c in self._awaited if c.until <= now or not (self.alive or c.arrival.came)]:
            self._give_up(conn)

    def _give_up(self, conn: _Connection) -> None:
        self._unregister(conn)
        if conn.arrival.came:
            self._refuse(conn)
        else:
            self._close(conn)

    def _make_room(self) -> None:
        for held in (self._lingering, self._awaited):
            for conn in held:
                self._forget(conn)
                return

    def _forget(self, conn: _Connection, *, registered: bool = True) -> None:
        if registered:
            self._unregister(conn)
        self._close(conn)

    def _unregister(self, conn: _Connection) -> None:
        self._awaited.pop(conn, None)
        self._lingering.pop(conn, None)
        with contextlib.suppress(OSError, KeyError, ValueError):
            self.poller.unregister(conn.sock)

    def _close(self, conn: _Connection) -> None:
        self.nr_conns -= 1
        conn.close()


def refusal(state: State) -> bytes:
    """Return the answer to a request that gets no thread, in the shape of all errors."""
    lines = [f"HTTP/1.1 {_STATUSES[state]}", "Connection: close"]
    error, body = _ERRORS.get(state), ""
    if error is not None:
        body = json.dumps({"code": error.code, "description": error.description})
        lines.append("Content-Type: application/json")
    if state is State.LONG:
        lines.append(f"Retry-After: {REPEAT_SECONDS}")
    lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join((*lines, "", body)).encode()


def _tell(conn: _Connection, words: bytes) -> None:
    # Nothing else has been written to this client: its buffer has room, or the client is gone.
    with contextlib.suppress(OSError):
        conn.sock.send(words)
