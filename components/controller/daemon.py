"""Arguments, configuration and logs, then the server."""

from __future__ import annotations

from components.common import log
from components.common.daemon import load_or_exit
from components.common.errors import IngotError
from components.common.version import release
from components.controller.config import ControllerConfig
from components.controller.server import serve

logger = log.get(__name__)


def run() -> None:
    """Run until SIGTERM or SIGINT; exit with 1 where the start fails."""
    config = load_or_exit("controller", ControllerConfig)
    log.configure("controller", config.log.level, index=config.index, release=release())
    try:
        serve(config)
    except (IngotError, OSError) as error:
        logger.critical("daemon_failed", reason=str(error))
        raise SystemExit(1) from error
