"""The client's stored settings: the target, and a token for each target, in one file of mode 0600."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from components.client.errors import LOGIN_HINT, ConfigurationError

FILE_NAME = "config.json"


def home(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of the client's files: `$INGOT_HOME`, else `~/.ingot`."""
    return Path(environment.get("INGOT_HOME") or Path.home() / ".ingot")


def normalise_target(text: str) -> str:
    """Return `scheme://host[:port]` in lower case, without a path; http where no scheme is given.

    Raises:
        ConfigurationError: it is not the address of a controller.
    """
    text = text.strip()
    if "://" not in text:
        text = f"http://{text}"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise ConfigurationError(f"target {text!r}: {error}", "give http://api.DOMAIN[:PORT]") from error
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ConfigurationError(f"target {text!r} is not an HTTP address", "give http://api.DOMAIN[:PORT]")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    suffix = "" if port is None or port == {"http": 80, "https": 443}[parts.scheme] else f":{port}"
    return f"{parts.scheme}://{host}{suffix}"


@dataclass(slots=True)
class Config:
    """The settings kept between two commands; `override` replaces the target for one run."""

    folder: Path
    target: str = ""
    tokens: dict[str, str] = field(default_factory=dict)
    override: str = ""

    @property
    def current(self) -> str:
        """Return the target of this run; empty when none is set."""
        return self.override or self.target

    @classmethod
    def load(cls, folder: Path) -> Config:
        """Read the file; a missing one counts as empty.

        Raises:
            ConfigurationError: it is there and cannot be read.
        """
        path = folder / FILE_NAME
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            return cls(folder, str(raw.get("target", "")), {str(k): str(v) for k, v in raw["tokens"].items()})
        except FileNotFoundError:
            return cls(folder)
        except (OSError, ValueError, KeyError, AttributeError) as error:
            raise ConfigurationError(
                f"{path} cannot be read: {error}", f"remove it and log in again: `rm {path}`"
            ) from error

    def save(self) -> None:
        """Write the file, whole or not at all, readable by its owner only.

        Raises:
            ConfigurationError: the folder cannot be written to.
        """
        path = self.folder / FILE_NAME
        scratch = self.folder / f".{FILE_NAME}.{os.getpid()}"
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
                json.dump({"target": self.target, "tokens": self.tokens}, stream, indent=2, sort_keys=True)
                stream.write("\n")
            scratch.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                scratch.unlink()
            raise ConfigurationError(
                f"{path} cannot be written: {error.strerror}", "set INGOT_HOME to a folder of yours"
            ) from error

    @property
    def token(self) -> str:
        """Return the token for the current target; empty when no user is logged in there."""
        return self.tokens.get(self.current, "")

    def require_target(self) -> str:
        """Return the target.

        Raises:
            ConfigurationError: none is set.
        """
        if not self.current:
            raise ConfigurationError("no target is set", "name one: `ingot target http://api.DOMAIN`")
        return self.current

    def require_token(self) -> str:
        """Return the token for the current target.

        Raises:
            ConfigurationError: no user is logged in.
        """
        self.require_target()
        if not self.token:
            raise ConfigurationError(f"not logged in to {self.current}", LOGIN_HINT)
        return self.token
