"""The orchestrator's REST interface as typed calls (`docs/platform.md`); jobs, pools and machines stay mappings."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import httpx

from components.client.connection import Connection, segment
from components.client.errors import LOGIN_HINT, ApiError, ConfigurationError

Job = dict[str, Any]
OPERATOR = "operator"
_API = "api."
_NAME = "orchestrator."
# The answer of a router that knows no such host, or no endpoint of it, begins so.
_ROUTER = "VCAP ROUTER: "
_TOLD = {
    401: f"{LOGIN_HINT} as an administrator, or set INGOT_OPERATOR_PASSWORD",
    403: f"{LOGIN_HINT} as an administrator, or set INGOT_OPERATOR_PASSWORD",
    409: "`ingot jobs list` shows what is under way",
}


def orchestrator_of(target: str) -> str:
    """Return the address of a target's orchestrator: `orchestrator.DOMAIN` for `api.DOMAIN`, at the same port.

    Raises:
        ConfigurationError: the target's name does not begin with `api.`.
    """
    host = urlsplit(target).hostname or ""
    if not host.startswith(_API):
        raise ConfigurationError(
            f"the orchestrator's address cannot be made from the target {target}",
            "name it: `ingot --orchestrator http://ADDRESS:9071 …`, or set INGOT_ORCHESTRATOR",
        )
    return target.replace(f"//{host}", f"//{_NAME}{host.removeprefix(_API)}", 1)


class OrchestratorError(ApiError):
    """The orchestrator answered with an error, or a router for it.

    Attributes:
        from_router: no orchestrator was reached.
    """

    def __init__(self, status: int, code: int, description: str, *, from_router: bool) -> None:
        super().__init__(status, 0, description)
        self.code, self.from_router = code, from_router
        self.hint = _TOLD.get(status, "" if status == 404 else self.hint)
        if from_router:
            self.hint = (
                "the orchestrator is away, or starting; it can also be reached directly: `--orchestrator "
                "http://ADDRESS:9071` with INGOT_OPERATOR_PASSWORD"
            )


class OrchestratorApi(Connection):
    """The orchestrator.

    Args:
        target: `scheme://host[:port]`.
        token: an administrator's, as the controllers gave it.
        password: the operator's, which also works while no controller answers; used instead of the token.
        transport: for tests.
    """

    SERVER = "an orchestrator"
    CHECK = "check the address (`--orchestrator`), and that the orchestrator runs"

    def __init__(
        self, target: str, token: str = "", password: str = "", transport: httpx.BaseTransport | None = None
    ) -> None:
        if password:
            token = "Basic " + base64.b64encode(f"{OPERATOR}:{password}".encode()).decode()
        super().__init__(target, token, transport)

    def pools(self) -> list[dict[str, Any]]:
        """`GET /v2/pools`."""
        return self._members(self._object("GET", "/v2/pools"), "pools")

    def pool(self, name: str) -> dict[str, Any]:
        """`GET /v2/pools/NAME`."""
        return self._object("GET", f"/v2/pools/{segment(name)}")

    def resize(self, name: str, size: int) -> Job | None:
        """`PUT /v2/pools/NAME`; None where the pool has that size."""
        job: Job | None = self._object("PUT", f"/v2/pools/{segment(name)}", json={"size": size}).get("job")
        return job

    def scale_out(self, name: str, count: int) -> Job:
        """`POST /v2/pools/NAME/scale_out`."""
        return self._begin(f"/v2/pools/{segment(name)}/scale_out", {"count": count})

    def scale_in(self, name: str, count: int, machine: str = "") -> Job:
        """`POST /v2/pools/NAME/scale_in`: a machine by its name, or as many as `count` that cost least to empty."""
        wish = {"machine": machine} if machine else {"count": count}
        return self._begin(f"/v2/pools/{segment(name)}/scale_in", wish)

    def images(self) -> list[dict[str, Any]]:
        """`GET /v2/images`."""
        return self._members(self._object("GET", "/v2/images"), "images")

    def add_image(self, provider: str, name: str, source: str = "") -> dict[str, Any]:
        """`POST /v2/images`; the image may be still on its way (state `importing`)."""
        facts = {"provider": provider, "name": name} | ({"source": source} if source else {})
        return self._object("POST", "/v2/images", json=facts)

    def remove_image(self, provider: str, name: str) -> None:
        """`DELETE /v2/images/PROVIDER/NAME`."""
        self._wish("DELETE", f"/v2/images/{segment(provider)}/{segment(name)}")

    def release(self) -> dict[str, Any]:
        """`GET /v2/release`: the running `release`, the goal of an unfinished roll (`rolling`), and the way `back`."""
        return self._object("GET", "/v2/release")

    def roll(self, release: str, share: float | None = None) -> Job:
        """`POST /v2/roll`."""
        return self._begin("/v2/roll", {"release": release} | ({} if share is None else {"share": share}))

    def rollback(self, release: str) -> Job:
        """`POST /v2/rollback`."""
        return self._begin("/v2/rollback", {"release": release})

    def wire_nfs(self, hosts: Sequence[str]) -> Job:
        """`POST /v2/wire_nfs`; without hosts, all that use the share."""
        return self._begin("/v2/wire_nfs", {"hosts": list(hosts)} if hosts else {})

    def unwire_nfs(self, hosts: Sequence[str]) -> Job:
        """`POST /v2/unwire_nfs`."""
        return self._begin("/v2/unwire_nfs", {"hosts": list(hosts)} if hosts else {})

    def jobs(self, limit: int, state: str = "") -> list[Job]:
        """`GET /v2/jobs`, newest first, without their steps."""
        wanted = {"limit": str(limit)} | ({"state": state} if state else {})
        return self._members(self._object("GET", "/v2/jobs", params=wanted), "jobs")

    def job(self, number: int) -> Job:
        """`GET /v2/jobs/ID`."""
        return self._object("GET", f"/v2/jobs/{number}")

    def log(self, number: int, after: int = 0) -> dict[str, Any]:
        """`GET /v2/jobs/ID/log`: `{"lines":[{"n","at","step","text"}],"state"}`."""
        return self._object("GET", f"/v2/jobs/{number}/log", params={"after": str(after)})

    def resume(self, number: int) -> Job:
        """`POST /v2/jobs/ID/resume`."""
        return self._begin(f"/v2/jobs/{number}/resume", {})

    def failure(self, response: httpx.Response) -> ApiError:
        """Return the error of an error answer, with its sender."""
        plain = super().failure(response)
        by_router = plain.description.startswith(_ROUTER)
        return OrchestratorError(plain.status, plain.code, plain.description, from_router=by_router)

    def _begin(self, path: str, wish: dict[str, Any]) -> Job:
        job: Job = self._object("POST", path, json=wish)["job"]
        return job
