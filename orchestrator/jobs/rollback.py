"""The job that goes back to the release before, from any stage of a roll."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.errors import RefusedError
from orchestrator.inventory import release_record
from orchestrator.jobs import rolling
from orchestrator.jobs.kinds import Facts, JobContext, JobPlan, Step
from orchestrator.services import Services


class Rollback:
    """The roll back to an earlier release; machines need not be well."""

    name = "rollback"

    def plan(self, services: Services, request: Mapping[str, Any]) -> JobPlan:
        """Do the same as `JobKind.plan`.

        Args:
            services: the folder of releases and the inventory are read.
            request: `release`; by default, the one that an unfinished roll was to replace, else the release before.

        Raises:
            RefusedError: 409 nothing to go back to; 404 there is no such release; 400 all of the platform runs it.
        """
        folder = services.inventory.folder
        release = str(request.get("release") or release_record.return_release(folder))
        if not release:
            raise RefusedError(
                "the inventory names no release that ran before; name one: `ingot platform rollback VERSION`",
                409,
            )
        rolling.check_known(services, release)
        known = release_record.recorded(folder)
        if known.get("ingot_release") == release and "ingot_release_rolling" not in known:
            raise RefusedError(f"release: {release} runs already")
        return rolling.plan(services, release, back=True)

    def steps(self, services: Services, facts: Facts) -> Sequence[Step]:
        """Do the same as `JobKind.steps`."""
        return rolling.steps(facts)

    def compensate(self, job: JobContext, failed: Step, why: str) -> str:
        """Do the same as `JobKind.compensate`; nothing is undone."""
        return rolling.remedy(job, failed)
