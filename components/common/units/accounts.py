"""The accounts of guests (units with a uid of their own): checks of the machine's entries, and the guests' view of them."""

from __future__ import annotations

import contextlib
import grp
import pwd
from collections.abc import Iterable, Mapping
from itertools import pairwise

from components.common.units.spec import UnitSpec

_NAME = "app"
_NOBODY = 65534
# Faults of one kind that are named one by one.
_TOLD = 5


def passwd(spec: UnitSpec) -> str:
    """Return a guest's `/etc/passwd`: root, nobody and the guest, whose home is from its environment; pure."""
    home = spec.environment.get("HOME", "")
    if not home.startswith("/") or any(c == ":" or not c.isprintable() for c in home):
        home = str(spec.directory)
    return (
        "root:x:0:0:root:/root:/bin/bash\n"
        f"{_NAME}:x:{spec.uid}:{_gid(spec)}::{home}:/bin/bash\n"
        f"nobody:x:{_NOBODY}:{_NOBODY}:nobody:/nonexistent:/usr/sbin/nologin\n"
    )


def group(spec: UnitSpec) -> str:
    """Return a guest's `/etc/group`; pure."""
    return f"root:x:0:\n{_NAME}:x:{_gid(spec)}:\nnogroup:x:{_NOBODY}:\n"


def problems(
    key: str, uids: Iterable[int], *, role: str, gids: Iterable[int] | None = None, prefix: str = ""
) -> list[str]:
    """Return in words the entries that the machine lacks to start units as these uids; systemd takes no uid without one.

    Args:
        key: the key of the configuration that names them.
        uids: all that may be given to a unit.
        role: the role that makes the accounts.
        gids: as `uids`; None takes the same numbers.
        prefix: the beginning of each account's name, before its number; empty for an account of any name. A unit has all groups
            of its account, whatever its properties say, so an account of such a name must have its own group only.
    """
    uids = list(uids)
    # Not every directory service lists all it knows when asked by number. The first entry of a number is the one that
    # counts.
    names = {a.pw_uid: a.pw_name for a in reversed(pwd.getpwall())}
    names = {n: name for n in uids if (name := names.get(n) or _account(n))}
    groups = {g.gr_gid: g for g in grp.getgrall()}
    no_account = [n for n in uids if n not in names]
    no_group = [n for n in (uids if gids is None else gids) if n not in groups and not _has_group(n)]
    found = [
        f"{key}: this machine has no {what} for {ranges(numbers)}, and no unit can start without: apply the role {role}"
        for what, numbers in (("account", no_account), ("group", no_group))
        if numbers
    ]
    return found + strangers(key, names, groups.values(), prefix) if prefix else found


def strangers(
    key: str, names: Mapping[int, str], groups: Iterable[grp.struct_group], prefix: str
) -> list[str]:
    """Return in words the numbers that would give a unit another account's identity or rights; pure."""
    ours = {f"{prefix}{n}": n for n in names}
    found = [
        f"{key}: {n} is the account {name} of this machine, not {prefix}{n}, and a unit would have its groups:"
        f" give {name} another number"
        for n, name in names.items()
        if name != f"{prefix}{n}"
    ]
    found += [
        f"{key}: the account {name} is in the group {g.gr_name}, and so would a unit be: run gpasswd -d {name} {g.gr_name}"
        for g in groups
        for name in g.gr_mem
        if name in ours and g.gr_gid != ours[name]
    ]
    return found if len(found) <= _TOLD else [*found[:_TOLD], f"{key}: {len(found) - _TOLD} more of these"]


def ranges(numbers: Iterable[int]) -> str:
    """Return numbers in words, runs of them as `first-last`; pure."""
    ordered = sorted(set(numbers))
    breaks = [0, *(i for i, (a, b) in enumerate(pairwise(ordered), 1) if b != a + 1), len(ordered)]
    runs = [ordered[a:b] for a, b in pairwise(breaks) if a < b]
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _gid(spec: UnitSpec) -> int | None:
    return spec.uid if spec.gid is None else spec.gid


def _account(uid: int) -> str:
    with contextlib.suppress(KeyError):
        return pwd.getpwuid(uid).pw_name
    return ""


def _has_group(gid: int) -> bool:
    with contextlib.suppress(KeyError):
        grp.getgrgid(gid)
        return True
    return False
