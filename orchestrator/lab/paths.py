"""The lab's directories. One daemon owns one set of them; the usual set is the host's."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

STATE = Path("/var/lib/ingot-lab")
RUN = Path("/run/ingot-lab")
CACHE = Path("/var/cache/ingot-lab")
LOG = Path("/var/log/ingot-lab/lab.log")
# Kernel settings are the whole host's, so the labs that need them are counted in one place.
HOST_SETTINGS = RUN / "host-settings.json"


@dataclass(frozen=True, slots=True)
class Paths:
    """The directories of one daemon.

    Attributes:
        state: journals, keys and the machines' disks.
        run: socket, lock and pid file.
        cache: images, shared by every daemon and every checkout of the host.
        log: the daemon's log.
    """

    state: Path
    run: Path
    cache: Path
    log: Path

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Paths:
        """Return the paths of `INGOT_LAB_HOME` (all but the cache, below one directory) and `INGOT_LAB_CACHE`."""
        env = os.environ if environment is None else environment
        cache = Path(env.get("INGOT_LAB_CACHE") or CACHE)
        if not (home := env.get("INGOT_LAB_HOME")):
            return cls(state=STATE, run=RUN, cache=cache, log=LOG)
        base = Path(home)
        return cls(state=base / "state", run=base / "run", cache=cache, log=base / "lab.log")

    @property
    def socket(self) -> Path:
        """Return the Unix socket of the daemon."""
        return self.run / "lab.sock"

    @property
    def lock(self) -> Path:
        """Return the file that the daemon locks as long as it lives."""
        return self.run / "lab.lock"

    @property
    def pid(self) -> Path:
        """Return the file of the daemon's process id."""
        return self.run / "lab.pid"

    @property
    def labs(self) -> Path:
        """Return the folder with one folder per lab."""
        return self.state / "labs"

    @property
    def images(self) -> Path:
        """Return the folder with one folder per built image."""
        return self.cache / "images"

    @property
    def accelerator(self) -> Path:
        """Return the file of this host's accelerator for machines with a kernel of their own."""
        return self.cache / "accelerator.json"

    def lab(self, name: str) -> Path:
        """Return a lab's folder."""
        return self.labs / name

    def machine(self, lab: str, name: str) -> Path:
        """Return a machine's folder: its disk and its console."""
        return self.labs / lab / "machines" / name
