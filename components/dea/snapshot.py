"""What a DEA's agent writes down, so that the next one knows the instances and the ports that rest."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from components.common import log
from components.dea.instance import Instance
from components.dea.ports import RingState

logger = log.get(__name__)


class Snapshot:
    """The files `applications.json` (application id to instance id to record), `ports.json` and `evacuating`.

    Args:
        directory: must exist.
    """

    def __init__(self, directory: Path) -> None:
        self._instances = directory / "applications.json"
        self._ports = directory / "ports.json"
        self._evacuating = directory / "evacuating"

    def load(self) -> list[Instance]:
        """Read the records; a file that cannot be understood is put aside and counts as none."""
        try:
            found = msgspec.json.decode(self._instances.read_bytes(), type=dict[str, dict[str, Instance]])
        except FileNotFoundError:
            return []
        except msgspec.MsgspecError as error:
            aside = self._instances.with_suffix(".broken")
            self._instances.replace(aside)
            logger.error("snapshot_unreadable", reason=str(error), kept_as=str(aside))  # noqa: TRY400 - the reason says all
            return []
        return [instance for of_app in found.values() for instance in of_app.values()]

    def save(self, instances: Iterable[Instance]) -> None:
        """Write the records, all or nothing."""
        table: dict[str, dict[str, Instance]] = {}
        for instance in instances:
            table.setdefault(str(instance.droplet), {})[instance.id] = instance
        _replace(self._instances, msgspec.json.encode(table))

    def load_ports(self) -> RingState | None:
        """Read where the ports' ring stood."""
        try:
            return msgspec.json.decode(self._ports.read_bytes(), type=RingState)
        except (FileNotFoundError, msgspec.MsgspecError):
            return None

    def save_ports(self, state: RingState) -> None:
        """Write where the ports' ring stands."""
        _replace(self._ports, msgspec.json.encode(state))

    @property
    def evacuating(self) -> bool:
        """A DEA that evacuates goes on doing so after a restart, until told otherwise."""
        return self._evacuating.exists()

    @evacuating.setter
    def evacuating(self, value: bool) -> None:
        if value:
            self._evacuating.touch()
        else:
            self._evacuating.unlink(missing_ok=True)


def _replace(path: Path, content: bytes) -> None:
    scratch = path.with_suffix(".new")
    scratch.touch(mode=0o600)
    scratch.write_bytes(content)
    scratch.replace(path)
