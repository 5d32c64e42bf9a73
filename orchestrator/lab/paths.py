"""Where the lab keeps what it has. One daemon owns one set of these; the usual set is the host's."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

STATE = Path("/var/lib/ingot-lab")
RUN = Path("/run/ingot-lab")
CACHE = Path("/var/cache/ingot-lab")
LOG = Path("/var/log/ingot-lab/lab.log")
# Kernel settings are the whole host's, so the labs that need them are counted in one place for the whole host.
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
        """Read `INGOT_LAB_HOME` (all but the cache below one directory) and `INGOT_LAB_CACHE`."""
        env = os.environ if environment is None else environment
        cache = Path(env.get("INGOT_LAB_CACHE") or CACHE)
        if not (home := env.get("INGOT_LAB_HOME")):
            return cls(state=STATE, run=RUN, cache=cache, log=LOG)
        base = Path(home)
        return cls(state=base / "state", run=base / "run", cache=cache, log=base / "lab.log")

    @property
    def socket(self) -> Path:
        """The Unix socket the daemon listens on."""
        return self.run / "lab.sock"

    @property
    def lock(self) -> Path:
        """Locked by the daemon as long as it lives."""
        return self.run / "lab.lock"

    @property
    def pid(self) -> Path:
        """The daemon's process id."""
        return self.run / "lab.pid"

    @property
    def labs(self) -> Path:
        """One folder per lab."""
        return self.state / "labs"

    @property
    def images(self) -> Path:
        """One folder per built image."""
        return self.cache / "images"

    @property
    def accelerator(self) -> Path:
        """What this host runs machines with a kernel of their own by."""
        return self.cache / "accelerator.json"

    def lab(self, name: str) -> Path:
        """A lab's folder."""
        return self.labs / name

    def machine(self, lab: str, name: str) -> Path:
        """A machine's folder: its disk and its console."""
        return self.labs / lab / "machines" / name
