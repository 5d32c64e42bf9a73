"""The kinds of jobs: a kind is one operation with one verb, planned at once, then done step by step.

A job survives its process: its facts and its steps lie in the journal, and a step that was under way when the orchestrator
ended is run again by the next one. So every step must accept that its work is half done or done. Steps run one after
another; a step that works on several machines at once does so by itself.

The members of a request, by kind; the API has refused unknown members and wrong types already:

| kind | request |
|---|---|
| `scale_out` | `{"pool": "dea", "count": 1}` |
| `scale_in` | `{"pool": "dea", "count": 1}` or `{"pool": "dea", "machine": "dea3"}` |
| `roll` | `{"release": "X"}`, and `"share": 0.25` where it was given |
| `rollback` | `{}` or `{"release": "X"}` |
| `wire_nfs`, `unwire_nfs` | `{}` or `{"hosts": ["dea1"]}` |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from orchestrator.services import Services

Facts = dict[str, Any]
# A lock that collides with every other one.
PLATFORM = "*"


class JobContext(Protocol):
    """The context of a step: the job it belongs to, and the services."""

    job_id: int
    facts: Facts
    """JSON-shaped; written to the journal by `save` and after every step."""
    services: Services

    def say(self, line: str) -> None:
        """Add a line of progress to the journal: shown while the step runs, kept afterwards. It must not hold a secret.

        May be called by several threads. Raises EngineStopping, after it has written, where the orchestrator ends.
        """

    def save(self) -> None:
        """Write the facts to the journal now, before an action that must not be repeated unawares.

        Raises EngineStopping, after it has written, where the orchestrator ends.
        """


@dataclass(frozen=True, slots=True)
class Step:
    """One step: `name` is a verb of the field (`create`, `reach`, `configure`), `machines` are those it works on."""

    name: str
    run: Callable[[JobContext], None]
    machines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class JobPlan:
    """A valid request: the initial facts, and the locks that no other job may hold meanwhile.

    Locks are words such as `pool:dea`, `machine:dea3` or `PLATFORM`; a request whose locks are held is refused with 409
    and the number of the job that holds them.
    """

    facts: Facts
    locks: frozenset[str] = field(default_factory=frozenset)


class JobKind(Protocol):
    """One kind of job."""

    @property
    def name(self) -> str:
        """Return the verb: `scale_out`, `scale_in`, `wire_nfs`, `unwire_nfs`, `roll`, `rollback`."""

    def plan(self, services: Services, request: Mapping[str, Any]) -> JobPlan:
        """Check a request against the present state; nothing is changed.

        Raises:
            RefusedError: it cannot or must not begin.
        """

    def steps(self, services: Services, facts: Facts) -> Sequence[Step]:
        """Return all steps in order, from the facts alone: the same again after a restart."""

    def compensate(self, job: JobContext, failed: Step, why: str) -> str:
        """Undo what a failed job must not leave (machines above all); may run again after a restart.

        Returns:
            The remedy, for the operator: the present state, how to go on, how to go back.
        """
