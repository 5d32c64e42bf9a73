"""The environment of a build: proxy, authorities and package indexes, and nothing else of the agent's own; pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

_PREFIXES = ("PIP_", "NPM_CONFIG_", "SSL_CERT_", "BUNDLE_MIRROR__")
_NAMES = frozenset(
    (
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
        "ALL_PROXY",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
        "NODE_EXTRA_CA_CERTS",
        "GIT_SSL_CAINFO",
    )
)
_LINE = re.compile(r"^\s*(?:export\s+)?([A-Za-z_]\w*)=(.*)$")
_PATH = "/usr/local/bin:/usr/bin:/bin"


def parse(text: str) -> dict[str, str]:
    """Read `NAME=value` lines as systemd's EnvironmentFile does: comments skipped, one pair of quotes taken off."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        if (match := _LINE.match(line)) is None:
            continue
        value = match.group(2).strip()
        if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        found[match.group(1)] = value
    return found


def allowed(variables: Mapping[str, str]) -> dict[str, str]:
    """Keep what concerns how packages are fetched; a build runs foreign code, and learns nothing else."""
    return {
        k: v for k, v in variables.items() if (upper := k.upper()) in _NAMES or upper.startswith(_PREFIXES)
    }


def build_environment(
    own: Mapping[str, str], file: str, home: Path, pip_index_url: str = "", npm_registry: str = ""
) -> dict[str, str]:
    """Put together a build's environment.

    Args:
        own: the agent's.
        file: the text of the environment file, which wins over `own`.
        home: the build's home, also for its temporary files.
        pip_index_url: wins over both.
        npm_registry: wins over both.
    """
    found = {**allowed(own), **allowed(parse(file))}
    if pip_index_url:
        found["PIP_INDEX_URL"] = pip_index_url
    if npm_registry:
        found["NPM_CONFIG_REGISTRY"] = npm_registry
    return {
        **found,
        "PATH": _PATH,
        "HOME": str(home),
        # As its `/etc/passwd` says; systemd would name the machine's account.
        "USER": "app",
        "LOGNAME": "app",
        "SHELL": "/bin/bash",
        "TMPDIR": str(home / "tmp"),
        "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        "NO_COLOR": "1",
        "CI": "true",
    }
