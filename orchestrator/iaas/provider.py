"""The interface of an infrastructure: images and machines, by name, in calls that may be repeated.

Every call accepts that its work is half done or done: creating an existing machine returns it, deleting a missing one is
no error. So a step that was cut short is simply run again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from components.common.errors import IngotError

# States of an image at its provider.
READY, ABSENT, IMPORTING, OUTDATED = "ready", "absent", "importing", "outdated"
# States of a machine at its provider.
RUNNING, STOPPED = "running", "stopped"


class ProviderError(IngotError):
    """A provider could not carry out a call.

    Args:
        text: what happened, in the provider's own words where it has some.
        remedy: what the operator can do about it.
    """

    def __init__(self, text: str, remedy: str = "") -> None:
        super().__init__(f"{text}: {remedy}" if remedy else text)
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Image:
    """An image, from its provider; `state` is ready, absent, importing or outdated."""

    name: str
    state: str


@dataclass(frozen=True, slots=True)
class MachineSpec:
    """A machine to be made.

    Attributes:
        name: one DNS label, unique in the platform.
        image: an image the provider has.
        groups: of the inventory; where the provider has labels, the machine gets them.
        options: of the pool, for the provider alone.
    """

    name: str
    image: str
    groups: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MachineInfo:
    """A machine, from its provider.

    Attributes:
        name: in the platform.
        native: its name or number at the provider.
        address: IPv4, empty while it has none.
        state: `running` or `stopped`.
        host_key: the SSH host key where the provider knows it (`ssh-ed25519 AAAA...`), else empty.
    """

    name: str
    native: str
    address: str = ""
    state: str = STOPPED
    host_key: str = ""


class Provider(Protocol):
    """A driver. Calls block and are safe from several threads; each raises `ProviderError`."""

    name: str
    """As the configuration calls it."""
    driver: str
    """Its kind: `static`, `lab`."""

    def images(self) -> list[Image]:
        """Return the images that machines could be made from; empty where the provider has none."""

    def find_image(self, name: str) -> Image | None:
        """Return an image by its name; None where the provider cannot have one of that name."""

    def import_image(self, name: str, source: str = "", say: Callable[[str], None] = lambda _: None) -> Image:
        """Import an image (from `source` where it is given) and wait until it is ready; one that is ready is returned."""

    def remove_image(self, name: str) -> None:
        """Remove an image; machines made from it stay as they are."""

    def create(self, spec: MachineSpec) -> MachineInfo:
        """Make a machine, which does not run yet; one of that name that the orchestrator made is returned as it stands."""

    def start(self, name: str) -> MachineInfo:
        """Start a machine, which may be running; its SSH need not answer yet."""

    def stop(self, name: str, deadline: float = 60.0) -> MachineInfo:
        """Stop a machine, in good order within so many seconds, by force afterwards."""

    def delete(self, name: str) -> None:
        """Remove a machine that the orchestrator made, running or not; a missing one is no error."""

    def machines(self) -> list[MachineInfo]:
        """Return the machines that the orchestrator made, and no others."""

    def find(self, name: str) -> MachineInfo | None:
        """Return a machine that the orchestrator made."""

    def address(self, name: str) -> str:
        """Return a machine's IPv4 address; a machine that does not exist or has none is an error."""

    def console_tail(self, name: str) -> str:
        """Return the end of a machine's console, for the operator to see why it does not answer; empty without one."""
