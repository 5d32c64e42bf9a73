"""Constant load on the routers of a lab, as clients see it: every request is counted, and every one that fails is kept.

A request fails when its client sees an error, or an answer that is not 200, though it was idempotent and no byte of its response
had come. Clients must handle one exception themselves (RFC 9112, 9.3.1): a server may close an idle connection at the very moment
a request is sent on it, so a request on a connection that was used before is repeated once, on a new one, and counted as repeated.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tests.lab.conftest import until

TIMEOUT = 45.0
PAUSE = 0.05


@dataclass
class Seen:
    """The observations of the clients.

    Attributes:
        answered: requests by the router that answered, as its balancer names it (X-Served-By), else by its address.
        repeated: requests that met a connection the server had just closed.
        failures: the error of each request that failed.
        slowest: seconds of the slowest request.
        instances: ids of the instances that answered, with the time of the first answer.
    """

    answered: Counter[str] = field(default_factory=Counter)
    repeated: int = 0
    failures: list[str] = field(default_factory=list)
    slowest: float = 0.0
    instances: dict[str, float] = field(default_factory=dict)
    guard: threading.Lock = field(default_factory=threading.Lock)

    @property
    def requests(self) -> int:
        """Number of requests that have ended."""
        return sum(self.answered.values()) + len(self.failures)

    def more(self, count: int = 100) -> None:
        """Wait until so many further requests have ended."""
        goal = self.requests + count
        until(lambda: self.requests >= goal, f"{count} further requests")

    def figures(self) -> dict[str, object]:
        """Return the figures that a drill prints."""
        return {
            "requests": self.requests,
            "failed": len(self.failures),
            "repeated": self.repeated,
            "slowest_seconds": round(self.slowest, 2),
        }


class Client:
    """Requests one path of one address in a loop, each time on a new connection or always on the same one."""

    def __init__(self, seen: Seen, address: tuple[str, int], host: str, path: str, *, keep: bool) -> None:
        self._seen = seen
        self._address = address
        self._host = host
        self._path = path
        self._keep = keep
        self._connection: http.client.HTTPConnection | None = None

    def ask_until(self, over: threading.Event) -> None:
        """Send requests, with a pause between two, until told to end."""
        while not over.is_set():
            self._ask()
            over.wait(PAUSE)
        self._close()

    def _ask(self) -> None:
        began = time.monotonic()
        used_before = self._connection is not None
        try:
            try:
                status, server, body = self._exchange()
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
                self._close()
                if not used_before:
                    raise
                with self._seen.guard:
                    self._seen.repeated += 1
                status, server, body = self._exchange()
        except (OSError, http.client.HTTPException) as error:
            self._close()
            self._fail(began, f"{type(error).__name__}: {error}")
            return
        if not self._keep:
            self._close()
        if status != 200:
            self._fail(began, f"{status} {body[:80]!r} of {server}")
            return
        now = time.monotonic()
        with self._seen.guard:
            self._seen.slowest = max(self._seen.slowest, now - began)
            self._seen.answered[server] += 1
            if (instance := json.loads(body).get("instance_id")) is not None:
                self._seen.instances.setdefault(instance, now)

    def _exchange(self) -> tuple[int, str, bytes]:
        if self._connection is None:
            self._connection = http.client.HTTPConnection(*self._address, timeout=TIMEOUT)
        self._connection.request("GET", self._path, headers={"Host": self._host})
        response = self._connection.getresponse()
        body = response.read()
        if response.will_close:
            self._close()
        return response.status, response.getheader("X-Served-By", self._address[0]), body

    def _fail(self, began: float, reason: str) -> None:
        seconds = time.monotonic() - began
        with self._seen.guard:
            self._seen.slowest = max(self._seen.slowest, seconds)
            self._seen.failures.append(f"{self._address[0]}{self._path} after {seconds:.1f} s: {reason}")

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


@contextlib.contextmanager
def load(addresses: Sequence[tuple[str, int]], host: str, *paths: str) -> Iterator[Seen]:
    """Send requests to `host` at every address, with and without keep-alive: short ones, some that take a second, and for `paths`."""
    seen = Seen()
    over = threading.Event()
    kinds = [(path, keep) for path in ("/", "/slow/1", *paths) for keep in (True, False)]
    clients = [Client(seen, a, host, path, keep=keep) for a in addresses for path, keep in kinds]
    threads = [threading.Thread(target=client.ask_until, args=(over,)) for client in clients]
    for thread in threads:
        thread.start()
    try:
        seen.more()
        yield seen
        seen.more()
    finally:
        over.set()
        for thread in threads:
            thread.join()
