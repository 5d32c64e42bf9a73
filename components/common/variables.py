"""Variables of environments: which names and values a program can be given, and which names are the platform's own."""

from __future__ import annotations

import re

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PLATFORM = re.compile(r"(?i:vcap_|vmc_)|INGOT_")
# The character that ends a value, and those that Unicode sets apart for no text, with which systemd refuses all of an environment.
_APART = "".join(chr(plane | last) for plane in range(0, 0x110000, 0x10000) for last in (0xFFFE, 0xFFFF))
UNDELIVERABLE = re.compile(f"[\0\ufdd0-\ufdef{_APART}]")
# Bytes of `NAME=value`: the kernel hands over no longer one, its final zero included.
LONGEST = (128 << 10) - 1


def is_users(name: str) -> bool:
    """Return whether an instance is given a user's variable of this name; the `PORT` of one that has a port is the platform's, too."""
    return NAME.fullmatch(name) is not None and _PLATFORM.match(name) is None


def fits(variable: str) -> bool:
    """Return whether `NAME=value` arrives as it is."""
    return UNDELIVERABLE.search(variable) is None and len(variable.encode()) <= LONGEST
