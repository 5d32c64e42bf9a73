"""The HTTP client of the controllers: any of them can answer, so each is tried in turn, the last good one first."""

from __future__ import annotations

import json
import time
from base64 import b64encode
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import msgspec

from components.common import log
from components.common.bus.messages import BulkCredentials
from components.common.digits import whole_number
from components.common.errors import IngotError
from components.health_manager.desired import DesiredApp, parse_row

logger = log.get(__name__)
Credentials = Callable[[bool], Awaitable[BulkCredentials]]


class ControllersError(IngotError):
    """No controller returned a usable answer."""


@dataclass(frozen=True, slots=True)
class ControllerReply:
    """A reply: status, JSON body (None when it is not an object), and the controller's clock, seconds since 1970."""

    status: int
    body: dict[str, Any] | None
    wall: float


class Controllers:
    """A client of all controllers, which uses one that answers.

    Args:
        urls: base URLs.
        credentials: returns user and password; called again, with True, after a 401.
    """

    def __init__(self, urls: list[str], credentials: Credentials) -> None:
        self._urls = [u.rstrip("/") for u in urls]
        self._credentials = credentials
        self._session: aiohttp.ClientSession | None = None
        self._last_good = 0

    async def close(self) -> None:
        """Close connections."""
        if self._session is not None:
            await self._session.close()

    async def call(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, str] | None = None,
        body: object = None,
        timeout: float,
    ) -> ControllerReply:
        """Ask one controller after the other until one answers with less than 500.

        Raises:
            ControllersError: none did; the text has the trouble of each.
        """
        troubles = []
        for turn in range(len(self._urls)):
            number = (self._last_good + turn) % len(self._urls)
            url = self._urls[number]
            try:
                answer = await self._ask(method, url + path, params, body, timeout, renew=False)
                if answer.status == 401:
                    answer = await self._ask(method, url + path, params, body, timeout, renew=True)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                troubles.append(f"{url}: {str(error) or type(error).__name__}")
                continue
            if answer.status >= 500 or answer.status in (401, 404):
                troubles.append(f"{url}: status {answer.status}")
                continue
            self._last_good = number
            return answer
        raise ControllersError("; ".join(troubles))

    async def _ask(
        self,
        method: str,
        url: str,
        params: dict[str, str] | None,
        body: object,
        timeout: float,
        *,
        renew: bool,
    ) -> ControllerReply:
        if self._session is None:
            self._session = aiohttp.ClientSession()
        async with self._session.request(
            method,
            url,
            params=params,
            json=body,
            headers={"Authorization": _basic(await self._credentials(renew))},
            timeout=aiohttp.ClientTimeout(total=timeout),
            allow_redirects=False,
        ) as reply:
            raw = await reply.read()
            try:
                value = msgspec.json.decode(raw)
            except msgspec.DecodeError:
                value = None
            return ControllerReply(reply.status, value if isinstance(value, dict) else None, _wall(reply))


async def read_apps(
    controllers: Controllers, batch: int, timeout: float = 10.0
) -> tuple[list[DesiredApp], float]:
    """Read every application by the bulk API (protocol 1.15), page by page.

    Returns:
        the applications, and the controller's clock when the first page was written.

    Raises:
        ControllersError: no controller answered, or an answer breaks the contract. Then nothing is known:
            a partial reading would make the other applications look deleted.
    """
    apps: list[DesiredApp] = []
    token: dict[str, Any] = {}
    wall = None
    while True:
        params = {"batch_size": str(batch), "bulk_token": json.dumps(token)}
        answer = await controllers.call("GET", "/bulk/apps", params=params, timeout=timeout)
        body = answer.body or {}
        rows, following = body.get("results"), body.get("bulk_token")
        if answer.status != 200 or not isinstance(rows, dict):
            raise ControllersError(f"/bulk/apps: status {answer.status}, or no `results`")
        wall = answer.wall if wall is None else wall
        if not rows:
            return apps, wall
        for key, row in rows.items():
            droplet = whole_number(key)
            if droplet is None or not isinstance(row, dict):
                raise ControllersError(f"/bulk/apps: {key!r} is not an application's id with its columns")
            apps.append(parse_row(droplet, row))
        if not isinstance(following, dict) or following == token:
            raise ControllersError("/bulk/apps: the bulk token does not move on")
        token = following


async def count_users(controllers: Controllers, timeout: float = 5.0) -> int | None:
    """Return the count of `GET /bulk/counts?model=user`; None where it is not known."""
    try:
        answer = await controllers.call("GET", "/bulk/counts", params={"model": "user"}, timeout=timeout)
    except ControllersError:
        return None
    counts = (answer.body or {}).get("counts")
    number = counts.get("user") if isinstance(counts, dict) else None
    return number if isinstance(number, int) else None


def _wall(reply: aiohttp.ClientResponse) -> float:
    try:
        return parsedate_to_datetime(reply.headers["Date"]).timestamp()
    except (KeyError, ValueError, TypeError):
        return time.time()


def _basic(given: BulkCredentials) -> str:
    return "Basic " + b64encode(f"{given.user}:{given.password}".encode()).decode()
