"""A gateway's requests to the controllers (protocol 1.14): the handles of its offering, and the offering itself."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import aiohttp
import msgspec

from components.common import log
from components.common.errors import IngotError
from components.services.base.handles import HandlesReply, ServiceHandle

_SECONDS = 10.0
logger = log.get(__name__)


class ControllerError(IngotError):
    """No controller did the request; the last one's reason is in the text."""


class Controllers:
    """The controllers, tried in turn; the last one that answered is asked first.

    Args:
        urls: `http://host:port` each.
        token: the service's.
        label: the offering's.
    """

    def __init__(self, urls: list[str], token: str, label: str) -> None:
        self._urls = [u.rstrip("/") for u in urls]
        self._token = token
        self._label = label
        self._session: aiohttp.ClientSession | None = None

    async def handles(self) -> list[ServiceHandle]:
        """Return all instances and bindings.

        Raises:
            ControllerError: no controller returned them.
        """
        text = await self._ask("GET", f"/services/v1/offerings/{quote(self._label, safe='')}/handles")
        try:
            return msgspec.json.decode(text, type=HandlesReply).handles
        except msgspec.MsgspecError as error:
            raise ControllerError(f"the handles are not in the contract's shape: {error}") from error

    async def register(self, offering: dict[str, Any]) -> None:
        """Register or refresh the offering.

        Raises:
            ControllerError: no controller accepted it.
        """
        await self._ask("POST", "/services/v1/offerings", offering)

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> bytes:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_SECONDS))
        # The content type must be exactly this, also without a body.
        headers = {"Content-Type": "application/json", "X-VCAP-Service-Token": self._token}
        content = None if body is None else msgspec.json.encode(body)
        reason = "there is none"
        for url in list(self._urls):
            try:
                async with self._session.request(method, url + path, data=content, headers=headers) as answer:
                    text = await answer.read()
                    if answer.status == 200:
                        self._urls.remove(url)
                        self._urls.insert(0, url)
                        return text
                    reason = f"{url} answered {answer.status}: {text[:200].decode(errors='replace')}"
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                reason = f"{url}: {error or type(error).__name__}"
        raise ControllerError(reason)
