"""`ingot-health-manager`: keeps the wanted instances running."""

from __future__ import annotations

from components.common.daemon import run
from components.health_manager.config import HealthManagerConfig
from components.health_manager.manager import HealthManager


def main() -> None:
    """Run the health manager until SIGTERM."""
    run("health_manager", "HealthManager", HealthManagerConfig, HealthManager)
