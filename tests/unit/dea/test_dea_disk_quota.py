"""Disk quotas: which file systems keep them, and what happens where one cannot be set."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from components.common.bus.messages import DeaStart, Limits
from components.common.config import parse
from components.common.states import InstanceState
from components.common.units import UnitSpec, UnitState, UnitStatus
from components.dea.config import DeaConfig
from components.dea.errors import DiskQuotaError, StartError
from components.dea.instances.instance import Instance
from components.dea.limits import disk_quota
from components.dea.limits.disk_quota import DiskQuota, source_of

MOUNTS = """\
21 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
22 21 254:16 / /srv rw - ext4 /dev/vdb rw,quota,usrquota
23 21 254:32 / /var/lib/a\\040b rw shared:7 master:1 - xfs /dev/vdc rw,attr2,usrquota,prjquota
24 21 254:48 / /old rw - ext4 /dev/vdd rw,jqfmt=vfsv1,usrjquota=aquota.user
25 21 254:64 / /counted rw - xfs /dev/vde rw,uqnoenforce
26 21 254:80 / /projects rw - ext4 /dev/vdf rw,prjquota
""".splitlines()


@pytest.mark.parametrize(
    ("minor", "source"),
    [(0, ""), (16, "/dev/vdb"), (32, "/dev/vdc"), (48, "/dev/vdd"), (64, ""), (80, ""), (96, "")],
)
def test_a_file_system_keeps_quotas_of_users_where_its_mount_says_so(minor: int, source: str) -> None:
    assert source_of(os.makedev(254, minor), MOUNTS) == source


@dataclass
class Units:
    """A runner of units that end at once with `status`."""

    status: int = 0
    started: list[UnitSpec] = field(default_factory=list)
    there: list[str] = field(default_factory=lambda: ["ingot-quota-50001"])

    async def start(self, unit: UnitSpec) -> None:
        unit.check()
        self.started.append(unit)
        self.there.append(unit.name)

    async def wait(self, _name: str) -> UnitStatus:
        return UnitStatus(
            UnitState.EXITED, exit_code=self.status, result="exit-code" if self.status else "success"
        )

    async def stop(self, name: str, _grace_seconds: float = 5.0) -> None:
        self.there.remove(name)

    async def names(self, _prefix: str) -> list[str]:
        return list(self.there)


def instance(name: str, uid: int) -> Instance:
    message = DeaStart(droplet=1, name="a", version="v", uris=[], index=0, limits=Limits(mem=1, disk=64))
    made = Instance.of(message, name * 32, 100)
    made.uid = uid
    return made


@pytest.fixture
def quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Make a quota on a file system that is mounted with these options."""
    program, mounts = tmp_path / "setquota", tmp_path / "mountinfo"
    program.touch()
    monkeypatch.setattr(disk_quota, "PROGRAM", program)
    monkeypatch.setattr(disk_quota, "_MOUNTS", mounts)

    def make(units: Units, options: str = "rw,usrquota", **more: object) -> DiskQuota:
        device = tmp_path.stat().st_dev
        mounts.write_text(f"9 1 {os.major(device)}:{os.minor(device)} / /x rw - ext4 /dev/vdz {options}\n")
        config = parse(
            {"bus": {"urls": ["nats://h:4222"]}, "base_dir": str(tmp_path), "most_files": 1000, **more},
            DeaConfig,
        )
        return DiskQuota(config, units)  # type: ignore[arg-type]

    return make


async def test_a_uid_gets_its_disk_by_a_unit_that_can_do_nothing_else(quota) -> None:
    units = Units()
    wanted = quota(units)
    await wanted.begin()
    assert wanted.hard
    assert units.there == [], "what an agent that was killed has left is gone"
    await wanted.hold(50007, 64)
    unit = units.started[-1]
    assert list(unit.argv[1:]) == ["-u", "50007", "0", str(64 * 1024), "0", "1000", "/dev/vdz"]
    assert (unit.uid, list(unit.capabilities)) == (None, ["CAP_SYS_ADMIN"])
    assert units.there == []
    units.status = 1
    with pytest.raises(StartError, match="setquota exited with status 1"):
        await wanted.hold(50007, 64)
    assert units.there == []


@pytest.mark.parametrize(
    ("options", "status", "more", "why"),
    [
        ("rw", 0, {}, "mount it with usrquota"),
        ("rw,usrquota", 2, {}, "setquota exited with status 2"),
        ("rw", 0, {"disk_quota": "watched"}, ""),
        ("rw,usrquota", 0, {"sandbox": "process"}, ""),
    ],
)
async def test_without_quotas_nothing_is_set_unless_they_are_asked_for(
    quota, options: str, status: int, more: dict[str, str], why: str
) -> None:
    units = Units(status)
    wanted = quota(units, options, **more)
    await wanted.begin()
    assert not wanted.hard
    begun = len(units.started)
    await wanted.hold(50007, 64)
    assert len(units.started) == begun
    if why:
        with pytest.raises(DiskQuotaError, match=why):
            await quota(Units(status), options, disk_quota="required").begin()


async def test_what_an_agent_before_set_is_lifted_where_the_watch_is_wanted(quota) -> None:
    units = Units()
    wanted = quota(units, disk_quota="watched")
    await wanted.begin()
    assert not wanted.hard
    await wanted.hold(50007, 64)
    assert list(units.started[-1].argv[1:]) == ["-u", "50007", "0", "0", "0", "0", "/dev/vdz"]
    units.status = 1
    await wanted.hold(50007, 64)


async def test_those_that_live_already_are_held_and_none_loses_its_quota(quota) -> None:
    units = Units()
    wanted = quota(units, uids={"first": 50001, "last": 50003})
    last, first, ended = (instance(name, uid) for name, uid in (("c", 50003), ("a", 50001), ("d", 50002)))
    ended.state = InstanceState.CRASHED
    await wanted.begin({50003})
    assert units.started[-1].argv[2] == "50002"
    units.status = 1
    await wanted.adopt([last, ended, first])
    assert [unit.argv[2:5] for unit in units.started[1:]] == [
        ["50003", "0", "65536"],
        ["50001", "0", "65536"],
    ]


async def test_a_machine_without_the_program_is_told_which_package_has_it(quota) -> None:
    wanted = quota(Units(), disk_quota="required")
    disk_quota.PROGRAM.unlink()
    with pytest.raises(DiskQuotaError, match="install the package quota"):
        await wanted.begin()
