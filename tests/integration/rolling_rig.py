"""The API as the old client uses it through a platform's router, and clients that send requests to an application all the time."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from components.common.plain_http import NO_TLS
from orchestrator.dev.harness import Platform
from tests.integration.controller_rig import multipart, zip_of
from tests.support.waiting import until


class Load:
    """Sends requests to an application without a pause while the block runs; counts the answers."""

    def __init__(self, platform: Platform, app: str, threads: int = 2) -> None:
        self._platform = platform
        self._app = app
        self.said: Counter[str] = Counter()
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(threads)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        until(lambda: self.said or self.failures, "the load has begun")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        while not self._stop.wait(0.01):
            try:
                got = self._platform.get(self._app)
            except httpx.HTTPError as error:
                self.failures.append(repr(error))
                continue
            if got.status_code == 200:
                self.said[got.json()["version"]] += 1
            else:
                self.failures.append(f"{got.status_code} {got.text[:200]}")


class Api:
    """The API as the old client uses it, through the router."""

    def __init__(self, platform: Platform, token: str = "") -> None:
        self.domain = platform.settings.domain
        self._http = httpx.Client(
            base_url=f"http://127.0.0.1:{platform.port}",
            trust_env=False,
            verify=NO_TLS,
            timeout=120,
            headers={"Host": f"api.{self.domain}:{platform.port}"},
        )
        self.token = token or self._login(platform.settings.admin_email, platform.admin_password)
        self._http.headers["AUTHORIZATION"] = self.token

    def _login(self, email: str, password: str) -> str:
        return str(self._http.post(f"/users/{email}/tokens", json={"password": password}).json()["token"])

    def call(self, method: str, path: str, body: object = None) -> httpx.Response:
        return self._http.request(method, path, json=body)

    def json(self, path: str) -> Any:
        answer = self.call("GET", path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def send(self, name: str, files: dict[str, str | bytes]) -> httpx.Response:
        body, headers = multipart(
            [
                ("_method", None, b"put"),
                ("application", f"{name}.zip", zip_of(files)),
                ("resources", None, b"[]"),
            ]
        )
        return self._http.post(f"/apps/{name}/application", content=body, headers=headers)

    def upload(self, name: str, folder: Path) -> None:
        files: dict[str, str | bytes] = {
            str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()
        }
        answer = self.send(name, files)
        assert answer.status_code == 200, answer.text

    def push(self, name: str, folder: Path, instances: int = 1, framework: str = "wsgi") -> str:
        """Create, upload, start, and wait until all run; return the version."""
        body = {
            "name": name,
            "staging": {"framework": framework, "runtime": None},
            "uris": [f"{name}.{self.domain}"],
            "instances": instances,
            "resources": {"memory": 64},
            # By its answer, not its port: a server opens that before it knows whether the application loads.
            "meta": {"health": {"path": "/", "timeout": 60}},
        }
        assert self.call("POST", "/apps", body).status_code == 302
        self.upload(name, folder)
        self.start(name)
        until(lambda: self.running(name) == instances, f"{name} runs", 60)
        return str(self.json(f"/apps/{name}")["version"])

    def start(self, name: str) -> None:
        answer = self.call("PUT", f"/apps/{name}", {**self.json(f"/apps/{name}"), "state": "STARTED"})
        assert answer.status_code == 200, answer.text

    def running(self, name: str) -> int:
        listed = self.json(f"/apps/{name}/instances")["instances"]
        return sum(instance["state"] == "RUNNING" for instance in listed)

    def ended(self, name: str, seconds: float = 90) -> dict[str, Any]:
        """Wait for the end of an update."""
        update: dict[str, Any] = until(
            lambda: (u := self.json(f"/v2/apps/{name}/update"))["state"] != "UPDATING" and u,
            "the update has ended",
            seconds,
        )
        return update

    def close(self) -> None:
        self._http.close()
