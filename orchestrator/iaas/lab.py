"""The driver `lab`: the small IaaS of `ingot-lab serve`, used through its Unix socket as any provider through its API.

Its options: `socket` (the daemon's `lab.sock`), `lab` (the lab's name) and `binds`, a list of `{source, target, read_only}`:
directories of the lab's host that its machines see, a relative source lying in the lab's folder there. The `options` of a
pool may have more `binds`. A machine it makes is marked, and it touches no other.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from orchestrator.iaas.provider import (
    ABSENT,
    IMPORTING,
    OUTDATED,
    READY,
    RUNNING,
    STOPPED,
    Image,
    MachineInfo,
    MachineSpec,
    ProviderError,
)
from orchestrator.lab import wire
from orchestrator.lab.client import LabClient
from orchestrator.lab.errors import ConflictError, DaemonError, LabError, NotFoundError, NotReadyError
from orchestrator.lab.folder import LabFolder
from orchestrator.lab.journal import Bind
from orchestrator.lab.paths import Paths

# The mark of the maker, which the lab keeps with every machine.
MAKER = "orchestrator"
_SOCKET = "lab.sock"
_STATES = {"ready": READY, "absent": ABSENT, "building": IMPORTING, "outdated": OUTDATED}


class LabOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The driver's part of the configuration."""

    driver: str
    socket: str
    lab: str
    binds: list[Bind] = []

    def problems(self) -> list[str]:
        """Return a problem for a socket of another name than the lab's."""
        path = Path(self.socket)
        if path.is_absolute() and path.name == _SOCKET:
            return []
        return [f"socket: must be the whole path of the lab daemon's {_SOCKET}, not {self.socket!r}"]


class LabProvider:
    """The driver of a lab; see `Provider`.

    Args:
        name: its name in the configuration.
        options: the socket, the lab and the binds.
    """

    driver = "lab"

    def __init__(self, name: str, options: LabOptions) -> None:
        self.name = name
        self._lab = options.lab
        self._binds = options.binds
        self._socket = options.socket
        run = Path(options.socket).parent
        # A client needs only the directory of the socket: it never starts a daemon.
        self._client = LabClient(Paths(state=run, run=run, cache=run, log=run / "lab.log"), start=False)

    def images(self) -> list[Image]:
        """Return the images that the lab knows, built or not."""
        with self._typed():
            return [Image(i["name"], _STATES.get(i["state"], i["state"])) for i in self._client.images()]

    def find_image(self, name: str) -> Image | None:
        """Return an image by its name."""
        return next((i for i in self.images() if i.name == name), None)

    def import_image(self, name: str, source: str = "", say: Callable[[str], None] = lambda _: None) -> Image:
        """Have the lab build an image, which needs its name only."""
        if source:
            raise ProviderError(
                f"{self.name}: the lab builds {name} itself and takes no source", "leave the source out"
            )
        with self._typed():
            self._client.build_image(name, say)
        return Image(name, READY)

    def remove_image(self, name: str) -> None:
        """Remove an image; the lab refuses while machines use it."""
        with self._typed(), contextlib.suppress(NotFoundError):
            self._client.remove_image(name)

    def create(self, spec: MachineSpec) -> MachineInfo:
        """Make a machine."""
        if (there := self._view(spec.name)) is not None:
            return self._info(there)
        with self._typed():
            try:
                made = self._client.create_machine(
                    self._lab,
                    spec.name,
                    spec.image,
                    groups=list(spec.groups),
                    binds=self._all_binds(spec),
                    maker=MAKER,
                )
            except ConflictError:
                # An earlier call made it and its answer was lost; or it must not be made at all.
                if (there := self._view(spec.name)) is None:
                    raise
                made = there
        return self._info(made)

    def start(self, name: str) -> MachineInfo:
        """Boot a machine."""
        self._ours(name)
        with self._typed():
            return self._info(self._client.start(self._lab, name))

    def stop(self, name: str, deadline: float = 60.0) -> MachineInfo:
        """Shut a machine down."""
        self._ours(name)
        with self._typed():
            return self._info(self._client.stop(self._lab, name, deadline))

    def delete(self, name: str) -> None:
        """Remove a machine."""
        if self._view(name) is None:
            return
        with self._typed(), contextlib.suppress(NotFoundError):
            self._client.delete_machine(self._lab, name)

    def machines(self) -> list[MachineInfo]:
        """Return the machines that carry the orchestrator's mark."""
        with self._typed():
            lab = self._client.lab(self._lab)
        return [self._info(m) for m in lab.machines if m.maker == MAKER]

    def find(self, name: str) -> MachineInfo | None:
        """Return a machine that carries the orchestrator's mark."""
        return next((m for m in self.machines() if m.name == name), None)

    def address(self, name: str) -> str:
        """Return a machine's address."""
        return self._ours(name).address

    def console_tail(self, name: str) -> str:
        """Return the tail of a machine's console, for a machine whose SSH does not answer."""
        try:
            self._client.wait(self._lab, name, 0)
        except NotReadyError as error:
            return str(error)
        except LabError:
            return ""
        return ""

    def _view(self, name: str) -> wire.MachineView | None:
        """Return the lab's view of a machine with the mark; one of the same name without it is refused."""
        with self._typed():
            try:
                view = self._client.machine(self._lab, name)
            except NotFoundError:
                # A missing lab is another matter than a missing machine.
                self._client.lab(self._lab)
                return None
        if view.maker != MAKER:
            raise ProviderError(
                f"lab {self._lab}: machine {name} was not made by the orchestrator",
                "it is not touched; remove it with ingot-lab, or configure another prefix for the pool",
            )
        return view

    def _all_binds(self, spec: MachineSpec) -> list[Bind]:
        if unknown := sorted(set(spec.options) - {"binds"}):
            raise ProviderError(
                f"{self.name}: options of the pool: {', '.join(unknown)}", "binds alone are known"
            )
        try:
            more = msgspec.convert(spec.options.get("binds", []), list[Bind])
        except msgspec.ValidationError as error:
            raise ProviderError(f"{self.name}: options of the pool: binds: {error}") from error
        # Only the lab knows that folder: its path here may be another one.
        folder = LabFolder(Path(self._client.lab(self._lab).owner), self._lab).path
        return [Bind(str(folder / b.source), b.target, b.read_only) for b in (*self._binds, *more)]

    def _ours(self, name: str) -> wire.MachineView:
        if (view := self._view(name)) is None:
            raise ProviderError(f"lab {self._lab} has no machine {name}", "scale out again")
        return view

    def _info(self, view: wire.MachineView) -> MachineInfo:
        with self._typed():
            known = self._client.access(self._lab).known_hosts
        keys = {
            line.partition(" ")[0].partition(",")[0]: line.partition(" ")[2] for line in known.splitlines()
        }
        state = RUNNING if view.state == "running" else STOPPED
        return MachineInfo(
            view.name, f"{self._lab}/{view.name}", view.address, state, keys.get(view.name, "")
        )

    @contextlib.contextmanager
    def _typed(self) -> Iterator[None]:
        try:
            yield
        except DaemonError as error:
            raise ProviderError(
                f"{self.name}: {error}", f"start the lab's daemon on its host, so that {self._socket} answers"
            ) from error
        except NotFoundError as error:
            raise ProviderError(f"{self.name}: {error}", "ask `ingot-lab list` on the lab's host") from error
        except LabError as error:
            raise ProviderError(f"{self.name}: {error}") from error
