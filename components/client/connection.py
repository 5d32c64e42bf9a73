"""A connection to one daemon of the platform that answers JSON over HTTP: the controller, or the orchestrator."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlsplit

import httpx

from components.client.errors import ApiError, UnreachableError
from components.client.resolve import LocalhostTransport, is_loopback

TIMEOUT = httpx.Timeout(30, connect=10)


def segment(text: str) -> str:
    """Percent-encode one segment of a path as `vmc` does."""
    return quote(text, safe="-_.!~*'()")


class Connection:
    """A connection to one target.

    Args:
        target: `scheme://host[:port]`.
        token: sent with every call when there is one; nobody minds a stale one at a login.
        transport: for tests.
    """

    # Who should answer, and what to do when nobody does.
    WHO = "a controller"
    CHECK = "check the address with `ingot target`, and that the platform runs"

    def __init__(self, target: str, token: str = "", transport: httpx.BaseTransport | None = None) -> None:
        self.target = target
        loopback = is_loopback(urlsplit(target).hostname or "")
        headers = {"User-Agent": "ingot", "Accept": "application/json"}
        if token:
            headers["AUTHORIZATION"] = token
        self._http = httpx.Client(
            base_url=target,
            headers=headers,
            timeout=TIMEOUT,
            # A proxy of the environment serves other machines, never this one.
            trust_env=not loopback,
            transport=transport or (LocalhostTransport() if loopback else None),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()

    def _object(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        value = self._json(self._send(method, path, **options))
        if not isinstance(value, dict):
            raise ApiError(502, 0, f"{method} {path}: the answer is not a JSON object")
        return value

    def _list(self, method: str, path: str, **options: Any) -> list[dict[str, Any]]:
        value = self._json(self._send(method, path, **options))
        if not isinstance(value, list):
            raise ApiError(502, 0, f"{method} {path}: the answer is not a JSON list")
        return value

    def _json(self, response: httpx.Response) -> Any:
        try:
            return response.json()
        except ValueError as error:
            raise UnreachableError(f"{self.target} does not answer as {self.WHO} does", self.CHECK) from error

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send one request.

        Raises:
            ApiError: the answer is an error.
            UnreachableError: there is no answer.
        """
        try:
            response = self._http.request(method, path, **options)
        except httpx.TimeoutException as error:
            raise UnreachableError(
                f"{self.target} did not answer in time ({method} {path})", "try again in a moment"
            ) from error
        except httpx.TransportError as error:
            raise UnreachableError(
                f"{self.target} cannot be reached: {error}",
                self.CHECK,
            ) from error
        if response.status_code >= 400:
            raise self.failure(response)
        return response

    def failure(self, response: httpx.Response) -> ApiError:
        """Read an error answer; daemons of the platform send `{"code","description"}`."""
        try:
            body = response.json()
            # The calls about services leave the code out where a request makes no sense to them.
            return ApiError(response.status_code, int(body.get("code", 0)), str(body["description"]))
        except (ValueError, KeyError, TypeError, AttributeError):
            reason = response.text.strip().partition("\n")[0][:200] or response.reason_phrase
            return ApiError(
                response.status_code,
                0,
                f"{response.request.method} {response.request.url.path}: status {response.status_code}: {reason}",
            )
