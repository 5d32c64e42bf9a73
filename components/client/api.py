"""The controller's REST interface as typed calls (protocol sections 1.4 to 1.12, and `/v2`).

Application objects stay mappings: a client sends back the whole object it got, with what it changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlsplit

import httpx

from components.client.errors import ApiError, UnreachableError
from components.client.multipart import Upload
from components.client.resolve import LocalhostTransport, is_loopback

App = dict[str, Any]
TIMEOUT = httpx.Timeout(30, connect=10)
# The PUT that starts an application returns when it is staged.
STAGING_TIMEOUT = httpx.Timeout(900, connect=10)


def segment(text: str) -> str:
    """Percent-encode one segment of a path as `vmc` does."""
    return quote(text, safe="-_.!~*'()")


class Api:
    """A connection to one target.

    Args:
        target: `scheme://host[:port]`.
        token: sent with every call when there is one; nobody minds a stale one at a login.
        transport: for tests.
    """

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

    def info(self) -> dict[str, Any]:
        """`GET /info`; with a token that holds, `user`, `limits`, `usage` and `frameworks` are in it."""
        return self._object("GET", "/info")

    def runtimes(self) -> dict[str, Any]:
        """`GET /info/runtimes`: name → facts."""
        return self._object("GET", "/info/runtimes")

    def register(self, email: str, password: str) -> None:
        """`POST /users`."""
        self._send("POST", "/users", json={"email": email, "password": password})

    def login(self, email: str, password: str) -> str:
        """`POST /users/EMAIL/tokens`; returns the token."""
        answer = self._object("POST", f"/users/{segment(email)}/tokens", json={"password": password})
        return str(answer.get("token", ""))

    def change_password(self, email: str, password: str) -> None:
        """`PUT /users/EMAIL`."""
        self._send("PUT", f"/users/{segment(email)}", json={"email": email, "password": password})

    def users(self) -> list[dict[str, Any]]:
        """`GET /users`; administrators only."""
        return self._list("GET", "/users")

    def apps(self) -> list[App]:
        """`GET /apps`."""
        return self._list("GET", "/apps")

    def app(self, name: str) -> App:
        """`GET /apps/NAME`."""
        return self._object("GET", self._path(name))

    def find_app(self, name: str) -> App | None:
        """Return the application, or None where there is none of this name."""
        try:
            return self.app(name)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def create(self, app: Mapping[str, Any]) -> None:
        """`POST /apps`; its 302 is success."""
        self._send("POST", "/apps", json=app)

    def update(self, name: str, app: Mapping[str, Any]) -> None:
        """`PUT /apps/NAME` with the whole object; where it has to be staged, returns when it is."""
        self._send("PUT", self._path(name), json=app, timeout=STAGING_TIMEOUT)

    def delete(self, name: str) -> None:
        """`DELETE /apps/NAME`."""
        self._send("DELETE", self._path(name))

    def known_resources(self, fingerprints: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """`POST /resources`: those of the fingerprints whose files the controller has."""
        return self._list("POST", "/resources", json=list(fingerprints))

    def upload(
        self,
        name: str,
        archive: Path,
        resources: Sequence[Mapping[str, Any]],
        sent: Callable[[int, int], None],
    ) -> None:
        """`POST /apps/NAME/application` as a put (section 1.9)."""
        upload = Upload.of(name, archive, resources)
        self._send(
            "POST",
            f"{self._path(name)}/application",
            headers=upload.headers,
            content=upload.body(sent),
            timeout=STAGING_TIMEOUT,
        )

    def instances(self, name: str) -> list[dict[str, Any]]:
        """`GET /apps/NAME/instances`, in the order of their index."""
        return list(self._object("GET", f"{self._path(name)}/instances").get("instances") or [])

    def stats(self, name: str) -> dict[str, dict[str, Any]]:
        """`GET /apps/NAME/stats`: index (as text) → state and stats."""
        return self._object("GET", f"{self._path(name)}/stats")

    def crashes(self, name: str) -> list[dict[str, Any]]:
        """`GET /apps/NAME/crashes`: `[{"instance", "since"}]`."""
        return list(self._object("GET", f"{self._path(name)}/crashes").get("crashes") or [])

    def file(self, name: str, instance: str, path: str) -> str:
        """`GET /apps/NAME/instances/INSTANCE/files/PATH`: a file's text, or a folder's listing."""
        place = quote(path.strip("/"), safe="/-_.!~*'()")
        return self._send(
            "GET",
            f"{self._path(name)}/instances/{segment(instance)}/files/{place}",
            headers={"Accept": "*/*"},
        ).text

    def staging_log(self, name: str) -> str:
        """`GET /v2/apps/NAME/staging_log`: what the current or latest staging wrote so far."""
        return self._send("GET", f"/v2{self._path(name)}/staging_log", headers={"Accept": "text/plain"}).text

    def machines(self) -> list[dict[str, Any]]:
        """`GET /v2/machines`."""
        return list(self._object("GET", "/v2/machines").get("machines") or [])

    @staticmethod
    def _path(name: str) -> str:
        return f"/apps/{segment(name)}"

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
            raise UnreachableError(
                f"{self.target} does not answer as a controller does", "check the address: `ingot target`"
            ) from error

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
                "check the address with `ingot target`, and that the platform runs",
            ) from error
        if response.status_code >= 400:
            raise _failure(response)
        return response


def _failure(response: httpx.Response) -> ApiError:
    try:
        body = response.json()
        return ApiError(response.status_code, int(body["code"]), str(body["description"]))
    except (ValueError, KeyError, TypeError):
        reason = response.text.strip().partition("\n")[0][:200] or response.reason_phrase
        return ApiError(
            response.status_code,
            0,
            f"{response.request.method} {response.request.url.path}: status {response.status_code}: {reason}",
        )
