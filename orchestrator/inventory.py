"""The parts of a lab's inventory beside its machines: permanent secrets, and the running release."""

from __future__ import annotations

import secrets
import sys
from pathlib import Path
from typing import Any

import yaml

from components.common.files import PUBLIC, write_atomically
from components.common.subjects import COMPONENTS, OPERATOR, PEER
from components.common.version import VERSION

# An inventory source of its own: `group_vars` beside it belongs to the checkout and holds no secrets.
SECRETS = "15-secrets.yml"
# The running release: written by each program that installs or rolls one, here and by `playbooks/roll.yml`.
RELEASE = "16-release.yml"
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


def recorded_release(folder: Path) -> str | None:
    """Return the release that an inventory records; None where it records none yet."""
    path = folder / RELEASE
    if not path.is_file():
        return None
    return str(yaml.safe_load(path.read_text(encoding="utf-8"))["all"]["vars"]["ingot_release"])


def was_rolled(folder: Path) -> bool:
    """Return whether the recorded release came by a roll, which knows the release before (`playbooks/roll_settle.yml`)."""
    path = folder / RELEASE
    return (
        path.is_file() and "ingot_release_previous" in yaml.safe_load(path.read_text("utf-8"))["all"]["vars"]
    )


def record_release(folder: Path, version: str) -> None:
    """Write the release that the platform runs; a file with the same content is not touched."""
    if recorded_release(folder) != version:
        folder.mkdir(parents=True, exist_ok=True)
        text = "# The release that runs. `ingot platform roll` and `rollback` change it.\n"
        write_atomically(
            folder / RELEASE,
            text + yaml.safe_dump({"all": {"vars": {"ingot_release": version}}}),
            mode=PUBLIC,
        )


def recorded(folder: Path) -> dict[str, str]:
    """Return an inventory's releases: the running one, the one before, and the goal of an unfinished roll.

    Returns:
        `ingot_release`, and where there was a roll, `ingot_release_previous` (empty: nothing to go back to) and
        `ingot_release_rolling`.
    """
    path = folder / RELEASE
    if not path.is_file():
        return {}
    found: dict[str, str] = yaml.safe_load(path.read_text(encoding="utf-8"))["all"]["vars"]
    return found


def return_release(folder: Path) -> str:
    """Return the default release of a rollback: the running one during an unfinished roll, else the one before; or ""."""
    known = recorded(folder)
    name = "ingot_release" if "ingot_release_rolling" in known else "ingot_release_previous"
    return str(known.get(name, ""))


def record_rolling(folder: Path, version: str) -> None:
    """Write that a roll is under way: machines may run this release already."""
    _record(folder, {**recorded(folder), "ingot_release_rolling": version})


def _record(folder: Path, facts: dict[str, str]) -> None:
    # In the form of playbooks/tasks/roll_record.yml, which writes it at the end of a roll.
    if facts != recorded(folder):
        text = "# The release that runs. `ingot platform roll` and `rollback` change it.\n"
        write_atomically(folder / RELEASE, text + yaml.safe_dump({"all": {"vars": facts}}), mode=PUBLIC)


def _secret() -> str:
    # Letters, digits, - and _: no configuration language needs to quote them.
    return secrets.token_urlsafe(_BYTES)


if __name__ == "__main__":
    lab_secrets(Path(sys.argv[1]))
    record_release(Path(sys.argv[1]), VERSION)
