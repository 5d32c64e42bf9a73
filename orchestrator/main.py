"""`ingot-orchestrator`: arguments, configuration and logs, then the server."""

from __future__ import annotations

from components.common import log
from components.common.daemon import load_or_exit
from components.common.errors import IngotError
from components.common.version import release
from orchestrator import iaas
from orchestrator.config import OrchestratorConfig

logger = log.get(__name__)


def main() -> None:
    """Run until SIGTERM or SIGINT; exit 1 where it cannot begin."""
    config = load_or_exit("orchestrator", OrchestratorConfig, check=iaas.check)
    log.configure("orchestrator", config.log.level, index=config.index, release=release())
    from orchestrator.server import serve  # noqa: PLC0415 - a check of the configuration needs none of it

    try:
        serve(config)
    except (IngotError, OSError) as error:
        logger.critical("daemon_failed", reason=str(error))
        raise SystemExit(1) from error
