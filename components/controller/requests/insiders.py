"""The platform's own machines, which alone may make some requests of a controller (pure)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection

from components.controller.client_address import networks, within


class Insiders:
    """The platform's machines, by their addresses.

    Args:
        texts: addresses and networks of the platform.
        heard: returns the addresses of machines that announced themselves on the bus: DEAs join without configuration here.
    """

    def __init__(self, texts: Collection[str], heard: Callable[[], Collection[str]]) -> None:
        known = networks(texts)
        self._heard = heard
        self._within = functools.lru_cache(4096)(lambda address: within(address, known))

    def has(self, peer: str | None, *, forwarded: bool) -> bool:
        """Return whether a request comes directly from one of them.

        Args:
            peer: the address at the other end of the connection.
            forwarded: whether the request has `X-Forwarded-For`, as each one through a router has.
        """
        if forwarded or not peer:
            return False
        return self._within(peer) or peer in self._heard()
