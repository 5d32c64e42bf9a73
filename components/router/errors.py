"""The errors of the router."""

from __future__ import annotations

from components.common.errors import IngotError


class RouterError(IngotError):
    """Root of the router's errors."""


class RouteError(RouterError):
    """A registration names no possible route."""


class NginxError(RouterError):
    """nginx refused a call or did not answer; `status` is its answer, 0 when there was none."""

    def __init__(self, what: str, status: int = 0) -> None:
        super().__init__(what)
        self.status = status
