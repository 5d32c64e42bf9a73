"""The IaaS itself: it makes and removes labs, machines and networks. Synchronous and safe to call from several threads."""

from __future__ import annotations

import contextlib
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Network
from pathlib import Path

from components.common import log
from orchestrator.lab import addresses, keys, machine_files, plan, wire
from orchestrator.lab.backends.console import tail
from orchestrator.lab.backends.qemu import DEFAULT_MEMORY
from orchestrator.lab.errors import BadRequestError, CommandError, ConflictError, DaemonError, NotReadyError
from orchestrator.lab.folder import LabFolder
from orchestrator.lab.host import cgroups, host_settings, network, processes
from orchestrator.lab.images import recipes
from orchestrator.lab.journal import Bind, LabRecord, MachineRecord
from orchestrator.lab.state import LabState

RESOLV_CONF = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))
_AT_ONCE = 8
_INDEX_TRIES = 5
logger = log.get(__name__)


class LabEngine(LabState):
    """The engine: it owns the parts that the journal names, and is its only writer."""

    def create_lab(self, request: wire.LabRequest) -> wire.LabView:
        """Make a lab's network and keys; a lab of the same name and owner is returned as it stands.

        Raises:
            BadRequestError: the name or the subnet is invalid.
            ConflictError: the name belongs to another checkout, or port or subnet are taken.
            CommandError: the host refuses.
        """
        addresses.check_name(request.name, "lab")
        wanted = addresses.parse_subnet(request.subnet) if request.subnet else None
        with self.guard:
            if (lab := self.labs.get(request.name)) is not None:
                plan.check_same(lab, request)
                return self.lab_view(lab)
            for _ in range(_INDEX_TRIES):
                lab = plan.new_lab(request, wanted, list(self.labs.values()))
                try:
                    self._make(lab)
                except CommandError:
                    # Another daemon of this host took this number first.
                    if network.bridges().get(addresses.bridge_name(lab.index), ("", ""))[0] in {
                        "",
                        str(self.paths.state),
                    }:
                        raise
                    continue
                logger.info("lab made", lab=lab.name, subnet=lab.subnet, port=lab.port)
                return self.lab_view(lab)
        raise ConflictError("no free bridge name")

    def delete_lab(self, name: str) -> wire.Spent:
        """Cut the power of every machine and remove all of the lab; return its usage.

        Raises:
            NotFoundError: there is no such lab.
            LabError: a part of it cannot be removed; the rest is removed, and the next call tries again.
        """
        lab = self.lab(name)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for done in [pool.submit(self.delete_machine, name, m) for m in list(lab.machines)]:
                done.result()
        with self.guard:
            network.remove_network(lab.index)
            host_settings.release(self.counter, addresses.bridge_name(lab.index))
            self.labs.pop(name, None)
            self.journal.forget(name)
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(self.paths.lab(name))
        spent = wire.Spent(round(lab.processor_seconds, 3))
        logger.info("lab removed", lab=name, processor_seconds=spent.processor_seconds)
        return spent

    def set_routers(self, name: str, machines: list[str]) -> wire.LabView:
        """Set the machines to which the lab's port is relayed; they need not exist yet.

        Raises:
            NotFoundError: there is no such lab.
        """
        with self.guard:
            lab = self.lab(name)
            lab.routers = machines
            self.journal.save(lab)
            return self.lab_view(lab)

    def create_machine(self, lab_name: str, request: wire.MachineRequest) -> wire.MachineView:
        """Make a machine: its disk, its address, its files. The other machines learn its name.

        Raises:
            NotFoundError: there is no such lab.
            BadRequestError: name, address or a bind is invalid.
            ConflictError: name or address is taken, or the image is not built yet.
        """
        addresses.check_name(request.name, "machine")
        # A client inside a machine does not know the host's paths.
        folder = LabFolder(Path(self.lab(lab_name).owner), lab_name).path
        binds = [Bind(str(folder / b.source), b.target, b.read_only) for b in request.binds]
        for bind in binds:
            if not Path(bind.source).is_dir() or not bind.target.startswith("/"):
                raise BadRequestError(
                    f"bind {bind.source}:{bind.target}: must be a directory and an absolute path"
                )
        with self._one(lab_name, request.name), self.guard:
            lab = self.lab(lab_name)
            if request.name in lab.machines:
                raise ConflictError(f"lab {lab_name} has a machine {request.name} already")
            if (image := self.images.find(request.image)) is None:
                raise ConflictError(
                    f"image {request.image} is not built: ingot-lab image build {request.image}"
                )
            used = [m.address for m in lab.machines.values()]
            private, public = keys.generate(request.name)
            machine = MachineRecord(
                name=request.name,
                address=addresses.choose_address(IPv4Network(lab.subnet), used, request.address),
                image=request.image,
                image_root=str(image),
                groups=request.groups,
                binds=binds,
                host_key=" ".join(public.split()[:2]),
                maker=request.maker,
                memory=request.memory or (DEFAULT_MEMORY if recipes.has_kernel(request.image) else 0),
            )
            self.backend(machine).check(self.spec(lab, machine))
            lab.machines[machine.name] = machine
            self.journal.save(lab)
            try:
                self._furnish(lab, machine, private)
            except BaseException:
                self.delete_machine(lab_name, machine.name)
                raise
            self._tell_all(lab)
            return self.machine_view(lab, machine)

    def start_machine(self, lab_name: str, name: str) -> wire.MachineView:
        """Boot a machine; a running one is not touched.

        Raises:
            LabError: it did not come up.
        """
        with self._one(lab_name, name):
            lab, machine = self.machine(lab_name, name)
            spec = self.spec(lab, machine)
            if self.backend(machine).alive(machine.life) is None:
                self.backend(machine).kill(spec, machine.life)
                life = self.backend(machine).start(spec)
                if recipes.has_kernel(machine.image):
                    # A container boots within its group; a machine with a kernel of its own is moved there.
                    cgroups.adopt(spec.key, [p.pid for p in processes.of_life(life)])
                self._record(lab, machine, life)
                if machine.cut:
                    self.backend(machine).cut(spec)
                logger.info("machine started", lab=lab_name, machine=name)
            return self.machine_view(lab, machine)

    def stop_machine(self, lab_name: str, name: str, deadline: float) -> wire.MachineView:
        """Shut a machine down."""
        with self._one(lab_name, name):
            lab, machine = self.machine(lab_name, name)
            spec = self.spec(lab, machine)
            if life := self.backend(machine).alive(machine.life):
                self.backend(machine).stop(spec, life, deadline)
            else:
                self.backend(machine).kill(spec, machine.life)
            self._record(lab, machine, None)
            logger.info("machine stopped", lab=lab_name, machine=name)
            return self.machine_view(lab, machine)

    def kill_machine(self, lab_name: str, name: str) -> wire.MachineView:
        """Cut a machine's power."""
        with self._one(lab_name, name):
            lab, machine = self.machine(lab_name, name)
            self.backend(machine).kill(self.spec(lab, machine), machine.life)
            self._record(lab, machine, None)
            logger.info("machine killed", lab=lab_name, machine=name)
            return self.machine_view(lab, machine)

    def plug(self, lab_name: str, name: str, *, cut: bool) -> wire.MachineView:
        """Pull a machine's cable, or plug it in; this holds over a restart of the machine."""
        with self._one(lab_name, name):
            lab, machine = self.machine(lab_name, name)
            machine.cut = cut
            with self.guard:
                self.journal.save(lab)
            spec = self.spec(lab, machine)
            if self.backend(machine).alive(machine.life):
                (self.backend(machine).cut if cut else self.backend(machine).mend)(spec)
            return self.machine_view(lab, machine)

    def notice_reboots(self) -> None:
        """Record the new life of machines that rebooted by themselves; a pulled cable stays so."""
        with self.guard:
            known = [(lab, machine) for lab in self.labs.values() for machine in lab.machines.values()]
        for lab, machine in known:
            with self._one(lab.name, machine.name):
                life = self.backend(machine).alive(machine.life)
                if life is None or life == machine.life or machine.leaving:
                    continue
                self._record(lab, machine, life)
                if machine.cut:
                    self.backend(machine).cut(self.spec(lab, machine))
                logger.info("machine rebooted", lab=lab.name, machine=machine.name)

    def delete_machine(self, lab_name: str, name: str) -> None:
        """Cut a machine's power and remove its disk. The other machines forget its name."""
        with self._one(lab_name, name):
            lab, machine = self.machine(lab_name, name)
            spec = self.spec(lab, machine)
            with self.guard:
                machine.leaving = True
                self.journal.save(lab)
            self.backend(machine).kill(spec, self.backend(machine).alive(machine.life) or machine.life)
            spent = cgroups.processor_seconds(spec.key)
            self.backend(machine).remove(spec)
            cgroups.remove(spec.key)
            with self.guard:
                lab.machines.pop(name, None)
                lab.processor_seconds += spent
                self.journal.save(lab)
                self._tell_all(lab)
            logger.info("machine removed", lab=lab_name, machine=name)

    def wait_machine(self, lab_name: str, name: str, deadline: float) -> wire.MachineView:
        """Wait until the machine's SSH daemon answers.

        Raises:
            NotReadyError: it did not answer within the deadline (seconds), or the machine ended; with the console's tail.
        """
        lab, machine = self.machine(lab_name, name)
        spec = self.spec(lab, machine)
        ends = time.monotonic() + deadline
        while not network.speaks_ssh(machine.address):
            if self.closing.is_set():
                raise DaemonError("the lab daemon ends; ask the next one")
            runs = self.backend(machine).alive(machine.life) is not None
            if not runs or time.monotonic() >= ends:
                why = f"no SSH at {machine.address} after {deadline:.0f} s" if runs else "it does not run"
                raise NotReadyError(f"machine {name} of lab {lab_name}: {why}\n{tail(spec.console)}")
            time.sleep(0.05)
        return self.machine_view(lab, machine)

    def raise_network(self, lab: LabRecord) -> None:
        """Make a lab's network, or restore the parts that a restart of the host removed."""
        subnet = IPv4Network(lab.subnet)
        network.create_bridge(lab.index, self.paths.state, lab.name, subnet, self._mtu)
        network.create_masquerade(lab.index, subnet)
        host_settings.acquire(self.counter, addresses.bridge_name(lab.index))

    def _make(self, lab: LabRecord) -> None:
        self.journal.save(lab)
        self.labs[lab.name] = lab
        try:
            keys.ensure_pair(self._ssh_folder(lab), f"ingot-lab {lab.name}")
            self.raise_network(lab)
        except BaseException:
            self.delete_lab(lab.name)
            raise

    def _furnish(self, lab: LabRecord, machine: MachineRecord, host_key: str) -> None:
        spec = self.spec(lab, machine)
        self.backend(machine).create(spec)
        public = (self._ssh_folder(lab) / f"{keys.PRIVATE}.pub").read_text().strip()
        resolver = machine_files.resolv_conf(p.read_text() for p in RESOLV_CONF if p.is_file())
        files = machine_files.identity(
            lab=lab,
            machine=machine,
            interface=self.backend(machine).interface,
            mtu=self._mtu,
            public_key=public,
            host_key=host_key,
            resolver=resolver,
        )
        self.backend(machine).write(spec, files)

    def _tell_all(self, lab: LabRecord) -> None:
        """Write the names of all machines to every machine, and their keys to the host."""
        hosts = {machine_files.HOSTS: machine_files.hosts(lab)}
        for machine in lab.machines.values():
            # A machine under removal must not be mounted again.
            if not machine.leaving:
                self.backend(machine).write(self.spec(lab, machine), hosts)
        (self._ssh_folder(lab) / keys.KNOWN_HOSTS).write_text(machine_files.known_hosts(lab))
