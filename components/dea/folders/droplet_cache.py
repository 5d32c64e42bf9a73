"""The cache of droplets: each comes from the share, else over HTTP, and its digest is always checked."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import re
import threading
from collections.abc import Iterable
from pathlib import Path

import aiohttp
from prometheus_client import Counter

from components.common import log
from components.common.filesystem.share import Share, ShareUnwellError, answers
from components.dea.errors import DropletError

_MB = 1024 * 1024
_CHUNK = _MB
_SHA1 = re.compile(r"[0-9a-f]{40}")
# The number of concurrent copies from the share.
_SHARE_THREADS = 4
_TOTAL_SECONDS, _SILENT_SECONDS = 600, 30
FETCHED = Counter("ingot_dea_droplets_total", "Droplets had, by where they came from.", ["source"])
logger = log.get(__name__)


def evicted(entries: Iterable[tuple[Path, int, float]], limit: int) -> list[Path]:
    """Return the entries that must go; pure.

    Args:
        entries: path, bytes, time of last use.
        limit: bytes that may stay.
    """
    by_use = sorted(entries, key=lambda e: e[2])
    excess = sum(size for _path, size, _used in by_use) - limit
    gone = []
    for path, size, _used in by_use:
        if excess <= 0:
            break
        gone.append(path)
        excess -= size
    return gone


class Droplets:
    """A bounded cache of droplets.

    Args:
        directory: the cache's folder; made if missing.
        share: the droplet share; nothing outside it is ever copied.
        limit_mb: its largest size.
    """

    def __init__(self, directory: Path, share: Path, limit_mb: int) -> None:
        self._directory = directory
        self._share = share
        self._limit = limit_mb * _MB
        # The mount is at this folder, or above it: a question to the folder reaches it.
        self._reach = Share(lambda: answers(share / "droplets"), threads=_SHARE_THREADS)
        self._copies = itertools.count()
        self._under_way: dict[str, asyncio.Task[Path]] = {}
        self._session: aiohttp.ClientSession | None = None
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in directory.glob("*.pending"):
            left.unlink()

    async def get(self, sha1: str, file: str, uri: str) -> Path:
        """Return a droplet's path; starts that want the same one share one transfer.

        Args:
            sha1: its digest, and its name here.
            file: its path on the share.
            uri: its address for the case that the share lacks it.

        Raises:
            DropletError: it is nowhere, or has another digest.
        """
        if not _SHA1.fullmatch(sha1):
            raise DropletError("the droplet has no digest")
        task = self._under_way.get(sha1)
        if task is None:
            task = asyncio.create_task(self._have(sha1, file, uri), name=f"droplet-{sha1}")
            self._under_way[sha1] = task
            task.add_done_callback(lambda _task: self._under_way.pop(sha1, None))
        # One start that is given up does not end the transfer of the others.
        return await asyncio.shield(task)

    async def close(self) -> None:
        """End transfers."""
        for task in list(self._under_way.values()):
            task.cancel()
        self._reach.close()
        if self._session is not None:
            await self._session.close()

    async def _have(self, sha1: str, file: str, uri: str) -> Path:
        path = self._directory / f"{sha1}.tgz"
        if path.exists():
            os.utime(path)
            FETCHED.labels("cache").inc()
            return path
        pending = path.with_suffix(".pending")
        try:
            digest = await self._from_share(file, pending)
            source = "share"
            if digest != sha1:
                if digest is not None:
                    logger.warning("droplet_on_share_differs", sha1=sha1, found=digest)
                digest, source = await self._download(uri, pending), "http"
            if digest != sha1:
                raise DropletError(f"the droplet has the digest {digest}, not {sha1}")
            pending.replace(path)
        except OSError as error:
            raise DropletError(f"the droplet cannot be kept: {error.strerror or error}") from error
        finally:
            pending.unlink(missing_ok=True)
        FETCHED.labels(source).inc()
        await asyncio.to_thread(self._evict, path)
        return path

    async def _from_share(self, file: str, target: Path) -> str | None:
        """Copy a droplet from the share; return None where it is not there, or the share does not answer."""
        if not file:
            return None
        # A file of its own: a copy that hangs may end while the droplet arrives by HTTP.
        own = target.with_suffix(f".{next(self._copies)}.pending")
        given_up = threading.Event()

        def work() -> str | None:
            digest = self._copy(file, own)
            if digest is None or given_up.is_set():
                own.unlink(missing_ok=True)
            return digest

        try:
            digest = await self._reach.run_async(work)
        except ShareUnwellError as error:
            logger.warning("droplet_not_on_share", file=file, reason=str(error))
            return None
        finally:
            given_up.set()
        if digest is not None:
            own.replace(target)
        return digest

    def _copy(self, file: str, target: Path) -> str | None:
        """Copy a droplet from the share; return None where it is not there."""
        source = Path(os.path.realpath(file)) if file else None
        if source is None or not source.is_relative_to(os.path.realpath(self._share)):
            return None
        digest = hashlib.sha1()  # noqa: S324 - the protocol's digest
        try:
            with source.open("rb") as reader, target.open("wb") as writer:
                while chunk := reader.read(_CHUNK):
                    digest.update(chunk)
                    writer.write(chunk)
        except OSError as error:
            # A missing or stale share is no failure, because there is HTTP.
            logger.warning("droplet_not_on_share", file=file, reason=error.strerror or str(error))
            return None
        return digest.hexdigest()

    async def _download(self, uri: str, target: Path) -> str:
        if not uri.startswith(("http://", "https://")):
            raise DropletError("the droplet is not on the share, and there is no address to get it from")
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=_TOTAL_SECONDS, sock_read=_SILENT_SECONDS)
            self._session = aiohttp.ClientSession(timeout=timeout)
        digest = hashlib.sha1()  # noqa: S324 - the protocol's digest
        try:
            async with self._session.get(uri) as response:
                if response.status != 200:
                    raise DropletError(f"the droplet's server answered {response.status}")
                with target.open("wb") as writer:
                    async for chunk in response.content.iter_chunked(_CHUNK):
                        digest.update(chunk)
                        writer.write(chunk)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            # Not the error's text: it may hold the address with its password.
            raise DropletError(f"the droplet's server cannot be read ({type(error).__name__})") from error
        return digest.hexdigest()

    def _evict(self, keep: Path) -> None:
        entries = []
        for path in self._directory.glob("*.tgz"):
            facts = path.stat()
            if path != keep:
                entries.append((path, facts.st_size, facts.st_mtime))
        for path in evicted(entries, self._limit - keep.stat().st_size):
            path.unlink(missing_ok=True)
