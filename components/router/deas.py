"""The addresses that serve applications: a route of an application to another address is refused.

They are in a file of their own, which every change of the pool rewrites; a changed file counts within seconds.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from components.common import log
from components.router.errors import RouteError

LOOK_SECONDS = 1.0
_MOST = 65536

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
logger = log.get(__name__)


def read(path: Path) -> list[Network]:
    """Return the networks of a file, an address or network a line; a `#` begins a comment.

    Raises:
        RouteError: the file cannot be read, or a line is neither.
    """
    try:
        text = path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not ASCII text"
        raise RouteError(f"{path}: {reason}") from error
    return parse(text.splitlines(), str(path))


def parse(lines: Iterable[str], source: str) -> list[Network]:
    """Return the networks of lines; pure.

    Raises:
        RouteError: a line is neither an address nor a network.
    """
    networks: list[Network] = []
    for number, line in enumerate(lines, 1):
        if not (entry := line.partition("#")[0].strip()):
            continue
        try:
            # People also write a network as the address of a machine with the length of its network.
            networks.append(ipaddress.ip_network(entry, strict=False))
        except ValueError as error:
            raise RouteError(
                f"{source}: line {number}: must be an address or a network such as 10.20.0.0/24, not {entry[:60]!r}"
            ) from error
    return networks


class DeaAddresses:
    """The addresses that an application's route may carry.

    Args:
        path: the file; None: every address may be carried.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._networks: list[Network] = []
        self._judge = lru_cache(_MOST)(self._within)
        self.refresh()
        if not self._networks:
            logger.warning(
                "dea_addresses_unknown",
                reason="any user of the bus that registers applications may name any address as theirs: set router_dea_addresses",
            )

    def __len__(self) -> int:
        """Return the number of addresses and networks; 0 where every address may be carried."""
        return len(self._networks)

    def allow(self, address: str) -> bool:
        """Return whether an application's route may carry an address."""
        return not self._networks or self._judge(address)

    def refresh(self) -> None:
        """Read the file if it changed; one that cannot be read changes nothing."""
        if self._path is None or (seen := _stamp(self._path)) == self._seen:
            return
        self._seen = seen
        try:
            self._networks = read(self._path)
        except RouteError as error:
            logger.error("dea_addresses_unreadable", reason=str(error))  # noqa: TRY400 - no bug here
            return
        self._judge.cache_clear()
        logger.info("dea_addresses_read", entries=len(self._networks))

    async def watch_for_ever(self) -> None:
        """Follow changes of the file."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self.refresh()

    def _within(self, address: str) -> bool:
        ip = ipaddress.ip_address(address)
        return any(ip in network for network in self._networks)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_ino, facts.st_mtime_ns, facts.st_size
