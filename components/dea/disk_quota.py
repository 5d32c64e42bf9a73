"""The disk of an instance as the kernel holds it: a quota of its uid, where the file system keeps such (quotactl(2), setquota(8)).

The quota is the user's and not the project's: the owner of a file may give it to another project, but not to another user.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from components.common import log
from components.common.units import Runner, UnitError, UnitSpec
from components.dea.config import DeaConfig
from components.dea.errors import DiskQuotaError, StartError

PROGRAM = Path("/usr/sbin/setquota")
_MOUNTS = Path("/proc/self/mountinfo")
_UNITS = "ingot-quota-"
_KB_IN_MB = 1024
# As mounts of ext4 and XFS say that users' quotas are enforced; `uqnoenforce` only counts.
_ENFORCED, _JOURNALED = "usrquota", "usrjquota="
logger = log.get(__name__)


class DiskQuota:
    """Sets the quotas of instances' uids.

    Setting one takes a capability that the agent lacks, so it is done by a unit of its own, which has no other.

    Args:
        config: the DEA's.
        runner: of the agent's units.
    """

    def __init__(self, config: DeaConfig, runner: Runner) -> None:
        self._config = config
        self._runner = runner
        self._source = ""

    @property
    def hard(self) -> bool:
        """True where the kernel refuses an instance what is over its quota; elsewhere the watch ends it."""
        return bool(self._source)

    async def begin(self) -> None:
        """Find out whether the file system of the instances keeps quotas.

        Raises:
            DiskQuotaError: it does not, and the configuration asks for it.
        """
        if self._config.sandbox == "systemd" and self._config.disk_quota != "watched":
            try:
                self._source = await self._found()
            except DiskQuotaError as error:
                if self._config.disk_quota == "required":
                    raise
                logger.info("disk_quota_watched", reason=str(error))
        if self.hard:
            logger.info("disk_quota_hard", source=self._source)

    async def hold(self, uid: int | None, mb: int) -> None:
        """Let a uid have so much of the disk, whatever it had before.

        Raises:
            StartError: the quota cannot be set.
        """
        if not self.hard or uid is None:
            return
        try:
            await self._set(self._source, uid, mb * _KB_IN_MB, self._config.most_files)
        except DiskQuotaError as error:
            raise StartError(str(error)) from error

    async def _found(self) -> str:
        """Return what the file system is mounted from, once a quota was really set there."""
        source = _mounted_from(Path(self._config.base_dir))
        for left in await self._runner.names(_UNITS):
            await self._runner.stop(left, 0)
        # Whom nothing belongs to yet: a quota of nothing is no quota.
        await self._set(source, self._config.uids.last, 0, 0)
        return source

    async def _set(self, source: str, uid: int, kb: int, files: int) -> None:
        unit = UnitSpec(
            name=f"{_UNITS}{uid}",
            argv=[str(PROGRAM), "-u", str(uid), "0", str(kb), "0", str(files), source],
            directory=Path(self._config.run_dir),
            capabilities=["CAP_SYS_ADMIN"],
            system_calls=["quotactl", "quotactl_fd"],
            slice="ingot.slice",
        )
        try:
            await self._runner.start(unit)
            try:
                ended = await self._runner.wait(unit.name)
            finally:
                await self._runner.stop(unit.name, 0)
        except UnitError as error:
            raise DiskQuotaError(f"the disk quota cannot be set: {error}") from error
        if ended.exit_code != 0:
            raise DiskQuotaError(f"the disk quota cannot be set: {PROGRAM.name} {ended.describe()}")


def _mounted_from(base: Path) -> str:
    if not PROGRAM.exists():
        raise DiskQuotaError(f"disk_quota: there is no {PROGRAM}; install the package quota")
    source = source_of(base.stat().st_dev, _MOUNTS.read_text(encoding="utf-8").splitlines())
    if not source:
        raise DiskQuotaError(
            f"disk_quota: the file system of {base} enforces no quotas of users; mount it with usrquota"
        )
    return source


def source_of(device: int, mounts: Iterable[str]) -> str:
    """Return what a file system with enforced quotas of users is mounted from; empty where it enforces none. Pure.

    Args:
        device: of the file system, as `st_dev` has it.
        mounts: lines of /proc/self/mountinfo (proc_pid_mountinfo(5)).
    """
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in mounts:
        place, _, kind = line.partition(" - ")
        if place.split()[2] != number:
            continue
        _, source, options = kind.split(maxsplit=2)
        if any(o == _ENFORCED or o.startswith(_JOURNALED) for o in options.split(",")):
            return source
    return ""
