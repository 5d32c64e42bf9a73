"""The name under which the DEA still imports `components.common.aio`."""

from __future__ import annotations

from components.common.aio import cancel_and_wait as end

__all__ = ["end"]
