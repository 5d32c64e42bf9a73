"""Transfers from and to the controller: the application's zip, and the droplet (protocol 7.5)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import msgspec

from components.stager.errors import StagingError

FIELD = "upload[droplet]"
_CHUNK = 256 * 1024
_MB = 1024 * 1024
_FIRST_WAIT, _LONGEST_WAIT = 0.25, 4.0
# The statuses of a controller that restarts, or of a proxy before it.
_PASSING = frozenset({502, 503, 504})
_OPERATOR = "The controller and this stager must reach each other; tell the operator if it stays so."


class _PassingError(Exception):
    """A failure that is worth another try."""


def safe_uri(uri: str) -> str:
    """Return an address without its user and password, for logs."""
    parts = urlsplit(uri)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


async def download(
    session: aiohttp.ClientSession, uri: str, target: Path, most_mb: int, seconds: float
) -> int:
    """Fetch the application's zip; return its size in bytes.

    Args:
        session: for the request.
        uri: may hold user and password.
        target: the file, which must not exist.
        most_mb: the largest size.
        seconds: for all tries together.

    Raises:
        StagingError: it cannot be fetched, or is too large.
    """

    async def attempt() -> int:
        async with session.get(uri, allow_redirects=False) as response:
            await _check(response, "download", uri)
            written = 0
            with target.open("wb") as file:
                async for block in response.content.iter_chunked(_CHUNK):
                    written += len(block)
                    if written > most_mb * _MB:
                        raise StagingError(
                            "download",
                            f"the application is larger than {most_mb} MB",
                            "Leave large files out of it.",
                        )
                    file.write(block)
            return written

    return await _persist(attempt, "download", uri, seconds)


async def upload(session: aiohttp.ClientSession, uri: str, droplet: int, seconds: float) -> None:
    """Deliver a droplet, as a form with the field `upload[droplet]`.

    Args:
        session: for the request.
        uri: may hold user and password; works once.
        droplet: an open file descriptor; it stays open.
        seconds: for all tries together.

    Raises:
        StagingError: the controller did not take it.
    """

    async def attempt() -> int:
        # The form closes the file that it is given.
        file = os.fdopen(os.dup(droplet), "rb")
        file.seek(0)
        with file:
            form = aiohttp.FormData(quote_fields=False)
            form.add_field(FIELD, file, filename="droplet.tgz", content_type="application/octet-stream")
            async with session.post(uri, data=form, allow_redirects=False) as response:
                await _check(response, "upload", uri)
        return 0

    await _persist(attempt, "upload", uri, seconds)


async def _check(response: aiohttp.ClientResponse, stage: str, uri: str) -> None:
    if response.status in _PASSING:
        raise _PassingError(f"the controller answered {response.status}")
    if response.status >= 300:
        text = (await response.content.read(300)).decode(errors="replace").strip()
        if refusal := want_of_storage(text):
            raise StagingError(
                stage, refusal, "Delete applications that you no longer need, or ask for more storage."
            )
        raise StagingError(
            stage,
            f"the controller answered {response.status} at {safe_uri(uri)}" + (f" ({text})" if text else ""),
            "The application may have been pushed again meanwhile; push once more.",
        )


def want_of_storage(text: str) -> str:
    """Return the description of a refusal for want of storage (code 608), without its full stop; empty for anything else."""
    try:
        answer = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return ""
    if not isinstance(answer, dict) or answer.get("code") != 608:
        return ""
    return str(answer.get("description", "")).rstrip(".")


async def _persist(attempt: Callable[[], Awaitable[int]], stage: str, uri: str, seconds: float) -> int:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    wait = _FIRST_WAIT
    while True:
        try:
            async with asyncio.timeout_at(deadline):
                return await attempt()
        except TimeoutError as error:
            raise StagingError(stage, f"{safe_uri(uri)} took longer than {seconds:g} s", _OPERATOR) from error
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError) as error:
            raise StagingError(stage, "the controller sent an invalid address", _OPERATOR) from error
        except (aiohttp.ClientError, OSError, _PassingError) as error:
            if loop.time() + wait >= deadline:
                reason = str(error) if isinstance(error, _PassingError) else type(error).__name__
                raise StagingError(
                    stage, f"{safe_uri(uri)} cannot be reached ({reason})", _OPERATOR
                ) from error
        await asyncio.sleep(wait)
        wait = min(wait * 2, _LONGEST_WAIT)
