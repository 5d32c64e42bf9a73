"""The kinds of jobs there are, by name."""

from __future__ import annotations

from orchestrator.jobs.kinds import Kind
from orchestrator.jobs.roll import Roll
from orchestrator.jobs.rollback import Rollback
from orchestrator.jobs.scale_in import ScaleIn
from orchestrator.jobs.scale_out import ScaleOut
from orchestrator.jobs.wire_nfs import UnwireNfs, WireNfs

# Whose failed jobs go on from the failed step. The others leave nothing to go on from: `give_up` has put it right.
RESUMABLE = frozenset({"roll", "rollback", "wire_nfs", "unwire_nfs"})


def kinds() -> dict[str, Kind]:
    """Make one of each."""
    made: list[Kind] = [ScaleOut(), ScaleIn(), Roll(), Rollback(), WireNfs(), UnwireNfs()]
    return {kind.name: kind for kind in made}
