"""`python -m orchestrator.dev`, which `ingot-lab dev` becomes."""

from orchestrator.dev.main import main

main()
