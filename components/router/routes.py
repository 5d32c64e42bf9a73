"""The parsing of registrations: clean hosts and addresses, or a refusal (protocol 2.3 and 3.2)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from components.common.digits import whole_number
from components.router.errors import RouteError

_LABEL = r"(?!-)[a-z0-9_-]{1,63}(?<!-)"
_HOST = re.compile(rf"(\*\.)?{_LABEL}(\.{_LABEL})*")
_INSTANCE = re.compile(r"[\x21-\x7e]{1,64}")
# The largest integer that a double holds exactly: the Lua code knows no other numbers.
_MAX_APP = 2**53 - 1


class Registration(msgspec.Struct, frozen=True):
    """`router.register` and `router.unregister` as a router accepts them.

    Wider than Ingot's own (`RouterRegister`): the router of 2011 looked at nothing but host, port and uris, so its peers
    were free to write numbers as texts, and null for missing values.
    """

    host: str
    port: int | float | str
    uris: list[Any]
    app: int | str | None = None
    tags: Any = None
    private_instance_id: str | None = None


class Endpoint(msgspec.Struct, frozen=True, omit_defaults=True):
    """One endpoint of a host.

    Args:
        address: an IP address.
        port: 1 to 65535.
        app: the application's id, None for other endpoints.
        instance: the `private_instance_id`, None where the peer sent none.
        tags: as registered.
    """

    address: str
    port: int
    app: int | None = None
    instance: str | None = None
    tags: dict[str, Any] = msgspec.field(default_factory=dict)

    @property
    def peer(self) -> tuple[str, int]:
        """Return address and port, which with the host are the key of a route."""
        return self.address, self.port


def normal_host(uri: str) -> str:
    """Return a registered uri in the form for look-ups: lower case, no port, no final dot.

    Raises:
        RouteError: it is not a host name, nor a wildcard `*.x.y`.
    """
    host, _, port = uri.strip().lower().partition(":")
    host = host.removesuffix(".")
    # Non-ASCII letters may have lower cases within ASCII.
    if not uri.isascii() or len(host) > 253 or not _HOST.fullmatch(host) or (port and not port.isdigit()):
        raise RouteError(f"{uri[:80]!r} is not a host")
    return host


def normal_address(host: str) -> str:
    """Return an endpoint's address: an IP address, also for `localhost`.

    nginx connects to addresses only, and a router that resolves names for strangers could be made to wait for them.

    Raises:
        RouteError: it is anything else.
    """
    try:
        address = ipaddress.ip_address("127.0.0.1" if host.lower() == "localhost" else host)
    except ValueError as error:
        raise RouteError(f"{host[:80]!r} is not an IP address") from error
    if address.is_multicast or address.is_unspecified or "%" in str(address):
        raise RouteError(f"{host} is no endpoint's address")
    return str(address)


def parse(message: Registration) -> tuple[list[str], Endpoint]:
    """Return the hosts and the endpoint of a registration.

    Returns:
        its hosts, each once, and the endpoint that serves them.

    Raises:
        RouteError: address, port or ids are unusable, or not one of the uris is a host.
    """
    port, app = _number(message.port), None
    if port is None or not 1 <= port <= 65535:
        raise RouteError(f"port {message.port!r:.80} is not a port number")
    address = normal_address(message.host)
    instance = message.private_instance_id or None
    if instance is not None and not _INSTANCE.fullmatch(instance):
        raise RouteError("private_instance_id: must be at most 64 printable characters, without blanks")
    if message.app is not None:
        app = _number(message.app)
        if app is None or not 0 <= app <= _MAX_APP:
            raise RouteError(f"app {message.app!r:.80} is not an id")
    hosts: dict[str, None] = {}
    refused: RouteError | None = None
    for uri in message.uris:
        try:
            hosts[normal_host(uri if isinstance(uri, str) else "")] = None
        except RouteError as error:
            refused = error
    if refused is not None and not hosts:
        raise refused
    tags = message.tags if isinstance(message.tags, dict) else {}
    return list(hosts), Endpoint(address, port, app, instance, tags)


def _number(value: float | str) -> int | None:
    """Return a whole number, also of a text; None where it is none."""
    if isinstance(value, str):
        return whole_number(value)
    return int(value) if value == value // 1 else None


def from_dump(routes: Mapping[str, list[Endpoint]]) -> list[tuple[str, Endpoint]]:
    """Return the routes of nginx's dump as pairs, without those that no registration could have brought."""
    pairs: list[tuple[str, Endpoint]] = []
    for host, endpoints in routes.items():
        try:
            name = normal_host(host)
            pairs.extend((name, e) for e in endpoints if normal_address(e.address))
        except RouteError:
            continue
    return pairs
