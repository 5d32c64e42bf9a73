"""`ingot-orchestrator`: arguments, configuration and logs, then the server."""

from __future__ import annotations

from components.common.daemon import begin, exit_on_failure
from orchestrator import iaas
from orchestrator.config import OrchestratorConfig


def main() -> None:
    """Run until SIGTERM or SIGINT; exit 1 where it cannot begin."""
    config = begin("orchestrator", OrchestratorConfig, iaas.check)
    from orchestrator.server import serve  # noqa: PLC0415 - a check of the configuration needs none of it

    with exit_on_failure():
        serve(config)
