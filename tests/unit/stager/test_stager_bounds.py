"""What a build may take of its machine."""

from __future__ import annotations

from configparser import ConfigParser
from pathlib import Path
from typing import cast

from components.common.config import parse
from components.common.units import Runner, UnitSpec
from components.stager.config import StagerConfig
from components.stager.sandbox import SLICE, Sandbox

ROLE = Path(__file__).resolve().parents[3] / "roles" / "stager"


class Noting:
    """Starts nothing, and notes what it would have."""

    def __init__(self) -> None:
        self.started: list[UnitSpec] = []

    async def names(self, _prefix: str) -> list[str]:
        return []

    async def start(self, spec: UnitSpec) -> None:
        self.started.append(spec)


async def test_a_build_has_bounds_for_all_it_can_take(tmp_path: Path) -> None:
    noting = Noting()
    config = parse(
        {
            "bus": {"urls": ["nats://x:1"]},
            "work_dir": str(tmp_path),
            "sandbox": "process",
            "memory_mb": 300,
            "processes": 40,
            "disk_mb": 700,
            "max_seconds": 60,
        },
        StagerConfig,
    )
    sandbox = Sandbox(config, cast("Runner", noting))
    await sandbox.prepare()
    await sandbox.start(await sandbox.open("a" * 32, 7), {})
    (spec,) = noting.started
    assert (spec.memory_mb, spec.tasks, spec.file_mb, spec.timeout_seconds) == (300, 40, 1724, 60)
    assert spec.nofile is not None
    assert spec.slice == SLICE


def test_builds_stand_back_for_the_other_services_of_their_machine() -> None:
    read = ConfigParser(comment_prefixes=("#",))
    read.optionxform = str  # type: ignore[assignment,method-assign]  # systemd's names have capitals
    read.read(ROLE / "templates" / "etc" / "systemd" / "system" / f"{SLICE}.j2")
    # Every service's own weight is 100.
    assert {name: int(value) for name, value in read["Slice"].items()} == {"CPUWeight": 20, "IOWeight": 20}
