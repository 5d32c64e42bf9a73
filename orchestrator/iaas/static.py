"""The driver `static`: existing machines, assigned one by one and taken back.

Its options: `hosts`, a list of `{address, host_key}` (the key is optional). They run whether assigned or not, so starting and
stopping them is for the operator. It has no images; a pool on it has the image `none`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import msgspec

from components.common.filesystem.files import write_atomically
from orchestrator.iaas.provider import READY, RUNNING, Image, MachineInfo, MachineSpec, ProviderError

NO_IMAGE = "none"


class HostOption(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A host that may be assigned. `host_key` as in a known_hosts file, without the host."""

    address: str
    host_key: str = ""


class StaticOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The driver's part of the configuration."""

    driver: str
    hosts: list[HostOption]

    def problems(self) -> list[str]:
        """Return a problem for each host that is listed twice."""
        addresses = [h.address for h in self.hosts]
        twice = sorted({a for a in addresses if addresses.count(a) > 1})
        return [f"hosts: {a} is listed twice" for a in twice]


class StaticProvider:
    """The driver of existing hosts; see `Provider`.

    Args:
        name: its name in the configuration.
        options: its hosts.
        book: the file that records the assigned hosts.
    """

    driver = "static"

    def __init__(self, name: str, options: StaticOptions, book: Path) -> None:
        self.name = name
        self._hosts = {h.address: h for h in options.hosts}
        self._book = book
        self._guard = threading.Lock()

    def images(self) -> list[Image]:
        """Return no images."""
        return []

    def find_image(self, name: str) -> Image | None:
        """Return an image only for the name that stands for none."""
        return Image(NO_IMAGE, READY) if name == NO_IMAGE else None

    def import_image(self, name: str, source: str = "", say: Callable[[str], None] = lambda _: None) -> Image:
        """Refuse: the hosts are installed already."""
        raise self._no_images()

    def remove_image(self, name: str) -> None:
        """Refuse: there are no images."""
        raise self._no_images()

    def create(self, spec: MachineSpec) -> MachineInfo:
        """Assign a free host; a machine that has one keeps it."""
        with self._guard:
            taken = self._read()
            address = taken.get(spec.name)
            if address is None:
                address = next((a for a in self._hosts if a not in taken.values()), None)
                if address is None:
                    raise ProviderError(
                        f"{self.name}: all {len(self._hosts)} hosts are assigned",
                        f"add one to providers.{self.name}.hosts, or scale a pool in",
                    )
                self._write({**taken, spec.name: address})
            return self._info(spec.name, address)

    def start(self, name: str) -> MachineInfo:
        """Return the host: it runs."""
        return self._of(name)

    def stop(self, name: str, deadline: float = 60.0) -> MachineInfo:
        """Return the host: a play stopped its services, and its power is the operator's."""
        return self._of(name)

    def delete(self, name: str) -> None:
        """Take a host back."""
        with self._guard:
            taken = self._read()
            if taken.pop(name, None) is not None:
                self._write(taken)

    def machines(self) -> list[MachineInfo]:
        """Return the assigned hosts."""
        with self._guard:
            return [self._info(name, address) for name, address in sorted(self._read().items())]

    def find(self, name: str) -> MachineInfo | None:
        """Return an assigned host."""
        return next((m for m in self.machines() if m.name == name), None)

    def address(self, name: str) -> str:
        """Return a host's address."""
        return self._of(name).address

    def console_tail(self, name: str) -> str:
        """Return nothing: there is no console."""
        return ""

    def _of(self, name: str) -> MachineInfo:
        if (found := self.find(name)) is None:
            raise ProviderError(f"{self.name}: {name} has no host", "scale out again")
        return found

    def _info(self, name: str, address: str) -> MachineInfo:
        host = self._hosts.get(address)
        return MachineInfo(name, address, address, RUNNING, host.host_key if host else "")

    def _no_images(self) -> ProviderError:
        return ProviderError(f"{self.name}: static hosts have no images", "install the hosts by other means")

    def _read(self) -> dict[str, str]:
        try:
            return msgspec.json.decode(self._book.read_bytes(), type=dict[str, str])
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.MsgspecError) as error:
            raise ProviderError(f"{self._book}: {error}", "mend or remove this file") from error

    def _write(self, taken: dict[str, str]) -> None:
        self._book.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self._book, msgspec.json.encode(taken), durable=True)
