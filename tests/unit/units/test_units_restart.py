"""A unit that somebody restarts, as needrestart does, is not one that ended; and what a restart reads is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from components.common.units import SystemdRunner, UnitSpec, UnitState, systemd

UNIT, SERVICE = "org.freedesktop.systemd1.Unit", "org.freedesktop.systemd1.Service"


class Manager(SystemdRunner):
    """A runner whose systemd takes everything, and says of a unit what it is told to."""

    def __init__(self, directory: Path, *states: tuple[str, int]) -> None:
        super().__init__(directory)
        self.states = list(states)
        self.rows: list[list[Any]] = []

    async def _manager(self, member: str, signature: str, body: list[Any]) -> list[Any]:
        return [self.rows] if member == "ListUnitsByPatterns" else ["/job"]

    async def _job(self, path: str, timeout: float = 0) -> str | None:
        return "done"

    async def _all(self, path: str, interface: str) -> dict[str, Any]:
        if interface != UNIT:
            return {"MainPID": 7, "ExecMainCode": 1, "ExecMainStatus": 3, "Result": "exit-code"}
        active, job = self.states[0] if len(self.states) == 1 else self.states.pop(0)
        sub = "running" if active == "active" else "dead"
        return {"LoadState": "loaded", "ActiveState": active, "SubState": sub, "Job": [job, "/"]}


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def test_a_unit_that_is_restarted_has_not_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systemd, "_LOOK_SECONDS", 0)
    well = Manager(
        tmp_path, ("deactivating", 9), ("inactive", 9), ("activating", 9), ("active", 0), ("inactive", 0)
    )
    # It is told of the end only, whose status is the last in the row.
    assert (await well.wait("unit-1")).state is UnitState.MISSING
    assert len(well.states) == 1
    # As well where the program answers the signal to end with an error.
    badly = Manager(tmp_path, ("active", 9), ("failed", 9), ("active", 0), ("failed", 0))
    ended = await badly.wait("unit-1")
    assert (ended.state, ended.exit_code) == (UnitState.EXITED, 3)
    assert len(badly.states) == 1


async def test_an_agent_that_comes_back_meanwhile_finds_it(tmp_path: Path) -> None:
    runner = Manager(tmp_path)
    row = ["", "loaded", "inactive", "dead", "", "/"]
    runner.rows = [
        ["unit-1.service", *row, 9, "restart", "/job"],
        ["unit-2.service", *row, 0, "", "/"],
    ]
    assert await runner.names("unit-") == ["unit-1"]


async def test_what_a_restart_reads_stays_until_the_unit_is_stopped(tmp_path: Path) -> None:
    runner = Manager(tmp_path / "units")
    spec = UnitSpec("unit-1", ["/bin/true"], tmp_path, {"KEY": "secret"}, uid=1, again=True)
    await runner.start(spec)
    assert files(tmp_path / "units") == ["unit-1.env", "unit-1.group", "unit-1.passwd"]
    assert (tmp_path / "units" / "unit-1.env").stat().st_mode & 0o777 == 0o600
    await runner.stop("unit-1")
    assert files(tmp_path / "units") == []


async def test_what_must_not_run_twice_leaves_nothing_to_run_from(tmp_path: Path) -> None:
    runner = Manager(tmp_path / "units")
    await runner.start(UnitSpec("unit-1", ["/bin/true"], tmp_path, {"KEY": "secret"}, uid=1))
    assert files(tmp_path / "units") == []
