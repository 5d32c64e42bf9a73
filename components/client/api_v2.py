"""The controller's calls beyond the contract of 2011 (`docs/platform.md`, HTTP): revisions, logs, tasks, records, users.

An older controller does not know them and answers 404 without a code: `missing` tells that from an application that is not there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx

from components.client.connection import Connection, segment
from components.client.errors import ApiError, ClientError

Record = dict[str, Any]
# A controller holds a reader of logs for ten seconds at most.
_WATCH_TIMEOUT = httpx.Timeout(40, connect=10)
# The answer comes when the new version is staged.
STAGING_TIMEOUT = httpx.Timeout(900, connect=10)
_PAGE = 100


def missing(error: ClientError) -> bool:
    """Return whether an error means that the controller does not know the call, and so is older than this client."""
    return isinstance(error, ApiError) and error.status in {404, 405} and error.code == 0


class ApiV2(Connection):
    """The calls under `/v2`, and the rolling update that goes with them."""

    def begin_update(self, name: str) -> None:
        """`PUT /apps/NAME/update`: stage the new version and replace the instances one by one; return when staged."""
        self._wish("PUT", f"/apps/{segment(name)}/update", json={}, timeout=STAGING_TIMEOUT)

    def change_and_update(self, name: str, changes: Mapping[str, Any]) -> None:
        """`PUT /v2/apps/NAME/update`: change these members and `begin_update`, in one step: all of it or nothing."""
        self._wish("PUT", f"{self._app(name)}/update", json=dict(changes), timeout=STAGING_TIMEOUT)

    def update_state(self, name: str) -> Record:
        """`GET /v2/apps/NAME/update`: `state`, `replaced` of `instances`, `message`, versions `from` and `to`."""
        return self._object("GET", f"{self._app(name)}/update")

    def revisions(self, name: str) -> list[Record]:
        """`GET /v2/apps/NAME/revisions`, newest first."""
        return self._rows(f"{self._app(name)}/revisions", "revisions")

    def rollback(self, name: str, revision: int | None = None) -> bool:
        """`POST /v2/apps/NAME/rollback`; False where the application is stopped and only its droplet changed."""
        wish = {} if revision is None else {"revision": revision}
        return self._wish("POST", f"{self._app(name)}/rollback", json=wish).status_code == 202

    def logs(self, name: str, **wanted: str | int | None) -> Record:
        """`GET /v2/apps/NAME/logs`: `{"lines","missed","cursor"}`; takes `tail`, or `cursor` and `wait`, and `instance`."""
        return self._page(f"{self._app(name)}/logs", wanted)

    def begin_task(self, name: str, wish: Mapping[str, Any]) -> Record:
        """`POST /v2/apps/NAME/tasks`: `command`, and where wanted `memory` (MB) and `timeout` (seconds)."""
        return self._object("POST", f"{self._app(name)}/tasks", json=dict(wish))

    def tasks(self, name: str) -> list[Record]:
        """`GET /v2/apps/NAME/tasks`, newest first."""
        return self._rows(f"{self._app(name)}/tasks", "tasks")

    def task(self, name: str, task: str) -> Record:
        """`GET /v2/apps/NAME/tasks/ID`."""
        return self._object("GET", f"{self._app(name)}/tasks/{segment(task)}")

    def stop_task(self, name: str, task: str) -> Record:
        """`DELETE /v2/apps/NAME/tasks/ID`; the task as it stands then."""
        return self._object("DELETE", f"{self._app(name)}/tasks/{segment(task)}")

    def task_logs(self, name: str, task: str, **wanted: str | int | None) -> Record:
        """`GET /v2/apps/NAME/tasks/ID/logs`: as `logs`, with the task's `state`."""
        return self._page(f"{self._app(name)}/tasks/{segment(task)}/logs", wanted)

    def all_apps(self, owner: str = "") -> list[Record]:
        """`GET /v2/apps`: those of all users, or of one owner; administrators only."""
        return self._pages("/v2/apps", "apps", {"owner": owner} if owner else {"all": 1})

    def all_users(self) -> list[Record]:
        """`GET /v2/users`; administrators only."""
        return self._pages("/v2/users", "users", {})

    def quota(self, email: str) -> Record:
        """`GET /v2/users/EMAIL/quota`: `memory` and `disk` (MB), and counts."""
        return self._object("GET", f"/v2/users/{segment(email)}/quota")

    def set_quota(self, email: str, changes: Mapping[str, int | None]) -> None:
        """`PUT /v2/users/EMAIL/quota`; None is the platform's default."""
        self._wish("PUT", f"/v2/users/{segment(email)}/quota", json=dict(changes))

    def end_tokens(self, email: str) -> None:
        """`DELETE /v2/users/EMAIL/tokens`: all tokens issued so far become invalid."""
        self._wish("DELETE", f"/v2/users/{segment(email)}/tokens")

    def events(self, limit: int, **wanted: str | int | None) -> list[Record]:
        """`GET /v2/events`, newest first, at most `limit`; takes `app`, `user`, `since`."""
        return self._pages("/v2/events", "events", wanted, limit)

    def usage(self, **wanted: str | None) -> list[Record]:
        """`GET /v2/usage`: a row for each day, user and application; takes `from`, `to`, `user`, `app`."""
        return self._rows("/v2/usage", "usage", **wanted)

    def usage_csv(self, **wanted: str | None) -> str:
        """`GET /v2/usage` as CSV."""
        parameters = {**_said(wanted), "format": "csv"}
        return self._send("GET", "/v2/usage", params=parameters, headers={"Accept": "text/csv"}).text

    def platform_logs(self, **wanted: str | int | None) -> Record:
        """`GET /v2/logs`: `{"lines","silent"}`; administrators only."""
        return self._object("GET", "/v2/logs", params=_said(wanted))

    def _page(self, path: str, wanted: Mapping[str, str | int | None]) -> Record:
        page = self._object("GET", path, params=_said(wanted), timeout=_WATCH_TIMEOUT)
        return {**page, "lines": self._members(page, "lines"), "missed": self._members(page, "missed")}

    def _rows(self, path: str, key: str, **wanted: str | int | None) -> list[Record]:
        return self._members(self._object("GET", path, params=_said(wanted)), key)

    def _pages(
        self, path: str, key: str, wanted: Mapping[str, str | int | None], limit: int | None = None
    ) -> list[Record]:
        rows: list[Record] = []
        after: Any = None
        while limit is None or len(rows) < limit:
            size = _PAGE if limit is None else min(_PAGE, limit - len(rows))
            page = self._object("GET", path, params=_said({**wanted, "limit": size, "after": after}))
            found = self._members(page, key)
            rows += found
            after = page.get("next")
            if after is None or not found:
                break
        return rows

    @staticmethod
    def _app(name: str) -> str:
        return f"/v2/apps/{segment(name)}"


def _said(wanted: Mapping[str, str | int | None]) -> dict[str, str]:
    return {key: str(value) for key, value in wanted.items() if value is not None}
