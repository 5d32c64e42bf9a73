"""The interpreters of this machine (protocol 4.2): those that exist in the right version are offered."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping

from components.common import log
from components.dea.config import RuntimeConfig

_SECONDS = 10
_NUMBER = re.compile(r"\d+(\.\d+)*")
# Names for an application that brings its own program.
_NONE = frozenset({"", "native"})
logger = log.get(__name__)


class Runtimes:
    """The runtimes that were found usable.

    Args:
        usable: by name.
        versions: the version that each reported, by name.
    """

    def __init__(
        self, usable: Mapping[str, RuntimeConfig], versions: Mapping[str, str] | None = None
    ) -> None:
        self.versions = dict(versions or {})
        self._by_name = {n: r for name, r in usable.items() for n in (name, *r.aliases)}

    @property
    def names(self) -> list[str]:
        """Return all their names, aliases included."""
        return sorted(self._by_name)

    def offers(self, name: str | None) -> bool:
        """Return whether an application that wants `name` can run here."""
        return not name or name in _NONE or name in self._by_name

    def find(self, name: str | None) -> RuntimeConfig | None:
        """Return a runtime by its name or an alias; None where there is none of that name."""
        return self._by_name.get(name or "")


async def discover(configured: Mapping[str, RuntimeConfig]) -> Runtimes:
    """Try each executable; those missing or of another version are logged and left out."""
    names = list(configured)
    said = await asyncio.gather(*(_version(name, configured[name]) for name in names))
    found = {name: version for name, version in zip(names, said, strict=True) if version is not None}
    logger.info("runtimes_found", **found)
    return Runtimes({name: configured[name] for name in found}, found)


async def _version(name: str, runtime: RuntimeConfig) -> str | None:
    """Return the version that an interpreter reports; None where it is not usable."""
    try:
        process = await asyncio.create_subprocess_exec(
            runtime.executable,
            runtime.version_flag,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
    except OSError as error:
        logger.warning("runtime_missing", runtime=name, reason=error.strerror)
        return None
    try:
        output, _none = await asyncio.wait_for(process.communicate(), _SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()
        logger.warning("runtime_silent", runtime=name)
        return None
    said = output.decode(errors="replace").strip()
    if process.returncode != 0 or not re.search(runtime.version, said):
        logger.warning("runtime_unusable", runtime=name, said=said[:200])
        return None
    number = _NUMBER.search(said)
    return number[0] if number else ""
