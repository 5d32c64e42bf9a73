"""The kinds of jobs, by name."""

from __future__ import annotations

from orchestrator.jobs.kinds import JobKind
from orchestrator.jobs.roll import Roll
from orchestrator.jobs.rollback import Rollback
from orchestrator.jobs.scale_in import ScaleIn
from orchestrator.jobs.scale_out import ScaleOut
from orchestrator.jobs.wire_nfs import UnwireNfs, WireNfs

# The kinds that can be resumed from the failed step. The others clean up on failure (`compensate`) and must be started
# anew.
RESUMABLE = frozenset({"roll", "rollback", "wire_nfs", "unwire_nfs"})


def kinds() -> dict[str, JobKind]:
    """Return one instance of each kind."""
    made: list[JobKind] = [ScaleOut(), ScaleIn(), Roll(), Rollback(), WireNfs(), UnwireNfs()]
    return {kind.name: kind for kind in made}
