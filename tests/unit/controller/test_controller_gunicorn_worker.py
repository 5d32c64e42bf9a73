"""Connections of a worker: how many there may be, and who makes room."""

from __future__ import annotations

import selectors
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from gunicorn.config import Config
from gunicorn.glogging import Logger

from components.controller.gunicorn_worker import Worker

HEAD = b"GET /info HTTP/1.1\r\n"


@pytest.fixture
def worker() -> Iterator[Worker]:
    cfg = Config()
    made = Worker(0, 0, [], None, 60, cfg, Logger(cfg))
    made.poller = selectors.DefaultSelector()
    made.worker_connections = 2
    yield made
    for conn in [*made._awaited, *made._lingering]:
        conn.close()
    made.poller.close()
    made.tmp.close()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


@pytest.mark.parametrize("lingers", [False, True])
def test_who_made_room_is_counted_once(worker: Worker, listener: socket.socket, *, lingers: bool) -> None:
    def look() -> None:
        """Have the worker see everything at once, the listener first."""
        found = worker.poller.select(60)
        for key, _ in sorted(found, key=lambda one: one[0].fileobj is not listener):
            key.data(key.fileobj)

    with ExitStack() as stack:

        def client() -> socket.socket:
            return stack.enter_context(socket.create_connection(listener.getsockname(), timeout=60))

        first = client()
        worker.accept(listener)
        if lingers:
            # Its request is refused, and it sends on.
            (conn,) = worker._awaited
            worker._unregister(conn)
            worker._refuse(conn)
        worker.poller.register(listener, selectors.EVENT_READ, worker.accept)
        client()
        first.sendall(HEAD)
        look()
        assert worker.nr_conns == len(worker._awaited) + len(worker._lingering) == 1
