"""What can go wrong in the router."""

from __future__ import annotations

from components.common.errors import IngotError


class RouterError(IngotError):
    """Root of the router's errors."""


class RouteError(RouterError):
    """A registration names no route that could ever be served."""


class NginxError(RouterError):
    """nginx did not take, or did not give, what it was asked; `status` is its answer, 0 when there was none."""

    def __init__(self, what: str, status: int = 0) -> None:
        super().__init__(what)
        self.status = status
