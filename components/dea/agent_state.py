"""The state of an agent that several of its parts read: what it offers, and whether it takes more; pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from components.dea.instances.renewal import Renewal
from components.dea.runtimes import Runtimes


@dataclass(slots=True)
class AgentState:
    """The state of an agent.

    Attributes:
        dea: the DEA's id.
        address: the machine's.
        runtimes: what was found usable on this machine.
        files_port: the port of the file server; 0 until it listens.
        evacuating: the DEA evacuates.
        stopping: the agent ends; the instances go on.
        renewal: the instances that are to be replaced.
    """

    dea: str
    address: str
    runtimes: Runtimes = field(default_factory=lambda: Runtimes({}))
    files_port: int = 0
    evacuating: bool = False
    stopping: bool = False
    renewal: Renewal = field(default_factory=Renewal)

    @property
    def leaving(self) -> bool:
        """Return whether no more instances and tasks are taken."""
        return self.evacuating or self.stopping

    def refusal(self) -> str | None:
        """Return why no more instances and tasks are taken; None where they are."""
        if self.evacuating:
            return "this DEA evacuates"
        return "this DEA's agent is about to end" if self.stopping else None
