"""Shell completion of application names, from a cache of one minute beside the configuration."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterable
from pathlib import Path

import click
import httpx
from click.shell_completion import CompletionItem

from components.client.api import Api
from components.client.config import Config, home, normalise_target
from components.client.errors import ClientError

FILE_NAME = "names.json"
_FRESH = 60.0
# A person waits for the answer to a key.
_TIMEOUT = httpx.Timeout(2.0, connect=1.0)


class AppName(click.types.StringParamType):
    """The name of an application; any text is accepted, because only the controller knows the names."""

    name = "name"

    def shell_complete(
        self, ctx: click.Context, _param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return the user's applications that begin with the text; none where they cannot be had quickly."""
        given = ctx.find_root().params.get("target") or os.environ.get("INGOT_TARGET")
        try:
            config = Config.load(home())
            if given:
                config.override = normalise_target(str(given))
            return [CompletionItem(name) for name in names(config) if name.startswith(incomplete)]
        except ClientError:
            return []


def names(config: Config, now: float | None = None) -> list[str]:
    """Return the names of the user's applications, at most a minute old.

    Raises:
        ClientError: they are not in the cache and the controller does not return them.
    """
    now = time.time() if now is None else now
    path = config.folder / FILE_NAME
    remembered = _remembered(path, config, now)
    if remembered is not None:
        return remembered
    with Api(config.require_target(), config.require_token(), timeout=_TIMEOUT) as api:
        found = sorted(str(app.get("name")) for app in api.apps())
    _remember(path, config, found, now)
    return found


def forget(config: Config) -> None:
    """Drop the cached names, because an application was made or deleted."""
    with contextlib.suppress(OSError):
        (config.folder / FILE_NAME).unlink()


def _remembered(path: Path, config: Config, now: float) -> list[str] | None:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["for"] == _whose(config) and 0 <= now - float(kept["at"]) < _FRESH:
            return [str(name) for name in kept["names"]]
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def _remember(path: Path, config: Config, found: Iterable[str], now: float) -> None:
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    # A folder that cannot be written to only costs another request.
    with contextlib.suppress(OSError):
        with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
            json.dump({"for": _whose(config), "at": now, "names": list(found)}, stream)
        scratch.replace(path)


def _whose(config: Config) -> str:
    # The file holds a hash and not the token: one file with the token is enough.
    return f"{config.current} {hashlib.sha256(config.token.encode()).hexdigest()[:16]}"
