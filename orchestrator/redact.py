"""The masking of secrets in stored and shown texts, by their known values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import yaml

from components.common import log
from orchestrator.config import OrchestratorConfig

MASK = log.MASK
# Shorter values are words with other meanings too.
SHORTEST = 6
# Files of an inventory that hold secrets only.
PATTERN = "*secrets*.yml"
_KEYS = ("password", "secret", "token", "credential", "api_key")
logger = log.get(__name__)


class Redactor:
    """A filter that masks the given values in texts.

    Args:
        values: the secrets; short ones are left alone.
    """

    def __init__(self, values: Iterable[str]) -> None:
        # The longest first: one may contain another.
        secrets = sorted({v for v in values if len(v) >= SHORTEST}, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, secrets))) if secrets else None

    def __call__(self, text: str) -> str:
        """Return the text with every secret masked."""
        return self._pattern.sub(MASK, text) if self._pattern else text


def redactor(config: OrchestratorConfig) -> Redactor:
    """Return an orchestrator's redactor: for its own secrets, its providers', and the inventory's present ones."""
    own = [config.operator_password, config.bus.password, config.status.password]
    return Redactor([*own, *_named_secret(config.providers), *inventory_secrets(Path(config.inventory))])


def inventory_secrets(folder: Path) -> set[str]:
    """Return every text in the secrets files of an inventory; a file that cannot be read is named in the log."""
    found: set[str] = set()
    for path in sorted(folder.rglob(PATTERN)):
        try:
            found.update(_texts(yaml.safe_load(path.read_text(encoding="utf-8"))))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            logger.warning("secrets_not_read", file=str(path), reason=type(error).__name__)
    return found


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def _named_secret(value: object, *, secret: bool = False) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _named_secret(inner, secret=secret or any(word in str(key).lower() for word in _KEYS))
    elif isinstance(value, list):
        for inner in value:
            yield from _named_secret(inner, secret=secret)
    elif secret and isinstance(value, str):
        yield value
