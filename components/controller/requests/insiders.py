"""Who belongs to the platform: what its machines ask of a controller, nobody else is answered (pure)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection

from components.controller.client_address import networks, within


class Insiders:
    """The platform's machines, by their addresses.

    Args:
        texts: addresses and networks that are known for the platform's.
        heard: gives the addresses of those that made themselves known on the bus: DEAs join without a word to controllers.
    """

    def __init__(self, texts: Collection[str], heard: Callable[[], Collection[str]]) -> None:
        known = networks(texts)
        self._heard = heard
        self._within = functools.lru_cache(4096)(lambda address: within(address, known))

    def has(self, peer: str | None, *, forwarded: bool) -> bool:
        """Return whether a request comes from one of them, and from nobody for whom it was passed on.

        Args:
            peer: the address at the other end of the connection.
            forwarded: whether the request says for whom it was passed on, as each one does that came through a router.
        """
        if forwarded or not peer:
            return False
        return self._within(peer) or peer in self._heard()
