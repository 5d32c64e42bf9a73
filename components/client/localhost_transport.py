"""Resolution of `*.localhost` to loopback (RFC 6761).

Browsers and curl do this, but Python's resolver asks DNS, so the client does it itself.
"""

from __future__ import annotations

import ipaddress

import httpx

LOOPBACK = "127.0.0.1"


def is_localhost(host: str) -> bool:
    """Return whether a host name is `localhost` or below it."""
    name = host.lower().rstrip(".")
    return name == "localhost" or name.endswith(".localhost")


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine: such a name, or an address of 127.0.0.0/8 or ::1."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return is_localhost(host)


class LocalhostTransport(httpx.HTTPTransport):
    """A transport that connects to 127.0.0.1 for such names; `Host`, port and TLS name stay as in the URL."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request."""
        host = request.url.host
        if is_localhost(host):
            # The Host header was made from the URL when the request was built, so only the connection changes.
            request.url = request.url.copy_with(host=LOOPBACK)
            request.extensions = {**request.extensions, "sni_hostname": host}
        return super().handle_request(request)
