"""A connection to one daemon of the platform that answers JSON over HTTP: the controller, or the orchestrator."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlsplit

import httpx

from components.client.errors import ApiError, UnreachableError
from components.client.localhost_transport import LocalhostTransport, is_loopback

TIMEOUT = httpx.Timeout(30, connect=10)
# A daemon that is replaced closes its connections; a reading request may then be sent once more, a changing one may
# not.
_CUT = (httpx.ConnectError, httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)
_BUSY = 429
_LONGEST_REST = 15.0
_RESTS = 3


def segment(text: str) -> str:
    """Percent-encode one segment of a path as `vmc` does."""
    return quote(text, safe="-_.!~*'()")


class Connection:
    """A connection to one target.

    Args:
        target: `scheme://host[:port]`.
        token: sent with every call when there is one; a stale one does no harm at a login.
        transport: for tests.
        timeout: seconds, for calls that set none of their own.
        acting_for: the user whose applications are meant, where that is another; administrators only.
    """

    # The expected peer, and a remedy for the case that no peer answers.
    SERVER = "a controller"
    CHECK = "check the address with `ingot target`, and that the platform runs"
    sleep: Callable[[float], None] = staticmethod(time.sleep)

    def __init__(
        self,
        target: str,
        token: str = "",
        transport: httpx.BaseTransport | None = None,
        timeout: httpx.Timeout = TIMEOUT,
        acting_for: str = "",
    ) -> None:
        self.target = target
        parts = urlsplit(target)
        loopback = is_loopback(parts.hostname or "")
        # Reading the machine's certificates takes a tenth of a second, and without TLS they are not needed.
        verify = parts.scheme != "http"
        headers = {"User-Agent": "ingot", "Accept": "application/json"}
        if token:
            headers["AUTHORIZATION"] = token
        if acting_for:
            headers["PROXY-USER"] = acting_for
        self._http = httpx.Client(
            base_url=target,
            headers=headers,
            timeout=timeout,
            # A proxy of the environment is for other machines, never for this one.
            trust_env=not loopback,
            verify=verify,
            transport=transport or (LocalhostTransport(verify=verify) if loopback else None),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _object(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        value = self._json(self._send(method, path, **options))
        if not isinstance(value, dict):
            raise self._nonsense(f"{method} {path}: the answer is not a JSON object")
        return value

    def _list(self, method: str, path: str, **options: Any) -> list[dict[str, Any]]:
        return self._members({path: self._json(self._send(method, path, **options))}, path)

    def _wish(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a request and ignore the answer, which must be empty or JSON."""
        response = self._send(method, path, **options)
        if response.text.strip():
            self._json(response)
        return response

    def _members(self, answer: dict[str, Any], key: str) -> list[dict[str, Any]]:
        """Return a member that is a list of objects; a missing one is empty."""
        value = answer.get(key) or []
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self._nonsense(f"{key}: the answer is not a list of JSON objects")
        return value

    def _json(self, response: httpx.Response) -> Any:
        try:
            return response.json()
        except ValueError as error:
            raise self._nonsense("what came is not JSON") from error

    def _nonsense(self, detail: str) -> UnreachableError:
        return UnreachableError(f"{self.target} does not answer as {self.SERVER} does ({detail})", self.CHECK)

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send one request; repeat a GET whose connection breaks once, and a request that came too often when it may.

        Raises:
            ApiError: the answer is an error.
            UnreachableError: there is no answer.
        """
        for attempt in range(_RESTS + 1):
            response = self._once(method, path, options)
            rest = _rest(response)
            # The body of an upload is gone once it was sent.
            if rest is None or "content" in options or attempt == _RESTS:
                break
            self.sleep(rest)
        if response.status_code >= 400:
            raise self.failure(response)
        return response

    def _once(self, method: str, path: str, options: dict[str, Any]) -> httpx.Response:
        try:
            if method == "GET":
                with contextlib.suppress(*_CUT):
                    return self._http.request(method, path, **options)
            return self._http.request(method, path, **options)
        except httpx.TimeoutException as error:
            raise UnreachableError(
                f"{self.target} did not answer in time ({method} {path})", "try again in a moment"
            ) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise UnreachableError(f"{self.target} cannot be reached: {error}", self.CHECK) from error

    def failure(self, response: httpx.Response) -> ApiError:
        """Return the error of an error answer; daemons of the platform send `{"code","description"}`."""
        try:
            body = response.json()
            # The calls about services leave the code out where a request makes no sense to them.
            return ApiError(response.status_code, int(body.get("code", 0)), str(body["description"]))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
            reason = response.text.strip().partition("\n")[0][:200] or response.reason_phrase
            return ApiError(
                response.status_code,
                0,
                f"{response.request.method} {response.request.url.path}: status {response.status_code}: {reason}",
            )


def _rest(response: httpx.Response) -> float | None:
    """Return the seconds after which a refused request may be repeated; None where it is not that, or too long."""
    if response.status_code != _BUSY:
        return None
    try:
        seconds = float(response.headers.get("Retry-After", "1"))
    except ValueError:
        return None
    return max(seconds, 0.1) if seconds <= _LONGEST_REST else None
