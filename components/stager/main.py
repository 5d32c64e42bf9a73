"""`ingot-stager`: builds droplets from applications."""

from __future__ import annotations

from components.common.daemon import run
from components.stager.agent import Agent
from components.stager.config import StagerConfig


def main() -> None:
    """Run the stager until it is told to stop."""
    run("stager", "Stager", StagerConfig, Agent)


if __name__ == "__main__":
    main()
