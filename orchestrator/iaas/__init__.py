"""Infrastructure drivers: `make` returns one for each provider of the configuration, `check` what is wrong with their options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from components.common.config import parse
from components.common.errors import ConfigError
from orchestrator.config import OrchestratorConfig
from orchestrator.iaas.lab import LabOptions, LabProvider
from orchestrator.iaas.provider import Provider
from orchestrator.iaas.static import NO_IMAGE, StaticOptions, StaticProvider

Maker = Callable[[str, Mapping[str, Any], Path], Provider]


def _static(name: str, options: Mapping[str, Any], state: Path) -> Provider:
    return StaticProvider(
        name, parse(options, StaticOptions, f"providers.{name}"), state / f"static-{name}.json"
    )


def _lab(name: str, options: Mapping[str, Any], _state: Path) -> Provider:
    return LabProvider(name, parse(options, LabOptions, f"providers.{name}"))


DRIVERS: Mapping[str, Maker] = {"lab": _lab, "static": _static}


def make(config: OrchestratorConfig) -> dict[str, Provider]:
    """Return the drivers, by their names in the configuration; nothing is connected yet.

    Raises:
        ConfigError: an unknown driver, options that are not its own, or an image where there is none; all problems at once.
    """
    made: dict[str, Provider] = {}
    problems: list[str] = []
    for name, options in config.providers.items():
        driver = DRIVERS.get(str(options.get("driver")))
        if driver is None:
            known = ", ".join(sorted(DRIVERS))
            problems.append(f"providers.{name}.driver: must be one of {known}, not {options.get('driver')!r}")
            continue
        try:
            made[name] = driver(name, options, Path(config.state_path))
        except ConfigError as error:
            problems += [f"providers.{name}.{p}" for p in error.problems]
    problems += [
        f"pools.{name}.image: provider {pool.provider} has no images: must be {NO_IMAGE!r}, not {pool.image!r}"
        for name, pool in config.pools.items()
        if isinstance(made.get(pool.provider), StaticProvider) and pool.image != NO_IMAGE
    ]
    if problems:
        raise ConfigError(problems)
    return made


def check(config: OrchestratorConfig) -> list[str]:
    """Return the problems of the providers' options, each naming its key; an empty list where `make` succeeds."""
    try:
        make(config)
    except ConfigError as error:
        return list(error.problems)
    return []
