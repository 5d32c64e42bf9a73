"""The ports and uids of instances and tasks: handed out, found again by the next agent, given back."""

from __future__ import annotations

from components.dea.config import DeaConfig
from components.dea.errors import NoRoomError
from components.dea.instances.instance import Instance
from components.dea.instances.number_ring import Ring, port_free
from components.dea.instances.snapshot import Snapshot


class Holdings:
    """The ports and uids that are handed out.

    Args:
        config: the DEA's.
        snapshot: the file that records which was handed out last.

    Attributes:
        ports: the ring of ports.
    """

    def __init__(self, config: DeaConfig, snapshot: Snapshot) -> None:
        ports, uids = config.ports, config.uids
        self.ports = Ring(ports.first, ports.last, config.port_rest, state=snapshot.load_ports())
        # No uid rests; but files of its last holder that are still being removed would count against the disk of the
        # next, so a returning agent does not begin at the first uid.
        self._uids = Ring(uids.first, uids.last, state=snapshot.load_uids())
        self._root = config.sandbox == "systemd"
        self._snapshot = snapshot

    def take(self, instance: Instance) -> None:
        """Assign an instance its port and uid.

        Raises:
            NoRoomError: there is none; nothing is taken.
        """
        try:
            if instance.uris:
                instance.port = self.ports.take(port_free)
            if self._root:
                instance.uid = self._uids.take()
        except NoRoomError:
            self.give_back(instance)
            raise
        self._snapshot.save_uids(self._uids.state())

    def claim(self, instance: Instance) -> None:
        """Mark the port and uid of an instance that was found at a start as taken."""
        if instance.released:
            return
        self.ports.claim([] if instance.port is None else [instance.port])
        self._uids.claim([] if instance.uid is None else [instance.uid])

    def give_back(self, instance: Instance) -> None:
        """Take back an instance's port and uid."""
        if instance.released:
            return
        instance.released = True
        if instance.port is not None:
            self.ports.give_back(instance.port)
            self._snapshot.save_ports(self.ports.state())
        if instance.uid is not None:
            self._uids.give_back(instance.uid)

    def save(self) -> None:
        """Write the positions of the rings down."""
        self._snapshot.save_ports(self.ports.state())
        self._snapshot.save_uids(self._uids.state())
