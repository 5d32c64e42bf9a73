"""Arguments, configuration and logs, then the server."""

from __future__ import annotations

from components.common.daemon import begin, exit_on_failure
from components.controller.config import ControllerConfig
from components.controller.server import serve


def run() -> None:
    """Run until SIGTERM or SIGINT; exit with 1 where the start fails."""
    config = begin("controller", ControllerConfig)
    with exit_on_failure():
        serve(config)
