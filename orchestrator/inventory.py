"""The inventory's secrets of a lab: made once, kept, and completed when a release asks for more."""

from __future__ import annotations

import secrets
import sys
from pathlib import Path
from typing import Any

import yaml

from components.common.subjects import COMPONENTS, OPERATOR, PEER

# An inventory source of its own: `group_vars` beside it is the checkout's and holds nothing that is secret.
SECRETS = "15-secrets.yml"
# What several servers of the bus show each other; a user of no client.
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
    for name in ("admin", "bulk", "ccdb", "staging", "status"):
        made[f"ingot_{name}_password"] = _secret()
    return {**made, **known, "ingot_bus_passwords": passwords}


def lab_secrets(folder: Path) -> dict[str, Any]:
    """Read the secrets of a lab's inventory, making what is missing.

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
        fresh = path.with_name(f".{SECRETS}.new")
        fresh.unlink(missing_ok=True)
        fresh.touch(mode=0o600)
        fresh.write_text(_HEADER + yaml.safe_dump({"all": {"vars": complete}}), encoding="utf-8")
        fresh.replace(path)
    return complete


def _secret() -> str:
    # Letters, digits, - and _: no configuration language needs to quote them.
    return secrets.token_urlsafe(_BYTES)


if __name__ == "__main__":
    lab_secrets(Path(sys.argv[1]))
