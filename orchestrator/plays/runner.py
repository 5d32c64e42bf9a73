"""Runs of playbooks, each in a unit of its own that outlives the orchestrator.

    result = services.plays.run(Play(f"{job.job_id}-configure", "scale_out.yml", limit=("dea3",)), job.say)
    result.check()

A run is a folder `<state>/plays/<key>/<attempt>/` (`orchestrator/plays/run_folder.py`). The unit's program is
`orchestrator/plays/program.py`, given that folder.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from components.common.errors import IngotError
from components.common.filesystem.files import write_atomically
from components.common.units import ProcessRunner, Runner, SystemdRunner, UnitSpec, UnitStatus
from orchestrator.config import PROCESS, OrchestratorConfig
from orchestrator.inventory.platform_inventory import PlatformInventory
from orchestrator.plays.events import Event, Failure, PlaySummary, Recap, tail
from orchestrator.plays.run_folder import (
    EVENTS,
    FAILED,
    LOST,
    OUTPUT,
    PLAY,
    SUCCESSFUL,
    TIMEOUT,
    TOLD,
    VARIABLES,
    Ending,
    EventTail,
    Order,
    Progress,
    attempts,
    complete_lines,
    last_attempt,
    read_ending,
    spend,
)

# Runs beyond so many are removed, the oldest first.
KEPT = 50
_KEY = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$")
_LOOK_SECONDS = 0.25
# The unit's own limit is Ansible's and this, for a program that hangs.
_GRACE_SECONDS = 60.0
_SLICE = "ingot-plays.slice"
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class PlayError(IngotError):
    """A playbook did not succeed; the text names hosts, tasks and messages."""


@dataclass(frozen=True, slots=True)
class PlayResult:
    """The result of a play.

    Attributes:
        playbook: its file name.
        status: `successful`, `failed`, `timeout`, or `lost` where its unit ended without a result.
        rc: of ansible-playbook; -1 where unknown.
        recap: by host.
        failures: in the order in which they happened; ignored and rescued ones are not among them.
        tail: the end of the output.
        folder: the folder of the whole output, on the orchestrator's machine.
    """

    playbook: str
    status: str
    rc: int
    recap: Mapping[str, Recap] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()
    tail: str = ""
    folder: Path = Path()

    @property
    def ok(self) -> bool:
        """Return whether it succeeded."""
        return self.status == SUCCESSFUL

    def check(self) -> None:
        """Raise an error unless it succeeded.

        Raises:
            PlayError: it did not succeed; the text names the failures and the output.
        """
        if self.ok:
            return
        found = "; ".join(f"{f.host}: {f.task}: {f.message}" for f in self.failures)
        # A failure before the first task is reported nowhere else.
        found = found or self.tail or "it said nothing"
        raise PlayError(f"{self.playbook} {_ENDINGS[self.status]}: {found} (output: {self.folder / OUTPUT})")


_ENDINGS = {FAILED: "failed", TIMEOUT: "took too long and was ended", LOST: "ended without a result"}


@dataclass(frozen=True, slots=True)
class Play:
    """One run of a playbook.

    Attributes:
        key: `<job>-<step>`, letters, digits, `-` and `_`; the unit is `ingot-play-<key>`. The same key finds the same run.
        playbook: file name in the release's `playbooks/`.
        limit: hosts; empty is all.
        variables: extra variables; may hold secrets.
        release: of the plays, and the extra variable `ingot_release`; None: the running release, and the inventory's variable.
        seconds: the time limit; 0 is `deadlines.play` of the configuration.
    """

    key: str
    playbook: str
    limit: Sequence[str] = ()
    variables: Mapping[str, Any] = field(default_factory=dict, repr=False)
    release: str | None = None
    seconds: float = 0


class Plays:
    """The runner of playbooks. Calls block; safe from several threads, one at a time for a key."""

    def __init__(self, config: OrchestratorConfig, inventory: PlatformInventory) -> None:
        self._config = config
        self._inventory = inventory
        self._folder = Path(config.state_path) / "plays"
        # Resolved, not through `current`: a roll of the orchestrator must not change the environment of a running
        # play.
        self._venv = Path(config.venv) if config.venv else Path(sys.executable).parent.resolve().parent
        self._keys: dict[str, threading.Lock] = {}
        self._keys_guard = threading.Lock()

    def run(self, play: Play, say: Progress = lambda _: None) -> PlayResult:
        """Run a playbook, or attach to the run of this key that is under way.

        A successful result is always reused. A failure is reused only if no caller has seen it, because the orchestrator ended
        meanwhile; otherwise, and after an unseen end with the machine, the play runs again.

        Args:
            play: the playbook and its hosts.
            say: called with a line for each play and task that begins, each change and each failure.

        Raises:
            PlayError: there is no such play, or it cannot be started.
            UnitError: the service manager cannot be reached.
        """
        if not _KEY.match(play.key):
            raise PlayError(f"{play.key!r}: a play's key has letters, digits, - and _")
        with self._key(play.key):
            result = asyncio.run(self._run(play, say))
        self._clear()
        return result

    async def _run(self, play: Play, say: Progress) -> PlayResult:
        runner = self._runner()
        unit = f"ingot-play-{play.key}"
        try:
            attempt = last_attempt(self._folder / play.key)
            run = self._folder / play.key / str(attempt)
            ending = read_ending(run)
            if ending is not None and (ending.status == SUCCESSFUL or not (run / TOLD).exists()):
                EventTail(run, say).report()
            elif ending is None and attempt and (await runner.status(unit)).alive:
                say(f"{play.playbook} still runs")
                ending = await self._follow(runner, unit, run, say)
            else:
                await runner.stop(unit)
                run = self._folder / play.key / str(attempt + 1)
                self._prepare(play, run)
                await runner.start(self._unit(unit, play, run))
                ending = await self._follow(runner, unit, run, say)
            result = _result(play, run, ending)
            (run / TOLD).touch()
            await runner.stop(unit)
            spend(run)
            return result
        finally:
            await runner.close()

    async def _follow(self, runner: Runner, unit: str, run: Path, say: Progress) -> Ending:
        """Report events until the unit has ended."""
        events = EventTail(run, say)
        ended: asyncio.Task[UnitStatus] = asyncio.create_task(runner.wait(unit))
        while not ended.done():
            await asyncio.wait({ended}, timeout=_LOOK_SECONDS)
            events.report()
        if (ending := read_ending(run)) is not None:
            return ending
        status = ended.result()
        return Ending(TIMEOUT if status.result == "timeout" else LOST, -1)

    def _prepare(self, play: Play, run: Path) -> None:
        release = play.release or self._inventory.release()
        if release is None:
            raise PlayError(
                f"no file of {self._inventory.folder} says which release runs: `16-release.yml` is missing"
            )
        plays = Path(self._config.releases) / release / "plays"
        playbook = plays / "playbooks" / play.playbook
        if not playbook.is_file():
            raise PlayError(
                f"{playbook}: not found; release {release} has no such play, or was not brought here"
            )
        shutil.rmtree(run, ignore_errors=True)
        run.mkdir(parents=True, mode=0o700)
        for folder in ("env", "home"):
            (run / folder).mkdir(mode=0o700)
        order = Order(
            str(playbook),
            str(plays),
            str(self._inventory.folder),
            ",".join(play.limit),
            play.seconds or self._config.deadlines.play,
        )
        write_atomically(run / PLAY, msgspec.json.encode(order))
        write_atomically(run / VARIABLES, msgspec.json.encode(self._variables(play)))

    def _variables(self, play: Play) -> dict[str, Any]:
        """Return the extra variables: they win over the inventory, whose paths may be those of another machine."""
        ssh = self._config.ssh
        hosts = " ".join(ssh.known_hosts)
        found: dict[str, Any] = {
            "ansible_user": ssh.user,
            "ansible_port": ssh.port,
            "ansible_ssh_private_key_file": ssh.private_key,
            "ansible_ssh_common_args": f"-o 'UserKnownHostsFile={hosts}' -o GlobalKnownHostsFile=/dev/null "
            "-o StrictHostKeyChecking=yes -o IdentitiesOnly=yes",
            "ingot_releases_dir": self._config.releases,
        }
        if play.release is not None:
            found["ingot_release"] = play.release
        return {**found, **play.variables}

    def _unit(self, name: str, play: Play, run: Path) -> UnitSpec:
        seconds = play.seconds or self._config.deadlines.play
        python = self._venv / "bin" / "python"
        return UnitSpec(
            name=name,
            argv=(str(python), "-m", "orchestrator.plays.program", str(run)),
            directory=run,
            environment={
                "PATH": f"{self._venv / 'bin'}:{_SYSTEM_PATH}",
                "HOME": str(run / "home"),
                "LANG": "C.UTF-8",
                "ANSIBLE_HOME": str(run / "home"),
                "ANSIBLE_NOCOLOR": "1",
                "ANSIBLE_HOST_KEY_CHECKING": "1",
                "PYTHONDONTWRITEBYTECODE": "1",
            },
            # Rolls record the release in the inventory.
            writable=(self._inventory.folder,),
            stdout=run / "program.log",
            stderr=run / "program.log",
            slice=_SLICE,
            timeout_seconds=seconds + _GRACE_SECONDS,
        )

    def _runner(self) -> Runner:
        folder = self._folder / ".units"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return ProcessRunner(folder) if self._config.play_runner == PROCESS else SystemdRunner(folder)

    def _key(self, key: str) -> threading.Lock:
        with self._keys_guard:
            return self._keys.setdefault(key, threading.Lock())

    def _clear(self) -> None:
        """Remove the oldest ended runs."""
        runs = [run for key in self._folder.glob("*") for run in attempts(key) if (run / TOLD).exists()]
        for old in sorted(runs, key=lambda p: p.stat().st_mtime, reverse=True)[KEPT:]:
            shutil.rmtree(old, ignore_errors=True)
            if not any(old.parent.iterdir()):
                old.parent.rmdir()


def _result(play: Play, run: Path, ending: Ending) -> PlayResult:
    summary = PlaySummary()
    for line in complete_lines(run / EVENTS).splitlines():
        summary.add(msgspec.json.decode(line, type=Event))
    texts = [run / OUTPUT, run / "program.log"]
    output = next((t for p in texts if p.is_file() and (t := p.read_text(errors="replace")).strip()), "")
    return PlayResult(
        play.playbook, ending.status, ending.rc, summary.recap, summary.failures, tail(output), run
    )
