"""Accounts of guests, the units with a uid of their own: what the machine must know of them, and what they see of it."""

from __future__ import annotations

import contextlib
import grp
import pwd
from collections.abc import Iterable
from itertools import pairwise

from components.common.units.spec import UnitSpec

_NAME = "app"
_NOBODY = 65534


def passwd(spec: UnitSpec) -> str:
    """Return what a guest sees as `/etc/passwd`: root, nobody and itself, at home where its environment says; pure."""
    home = spec.environment.get("HOME", "")
    if not home.startswith("/") or any(c == ":" or not c.isprintable() for c in home):
        home = str(spec.directory)
    return (
        "root:x:0:0:root:/root:/bin/bash\n"
        f"{_NAME}:x:{spec.uid}:{_gid(spec)}::{home}:/bin/bash\n"
        f"nobody:x:{_NOBODY}:{_NOBODY}:nobody:/nonexistent:/usr/sbin/nologin\n"
    )


def group(spec: UnitSpec) -> str:
    """Return what a guest sees as `/etc/group`; pure."""
    return f"root:x:0:\n{_NAME}:x:{_gid(spec)}:\nnogroup:x:{_NOBODY}:\n"


def problems(key: str, uids: Iterable[int], *, role: str, gids: Iterable[int] | None = None) -> list[str]:
    """Return what the machine lacks to start units as these uids, in words; systemd takes no uid without an entry.

    Args:
        key: of the configuration that names them.
        uids: all that may be given to a unit.
        role: makes the accounts.
        gids: as `uids`; None takes the same numbers.
    """
    uids = list(uids)
    accounts, groups = {a.pw_uid for a in pwd.getpwall()}, {g.gr_gid for g in grp.getgrall()}
    # Not every directory service lists what it knows when asked by number.
    no_account = [n for n in uids if n not in accounts and not _has_account(n)]
    no_group = [n for n in (uids if gids is None else gids) if n not in groups and not _has_group(n)]
    return [
        f"{key}: this machine has no {what} for {ranges(numbers)}, and no unit can start without: apply the role {role}"
        for what, numbers in (("account", no_account), ("group", no_group))
        if numbers
    ]


def ranges(numbers: Iterable[int]) -> str:
    """Return numbers in words, runs of them as `first-last`; pure."""
    ordered = sorted(set(numbers))
    breaks = [0, *(i for i, (a, b) in enumerate(pairwise(ordered), 1) if b != a + 1), len(ordered)]
    runs = [ordered[a:b] for a, b in pairwise(breaks) if a < b]
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _gid(spec: UnitSpec) -> int | None:
    return spec.uid if spec.gid is None else spec.gid


def _has_account(uid: int) -> bool:
    with contextlib.suppress(KeyError):
        pwd.getpwuid(uid)
        return True
    return False


def _has_group(gid: int) -> bool:
    with contextlib.suppress(KeyError):
        grp.getgrgid(gid)
        return True
    return False
