"""The controller's REST interface as typed calls (protocol 1.4 to 1.12, and `/v2`).

Application objects stay mappings: a client sends back the whole object it got, with what it changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from components.client.api_v2 import STAGING_TIMEOUT, ApiV2
from components.client.connection import segment
from components.client.errors import ApiError
from components.client.multipart import Upload

App = dict[str, Any]
# A controller waits for a service's gateway as long as that one asks for.
SERVICE_TIMEOUT = httpx.Timeout(180, connect=10)


class Api(ApiV2):
    """The controller's calls of the contract of 2011, and of `/v2`."""

    def info(self) -> dict[str, Any]:
        """`GET /info`; with a token that holds, `user`, `limits`, `usage` and `frameworks` are in it."""
        return self._object("GET", "/info")

    def runtimes(self) -> dict[str, Any]:
        """`GET /info/runtimes`: name → facts."""
        return self._object("GET", "/info/runtimes")

    def register(self, email: str, password: str) -> None:
        """`POST /users`."""
        self._wish("POST", "/users", json={"email": email, "password": password})

    def login(self, email: str, password: str) -> str:
        """`POST /users/EMAIL/tokens`; returns the token."""
        answer = self._object("POST", f"/users/{segment(email)}/tokens", json={"password": password})
        return str(answer.get("token", ""))

    def change_password(self, email: str, password: str) -> None:
        """`PUT /users/EMAIL`."""
        self._wish("PUT", f"/users/{segment(email)}", json={"email": email, "password": password})

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
        self._wish("POST", "/apps", json=app)

    def update(self, name: str, app: Mapping[str, Any]) -> None:
        """`PUT /apps/NAME` with the whole object; where it has to be staged, returns when it is."""
        self._wish("PUT", self._path(name), json=app, timeout=STAGING_TIMEOUT)

    def delete(self, name: str) -> None:
        """`DELETE /apps/NAME`."""
        self._wish("DELETE", self._path(name))

    def known_resources(self, fingerprints: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """`POST /resources`: the fingerprints whose files the controller has."""
        return self._list("POST", "/resources", json=list(fingerprints))

    def upload(
        self,
        name: str,
        archive: Path,
        resources: Sequence[Mapping[str, Any]],
        sent: Callable[[int, int], None],
    ) -> None:
        """`POST /apps/NAME/application` as a put (protocol 1.9)."""
        upload = Upload.of(name, archive, resources)
        self._wish(
            "POST",
            f"{self._path(name)}/application",
            headers=upload.headers,
            content=upload.body(sent),
            timeout=STAGING_TIMEOUT,
        )

    def instances(self, name: str) -> list[dict[str, Any]]:
        """`GET /apps/NAME/instances`, in the order of their index."""
        return self._members(self._object("GET", f"{self._path(name)}/instances"), "instances")

    def stats(self, name: str) -> dict[str, dict[str, Any]]:
        """`GET /apps/NAME/stats`: index (as text) → state and stats."""
        return self._object("GET", f"{self._path(name)}/stats")

    def crashes(self, name: str) -> list[dict[str, Any]]:
        """`GET /apps/NAME/crashes`: `[{"instance", "since"}]`."""
        return self._members(self._object("GET", f"{self._path(name)}/crashes"), "crashes")

    def file(self, name: str, instance: str, path: str) -> str:
        """`GET /apps/NAME/instances/INSTANCE/files/PATH`: a file's text, or a folder's listing."""
        place = quote(path.strip("/"), safe="/-_.!~*'()")
        return self._send(
            "GET",
            f"{self._path(name)}/instances/{segment(instance)}/files/{place}",
            headers={"Accept": "*/*"},
        ).text

    def staging_log(self, name: str) -> str:
        """`GET /v2/apps/NAME/staging_log`: the output of the current or latest staging so far."""
        return self._send("GET", f"/v2{self._path(name)}/staging_log", headers={"Accept": "text/plain"}).text

    def machines(self) -> list[dict[str, Any]]:
        """`GET /v2/machines`."""
        return self._members(self._object("GET", "/v2/machines"), "machines")

    def offerings(self) -> dict[str, Any]:
        """`GET /info/services`: type → vendor → version → offering (protocol 1.5)."""
        return self._object("GET", "/info/services")

    def services(self) -> list[dict[str, Any]]:
        """`GET /services`: the user's own."""
        return self._list("GET", "/services")

    def create_service(self, service: Mapping[str, Any]) -> None:
        """`POST /services`: `type`, `vendor`, `version`, `tier`, `name`."""
        self._wish("POST", "/services", json=service, timeout=SERVICE_TIMEOUT)

    def delete_service(self, name: str) -> None:
        """`DELETE /services/NAME`; its bindings are removed with it."""
        self._wish("DELETE", f"/services/{segment(name)}", timeout=SERVICE_TIMEOUT)

    @staticmethod
    def _path(name: str) -> str:
        return f"/apps/{segment(name)}"
