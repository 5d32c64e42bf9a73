"""The inbox of a bus connection: one subscription for the answers to all requests.

A subscription for each request would cost several messages more than the request itself. Each request has a
name of 128 random bits below the inbox: otherwise a component that was asked once could forge the answers to other requests.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable

from nats.aio.client import Client
from nats.aio.msg import Msg

from components.common.bus.connection import Listening

# Takes an answer; returns True when it was the last that is wanted.
Take = Callable[[bytes], bool]
_RANDOM_BYTES = 16


class Inbox:
    """The open requests of a bus, at one address for all its connections: a request outlives its connection."""

    def __init__(self) -> None:
        self._address = ""
        self._open: dict[str, tuple[Take, asyncio.Future[None]]] = {}

    def listening(self, client: Client) -> Listening:
        """Return the subscription that must be made before the first request."""
        if not self._address:
            # Only the beginning of the client's own name, the user's, is taken: the rest counts up from one name to
            # the next.
            self._address = f"{client.new_inbox().partition('.')[0]}.{secrets.token_hex(_RANDOM_BYTES)}"
        return Listening(f"{self._address}.*", "", self._receive)

    async def ask(self, client: Client, subject: str, question: bytes, timeout: float, take: Take) -> None:
        """Ask, and pass every answer to `take` until it has enough, there is no subscriber, or `timeout` seconds have passed.

        Raises:
            nats.errors.Error: the question could not be sent.
        """
        loop = asyncio.get_running_loop()
        address, ended = f"{self._address}.{secrets.token_hex(_RANDOM_BYTES)}", loop.create_future()
        self._open[address] = take, ended
        timer = loop.call_later(timeout, _end, ended)
        try:
            await client.publish(subject, question, reply=address)
            await ended
        finally:
            timer.cancel()
            del self._open[address]

    def close(self) -> None:
        """End all requests: there will be no more answers."""
        for _, ended in self._open.values():
            _end(ended)

    async def _receive(self, answer: Msg) -> None:
        take, ended = self._open.get(answer.subject, (None, None))
        if take is None or ended is None or ended.done():
            return
        # The server's report that there is no subscriber.
        if answer.headers and not answer.data:
            _end(ended)
            return
        if take(answer.data):
            _end(ended)


def _end(ended: asyncio.Future[None]) -> None:
    if not ended.done():
        ended.set_result(None)
