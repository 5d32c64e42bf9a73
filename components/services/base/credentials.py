"""New names and passwords, in the forms of protocol 6.7."""

from __future__ import annotations

import hashlib
import secrets
import uuid


def new_name(prefix: str = "") -> str:
    """Return a new name of an instance or a user: 32 lower-case hex characters, with a prefix where one is usual."""
    return prefix + uuid.uuid4().hex


def new_password() -> str:
    """Return a new password: 192 random bits, letters and digits only, so that it fits into any URL."""
    return "p" + secrets.token_hex(24)


def digest(password: str) -> str:
    """Return the stored form of a password: its SHA-256 as hex. That is enough because these passwords are random."""
    return hashlib.sha256(password.encode()).hexdigest()
