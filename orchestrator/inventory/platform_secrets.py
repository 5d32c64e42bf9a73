"""The permanent secrets of a platform, and of a lab's inventory."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import yaml

from components.common.bus.subjects import COMPONENTS, OPERATOR, PEER
from components.common.filesystem.files import write_atomically

# An inventory source of its own: `group_vars` beside it belongs to the checkout and holds no secrets.
SECRETS = "15-secrets.yml"
# Data services whose gateways show the controllers a token.
SERVICES = ("redis",)
# The secret between several servers of the bus; a user of no client.
CLUSTER = "cluster"
_HEADER = "# Made once for this lab; keep it to yourself.\n"
_BYTES = 24


def generate_secrets(known: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return a value for every secret of the platform, keeping those that are known already."""
    known = known or {}
    passwords = dict(known.get("ingot_bus_passwords") or {})
    for user in (*COMPONENTS, OPERATOR, PEER, CLUSTER):
        passwords.setdefault(user, _secret())
    made: dict[str, Any] = {"ingot_bus_passwords": passwords, "ingot_token_keys": [_secret()]}
    for name in ("admin", "bulk", "ccdb", "operator", "staging", "status"):
        made[f"ingot_{name}_password"] = _secret()
    tokens = dict(known.get("ingot_service_tokens") or {})
    for service in SERVICES:
        tokens.setdefault(service, _secret())
    return {**made, **known, "ingot_bus_passwords": passwords, "ingot_service_tokens": tokens}


def lab_secrets(folder: Path) -> dict[str, Any]:
    """Return the secrets of a lab's inventory, making those that are missing.

    Args:
        folder: the inventory, `build/labs/NAME/inventory`.

    Returns:
        The values by the names of the platform's inputs.
    """
    path = folder / SECRETS
    known: dict[str, Any] = {}
    if path.is_file():
        known = yaml.safe_load(path.read_text(encoding="utf-8"))["all"]["vars"]
    complete = generate_secrets(known)
    if complete != known:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, _HEADER + yaml.safe_dump({"all": {"vars": complete}}))
    return complete


def _secret() -> str:
    # Letters, digits, - and _: no configuration language needs to quote them.
    return secrets.token_urlsafe(_BYTES)
