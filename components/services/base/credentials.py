"""Names and passwords that are made up, in the shapes of protocol 6.7."""

from __future__ import annotations

import hashlib
import secrets
import uuid


def new_name(prefix: str = "") -> str:
    """Make an instance's or a user's name: 32 lower-case hex characters, with a prefix where one is usual."""
    return prefix + uuid.uuid4().hex


def new_password() -> str:
    """Make a password: 192 random bits, letters and digits only, so that it stands in any URL."""
    return "p" + secrets.token_hex(24)


def digest(password: str) -> str:
    """Give what is kept of a password: its SHA-256 as hex. Enough, as these passwords are random and not people's."""
    return hashlib.sha256(password.encode()).hexdigest()
