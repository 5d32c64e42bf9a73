"""Disk quotas of instances' uids, where the file system keeps them (quotactl(2), setquota(8)).

The quota is the user's and not the project's: the owner of a file may give it to another project, but not to another user.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from pathlib import Path

from components.common import log
from components.common.units import Runner, UnitError, UnitSpec
from components.dea.config import DeaConfig
from components.dea.errors import DiskQuotaError, StartError
from components.dea.instances.instance import Instance, facts

PROGRAM = Path("/usr/sbin/setquota")
_MOUNTS = Path("/proc/self/mountinfo")
_UNITS = "ingot-quota-"
_KB_IN_MB = 1024
_NO_LIMIT = (0, 0)
# The mount options with which ext4 and XFS enforce users' quotas; `uqnoenforce` only counts.
_ENFORCED, _JOURNALED = "usrquota", "usrjquota="
logger = log.get(__name__)


class DiskQuota:
    """The quotas of instances' uids.

    Setting one takes a capability that the agent lacks, so a unit with that capability alone does it.

    Args:
        config: the DEA's.
        runner: of the agent's units.

    Attributes:
        hard: whether the kernel refuses writes over an instance's quota; otherwise the enforcer ends the instance.
    """

    def __init__(self, config: DeaConfig, runner: Runner) -> None:
        self._config = config
        self._runner = runner
        # The device of the instances' file system, where it keeps quotas.
        self._source = ""
        self.hard = False

    async def begin(self, held: Collection[int | None] = ()) -> None:
        """Find out whether the file system of the instances keeps quotas.

        Args:
            held: uids that instances and tasks have, whose quotas stay as they are.

        Raises:
            DiskQuotaError: it does not, and the configuration asks for it.
        """
        if self._config.sandbox != "systemd":
            return
        try:
            self._source = await self._found(held)
        except DiskQuotaError as error:
            if self._config.disk_quota == "required":
                raise
            if self._config.disk_quota == "auto":
                logger.info("disk_quota_watched", reason=str(error))
            return
        self.hard = self._config.disk_quota != "watched"
        logger.info("disk_quota_hard" if self.hard else "disk_quota_lifted", source=self._source)

    async def adopt(self, instances: Iterable[Instance]) -> None:
        """Set the quotas of living instances, because an agent with another configuration may have started them."""
        for instance in instances:
            # An instance that ended meanwhile has no uid any more.
            if instance.live:
                try:
                    await self.hold(instance.uid, instance.limits.disk)
                except StartError as error:
                    logger.warning("disk_quota_not_set", reason=str(error), **facts(instance))

    async def hold(self, uid: int | None, mb: int) -> None:
        """Set the quota of a uid, whatever it had before; where the enforcer does the work, lift it.

        Raises:
            StartError: the quota cannot be set.
        """
        if not self._source or uid is None:
            return
        limits = (mb * _KB_IN_MB, self._config.most_files) if self.hard else _NO_LIMIT
        try:
            await self._set(self._source, uid, *limits)
        except DiskQuotaError as error:
            if self.hard:
                raise StartError(str(error)) from error
            logger.warning("disk_quota_not_lifted", reason=str(error))

    async def _found(self, held: Collection[int | None]) -> str:
        """Return the device of the file system, once a quota was really set there."""
        source = _mounted_from(Path(self._config.base_dir))
        for left in await self._runner.names(_UNITS):
            await self._runner.stop(left, 0)
        uids = self._config.uids
        free = next((uid for uid in range(uids.last, uids.first - 1, -1) if uid not in held), None)
        if free is not None:
            await self._set(source, free, *_NO_LIMIT)
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
    """Return the device of a file system with enforced quotas of users; empty where it enforces none. Pure.

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
