"""The orchestrator's REST API (docs/platform.md): a blueprint for each family of calls."""
