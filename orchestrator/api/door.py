"""Checks before authentication: pages of other sites, guessing of passwords, and the form of the body."""

from __future__ import annotations

import ipaddress
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from urllib.parse import urlsplit

from flask import Request

from components.common.errors import IngotError

# The methods that change nothing.
LOOKING = ("GET", "HEAD", "OPTIONS")
# Failed logins that one client has at once, and seconds until there is one more.
BURST, EACH_SECONDS = 10, 10.0
# The same for all clients that come through one machine, such as a router.
ALL_BURST, ALL_EACH_SECONDS = 100, 1.0
# For so long a client that logged in may try again, whatever other clients of its address do.
WELCOME_SECONDS = 7 * 86_400.0
_MOST_KEYS = 10_000
Comer = tuple[str, str]


class RefusedAtDoorError(IngotError):
    """A refusal with `status`; `wait` is the seconds to wait, 0 where waiting does not help."""

    def __init__(self, text: str, status: int, wait: int = 0) -> None:
        super().__init__(text)
        self.status = status
        self.wait = wait


class Attempts:
    """A count of failed logins by client.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        # The time at which all failures of a key are forgiven.
        self._free: OrderedDict[Comer, float] = OrderedDict()
        self._welcome: OrderedDict[Comer, float] = OrderedDict()

    def wait(self, comer: Comer, *, by_password: bool = True) -> int:
        """Return how many seconds a client has to wait for its next attempt; 0 for none.

        Args:
            comer: the client.
            by_password: it names a password, which many clients together could guess. A token cannot be guessed, so the
                attempts of others do not keep it out.
        """
        now = self._clock()
        with self._lock:
            own = self._free.get(comer, now) - now - (BURST - 1) * EACH_SECONDS
            everybody = self._free.get(_all(comer), now) - now - (ALL_BURST - 1) * ALL_EACH_SECONDS
            if not by_password or self._welcome.get(comer, -math.inf) > now - WELCOME_SECONDS:
                everybody = 0.0
        return max(0, math.ceil(max(own, everybody)))

    def failed(self, comer: Comer, *, by_password: bool = True) -> None:
        """Count a failure; that of a token counts for its client alone."""
        now = self._clock()
        counts = [(comer, EACH_SECONDS), *([(_all(comer), ALL_EACH_SECONDS)] if by_password else [])]
        with self._lock:
            for key, each in counts:
                _keep(self._free, key, max(self._free.get(key, now), now) + each)

    def succeeded(self, comer: Comer) -> None:
        """Remember a client that logged in."""
        with self._lock:
            _keep(self._welcome, comer, self._clock())


def comer(request: Request) -> Comer:
    """Return the machine that a request comes through, and the client that it names: a router names its client last."""
    said = request.headers.get("X-Forwarded-For", "").rpartition(",")[2].strip()
    return request.remote_addr or "", _subscriber(said)


def by_password(request: Request) -> bool:
    """Return whether a request comes with a password, not with a token."""
    return request.headers.get("Authorization", "").strip().lower().startswith("basic ")


def own_page(request: Request) -> None:
    """Refuse a request that another site's page makes a browser send, with the password that the browser remembers.

    Raises:
        RefusedAtDoorError: 403.
    """
    if request.method in LOOKING:
        return
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    foreign = site not in (None, "same-origin", "none")
    if foreign or (origin is not None and _host(origin) != request.host):
        raise RefusedAtDoorError("a page of another site may not ask for this", 403)


def json_only(request: Request) -> None:
    """Refuse a body in another form than JSON, which a page could send; a request without a body needs no type.

    Raises:
        RefusedAtDoorError: 415.
    """
    if request.method in LOOKING or request.is_json:
        return
    if request.content_type or request.get_data(cache=True):
        raise RefusedAtDoorError("the body is taken as JSON alone: send Content-Type: application/json", 415)


def _host(origin: str) -> str | None:
    """Return the host and port of an origin; None where it is no URL."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


def _all(who: Comer) -> Comer:
    return who[0], "*"


def _subscriber(address: str) -> str:
    """Return the network of one subscriber: the address, or for IPv6 its /64, which holds any number of addresses."""
    try:
        known = ipaddress.ip_address(address)
    except ValueError:
        return ""
    return address if known.version == 4 else str(ipaddress.ip_network((known, 64), strict=False))


def _keep(table: OrderedDict[Comer, float], key: Comer, value: float) -> None:
    table[key] = value
    table.move_to_end(key)
    while len(table) > _MOST_KEYS:
        table.popitem(last=False)
