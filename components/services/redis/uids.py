"""The uids of servers, one each: a server that an attacker has taken over can read, signal and trace only itself."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

from components.services.base.errors import ServiceError
from components.services.redis.errors import START_FAILED


def free(first: int, last: int, taken: Iterable[int | None]) -> int:
    """Return the first uid that no server has; pure.

    Raises:
        ServiceError: all have one.
    """
    busy = set(taken)
    for uid in range(first, last + 1):
        if uid not in busy:
            return uid
    raise ServiceError(START_FAILED, f"no uid from {first} to {last} is free")


def hand_over(folder: Path, data: Path, uid: int) -> None:
    """Make an instance's files those of a uid, while no server runs on them.

    `chown` walks the tree: a server's files may be nested deeper than a walk in Python can follow, or link elsewhere.

    Raises:
        OSError: the disk refuses.
    """
    os.chown(folder, 0, uid)
    done = subprocess.run(
        ["/usr/bin/chown", "--recursive", "--no-dereference", "-P", f"{uid}:{uid}", str(data)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise OSError(f"chown of {data}: {done.stderr.strip()[-200:]}")
