"""`ingot-dea`: the agent of an application machine."""

from __future__ import annotations

from pathlib import Path

from components.common.daemon import run
from components.common.identity import Identity, persistent_id
from components.dea.agent import Agent
from components.dea.config import DeaConfig


def identify(config: DeaConfig) -> Identity:
    """Return the DEA's former identity: a restarted agent is the same DEA."""
    base = Path(config.base_dir)
    base.mkdir(mode=0o711, parents=True, exist_ok=True)
    return Identity("DEA", config.index, persistent_id(base / "id", config.index))


def main() -> None:
    """Run the agent."""
    run("dea", "DEA", DeaConfig, Agent, identify)


if __name__ == "__main__":
    main()
