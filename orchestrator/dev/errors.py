"""The harness's errors."""

from __future__ import annotations

from components.common.errors import IngotError


class DevError(IngotError):
    """The platform on loopback could not be started, or is not as it should be; the text names the place to look at."""
