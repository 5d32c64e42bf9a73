"""The job that rolls a release through the platform; the work on machines is in the playbooks of that release."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.errors import RefusedError
from orchestrator.inventory import release_record
from orchestrator.jobs import rolling
from orchestrator.jobs.kinds import Facts, JobContext, JobPlan, Step
from orchestrator.rules.roll_order import DEFAULT_SHARE
from orchestrator.services import Services


class Roll:
    """The roll to another release."""

    name = "roll"

    def plan(self, services: Services, request: Mapping[str, Any]) -> JobPlan:
        """Do the same as `JobKind.plan`.

        Args:
            services: the folder of releases and the inventory are read.
            request: `release`, and `share` of the DEAs at a time.

        Raises:
            RefusedError: 404 there is no such release; 400 it runs already.
        """
        release = str(request["release"])
        rolling.check_known(services, release)
        known = release_record.recorded(services.inventory.folder)
        if known.get("ingot_release") == release:
            if "ingot_release_rolling" in known:
                raise RefusedError(
                    f"release: a roll to {known['ingot_release_rolling']} did not end; to go back to {release}: `ingot platform rollback`"
                )
            raise RefusedError(f"release: {release} runs already")
        return rolling.plan(services, release, share=float(request.get("share", DEFAULT_SHARE)))

    def steps(self, services: Services, facts: Facts) -> Sequence[Step]:
        """Do the same as `JobKind.steps`."""
        return rolling.steps(facts)

    def compensate(self, job: JobContext, failed: Step, why: str) -> str:
        """Do the same as `JobKind.compensate`; nothing is undone, because running services must not be touched twice."""
        return rolling.remedy(job, failed)
