"""A process of the harness: started in a session of its own, found again by number and birth, ended with its children."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.dev.errors import DevError
from orchestrator.lab.host.processes import identify, lives
from orchestrator.lab.journal import Process

_LOOK_SECONDS = 0.05
_TAIL_LINES = 15


@dataclass(slots=True)
class Managed:
    """A process by its name; `child` is None where an earlier harness started it."""

    name: str
    process: Process
    log: Path
    child: subprocess.Popen[bytes] | None = None

    @classmethod
    def start(cls, name: str, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> Managed:
        """Start it; standard output and error go to the end of the log.

        Raises:
            DevError: the program cannot be started.
        """
        with log.open("ab") as stream:
            try:
                child = subprocess.Popen(
                    list(command),
                    stdin=subprocess.DEVNULL,
                    stdout=stream,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    env=dict(environment),
                )
            except OSError as error:
                raise DevError(f"{command[0]} cannot be started: {error.strerror}") from error
        return cls(name, identify(child.pid) or Process(child.pid, 0), log, child)

    @property
    def pid(self) -> int:
        """Return its number."""
        return self.process.pid

    @property
    def alive(self) -> bool:
        """Return whether it runs."""
        if self.child is not None:
            return self.child.poll() is None
        return lives(self.process)

    def ending(self) -> str:
        """Return in words how it ended, as far as that is known."""
        code = self.child.poll() if self.child is not None else None
        if code is None:
            return "has ended"
        return f"ended with status {code}" if code >= 0 else f"was killed by {signal.Signals(-code).name}"

    def signal(self, number: int) -> None:
        """Send it a signal, unless it has gone."""
        if self.alive:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it and its children with SIGKILL, as a power cut would."""
        if self.alive:
            os.killpg(self.pid, signal.SIGKILL)
        self.wait(5)

    def stop(self, seconds: float) -> None:
        """Ask it to end; kill what is left after so many seconds."""
        self.signal(signal.SIGTERM)
        if not self.wait(seconds):
            self.kill()

    def wait(self, seconds: float) -> bool:
        """Wait for its end; return False when it still runs after so many seconds."""
        deadline = time.monotonic() + seconds
        while self.alive:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_LOOK_SECONDS)
        return True

    def tail(self, lines: int = _TAIL_LINES) -> str:
        """Return the last lines of its log."""
        with self.log.open(encoding="utf-8", errors="replace") as stream:
            return "".join(deque(stream, lines)).rstrip()
