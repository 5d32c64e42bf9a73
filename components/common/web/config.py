"""The settings that every web daemon has."""

from __future__ import annotations

from typing import Protocol

from components.common.config import LogConfig, StatusConfig


class WebConfig(Protocol):
    """The part of a daemon's configuration that its server and its presence on the bus read."""

    @property
    def host(self) -> str:
        """Return the address to listen on."""

    @property
    def port(self) -> int:
        """Return the port of the API and the probes."""

    @property
    def threads(self) -> int:
        """Return the number of a worker's threads for requests."""

    @property
    def drain_seconds(self) -> float:
        """Return the time for which requests are served after the route is withdrawn."""

    @property
    def address(self) -> str:
        """Return the address at which routers and probes reach the daemon."""

    @property
    def api(self) -> str:
        """Return the API's host name at the routers."""

    @property
    def status(self) -> StatusConfig:
        """Return the user and the password of the probes."""

    @property
    def log(self) -> LogConfig:
        """Return the settings of the log."""
