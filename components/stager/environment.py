"""The environment of a build: of the agent's own only proxy, authorities and package indexes; pure."""

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
    """Return the variables of `NAME=value` lines as systemd's EnvironmentFile does: no comments, one pair of quotes removed."""
    variables: dict[str, str] = {}
    for line in text.splitlines():
        if (match := _LINE.match(line)) is None:
            continue
        value = match.group(2).strip()
        if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        variables[match.group(1)] = value
    return variables


def allowed(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables for fetching packages; a build runs foreign code and gets no others."""
    return {
        k: v for k, v in variables.items() if (upper := k.upper()) in _NAMES or upper.startswith(_PREFIXES)
    }


def build_environment(
    own: Mapping[str, str], file: str, home: Path, pip_index_url: str = "", npm_registry: str = ""
) -> dict[str, str]:
    """Return a build's environment.

    Args:
        own: the agent's.
        file: the text of the environment file, which wins over `own`.
        home: the build's home, also for its temporary files.
        pip_index_url: wins over both.
        npm_registry: wins over both.
    """
    variables = {**allowed(own), **allowed(parse(file))}
    if pip_index_url:
        variables["PIP_INDEX_URL"] = pip_index_url
    if npm_registry:
        variables["NPM_CONFIG_REGISTRY"] = npm_registry
    return {
        **variables,
        "PATH": _PATH,
        "HOME": str(home),
        # As in its `/etc/passwd`; systemd would name the machine's account.
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
