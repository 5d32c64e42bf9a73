"""The labs as the daemon knows them: the journal's records, the views of them, and the locks of those who change them."""

from __future__ import annotations

import threading
from pathlib import Path

from orchestrator.lab import addresses, keys, machine_files, views, wire
from orchestrator.lab.backends.interface import Backend, Spec
from orchestrator.lab.errors import NotFoundError
from orchestrator.lab.host import cgroups, network
from orchestrator.lab.images import recipes
from orchestrator.lab.images.image_store import ImageStore
from orchestrator.lab.journal import Journal, LabRecord, Life, MachineRecord
from orchestrator.lab.paths import Paths


class LabState:
    """The labs, their machines and the parts that serve them.

    Args:
        paths: of the daemon.
        store: the images.
        nspawn: makes containers.
        qemu: makes machines with a kernel of their own.
        counter: the file that counts the users of the host's settings.
    """

    def __init__(
        self, paths: Paths, store: ImageStore, nspawn: Backend, qemu: Backend, counter: Path
    ) -> None:
        self.paths = paths
        self.images = store
        self._nspawn, self._qemu = nspawn, qemu
        self.journal = Journal(paths.labs)
        self.labs: dict[str, LabRecord] = self.journal.load()
        self.counter = counter
        self.guard = threading.RLock()
        self.closing = threading.Event()
        # Taken before `guard`, never after it: one thread at a time works on one machine.
        self._each: dict[tuple[str, str], threading.RLock] = {}
        self._each_guard = threading.Lock()
        self._mtu = network.uplink_mtu()

    def lab(self, name: str) -> LabRecord:
        """Return a lab.

        Raises:
            NotFoundError: there is none of that name.
        """
        if (lab := self.labs.get(name)) is None:
            raise NotFoundError(f"there is no lab {name}")
        return lab

    def machine(self, lab_name: str, name: str) -> tuple[LabRecord, MachineRecord]:
        """Return a machine and its lab.

        Raises:
            NotFoundError: there is none of that name.
        """
        lab = self.lab(lab_name)
        if (machine := lab.machines.get(name)) is None:
            raise NotFoundError(f"lab {lab_name} has no machine {name}")
        return lab, machine

    def access(self, name: str) -> wire.Access:
        """Return the keys of the lab's machines."""
        lab = self.lab(name)
        folder = self._ssh_folder(lab)
        return wire.Access(
            private_key=(folder / keys.PRIVATE).read_text(),
            public_key=(folder / f"{keys.PRIVATE}.pub").read_text(),
            known_hosts=machine_files.known_hosts(lab),
        )

    def relay_targets(self, lab: LabRecord) -> list[str]:
        """Return the addresses of the lab's routers."""
        return [lab.machines[name].address for name in lab.routers if name in lab.machines]

    def lab_view(self, lab: LabRecord) -> wire.LabView:
        """Return a lab in the form for clients."""
        with self.guard:
            machines = list(lab.machines.values())
        return views.lab_view(lab, self._ssh_folder(lab), [self.machine_view(lab, m) for m in machines])

    def machine_view(self, lab: LabRecord, machine: MachineRecord) -> wire.MachineView:
        """Return a machine in the form for clients."""
        life = self.backend(machine).alive(machine.life)
        spec = self.spec(lab, machine)
        return views.machine_view(machine, spec, life, cgroups.processor_seconds(spec.key))

    def backend(self, machine: MachineRecord) -> Backend:
        """Return the backend of a machine's image."""
        return self._qemu if recipes.has_kernel(machine.image) else self._nspawn

    def spec(self, lab: LabRecord, machine: MachineRecord) -> Spec:
        """Return a machine in the form for its backend."""
        return Spec(
            key=addresses.machine_key(lab.index, machine.address),
            hostname=machine.name,
            folder=self.paths.machine(lab.name, machine.name),
            image=Path(machine.image_root),
            bridge=addresses.bridge_name(lab.index),
            mtu=self._mtu,
            binds=tuple(machine.binds),
            memory=machine.memory,
            mark=f"{self.paths.state}:{lab.name}:{machine.name}",
        )

    def _one(self, lab: str, machine: str) -> threading.RLock:
        with self._each_guard:
            return self._each.setdefault((lab, machine), threading.RLock())

    def _record(self, lab: LabRecord, machine: MachineRecord, life: Life | None) -> None:
        with self.guard:
            machine.life = life
            self.journal.save(lab)

    def _ssh_folder(self, lab: LabRecord) -> Path:
        return self.paths.lab(lab.name) / "ssh"
