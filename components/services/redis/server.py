"""The node's commands to one instance's server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, RedisError

from components.common.errors import IngotError
from components.services.redis import acl
from components.services.redis.records import ADMIN, Record

_CONNECT_SECONDS = 2.0
_ANSWER_SECONDS = 5.0


class ServerError(IngotError):
    """A server did not carry out a command; the text holds neither names of users nor digests."""


class ServerState(StrEnum):
    """The state of a server: answering, loading its data, or silent."""

    UP = "up"
    LOADING = "loading"
    NONE = "none"


async def ask(address: str, record: Record) -> ServerState:
    """Return the state of an instance's server."""
    try:
        async with _connected(address, record) as client:
            await client.ping()
    except BusyLoadingError:
        return ServerState.LOADING
    except (RedisError, OSError, TimeoutError):
        return ServerState.NONE
    return ServerState.UP


async def apply_users(address: str, record: Record) -> None:
    """Make a running server's users those of the record, and close the connections of removed ones.

    Raises:
        ServerError: it did not do all of that.
    """
    try:
        async with _connected(address, record) as client:
            tell: Callable[..., Awaitable[Any]] = client.execute_command
            live = {}
            for name in await tell("ACL USERS"):
                if name != ADMIN:
                    live[name] = frozenset((await tell("ACL GETUSER", name))["passwords"])
            for command in acl.changes(live, acl.wanted(record)):
                await tell(*command)
    except (RedisError, OSError, TimeoutError) as error:
        raise ServerError(f"the server on port {record.port} did not: {type(error).__name__}") from None


@asynccontextmanager
async def _connected(address: str, record: Record) -> AsyncIterator[Redis]:
    client = Redis(
        host=address,
        port=record.port,
        username=ADMIN,
        password=record.admin_password,
        decode_responses=True,
        socket_connect_timeout=_CONNECT_SECONDS,
        socket_timeout=_ANSWER_SECONDS,
        # The caller decides whether to try again.
        retry=Retry(NoBackoff(), 0),
        # The server's answer to "who are you" is not needed, and its user may not send it.
        lib_name=None,
        lib_version=None,
        protocol=2,
    )
    try:
        yield client
    finally:
        await client.aclose()
