"""The hosts of the platform itself, which no application has, and the subjects of their routes.

Their routes have a subject of their own, because a component that may register applications could otherwise take the platform's requests.
`router.register` is for routers of a release that knew no other; routers of this one take no such route from it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

PLATFORM_REGISTER, PLATFORM_UNREGISTER = "ingot.platform.register", "ingot.platform.unregister"
# Controllers and the orchestrator register on these subjects in this order: a router that takes the first then knows
# that the second is from the same sender.
REGISTER = (PLATFORM_REGISTER, "router.register")
UNREGISTER = (PLATFORM_UNREGISTER, "router.unregister")
_LABEL = r"(?!-)[a-z0-9_-]{1,63}(?<!-)"
_HOST = re.compile(rf"{_LABEL}(\.{_LABEL})*")


def api_host(domain: str) -> str:
    """Return the host of the controllers."""
    return f"api.{domain}"


def orchestrator_host(domain: str) -> str:
    """Return the host of the orchestrator."""
    return f"orchestrator.{domain}"


def platform_hosts(domain: str, further: Iterable[str] = ()) -> frozenset[str]:
    """Return the hosts of a platform.

    Args:
        domain: of the platform, which is one of its hosts.
        further: hosts that the operator serves beside it.
    """
    return frozenset({domain, api_host(domain), orchestrator_host(domain), *further})


def host_problems(key: str, hosts: Sequence[str]) -> list[str]:
    """Return a problem for each name under a key of the configuration that is not a whole host name in lower case.

    This is the only accepted spelling.
    """
    return [
        f"{key}: want whole host names in lower case, without wildcard, port and final dot, not {host!r}"
        for host in hosts
        if len(host) > 253 or not _HOST.fullmatch(host)
    ]
