"""Jobs that move the droplet share to NFS and back, host by host; the work on hosts is in the playbooks.

Both stop at the first host that fails and leave the others as they are: each is wired or it is not, and either serves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from orchestrator.errors import RefusedError
from orchestrator.jobs.kinds import Facts, JobContext, JobPlan, Step
from orchestrator.plays.runner import Play
from orchestrator.rules.nfs_wiring import WiringError, chosen, standing, wiring
from orchestrator.services import Services

# Two wirings never run side by side, and no machine is rolled, made or deleted meanwhile.
LOCK = "nfs"


class _Wiring:
    """The common part of both directions."""

    name: ClassVar[str]
    word: ClassVar[str]
    back: ClassVar[str]

    def plan(self, services: Services, request: Mapping[str, Any]) -> JobPlan:
        """Do the same as `JobKind.plan`.

        Args:
            services: the inventory is read.
            request: `hosts`, names; all where it is missing.

        Raises:
            RefusedError: a host is no client, or there is no client.
        """
        hosts = services.inventory.hosts()
        try:
            found = wiring({name: host.groups for name, host in hosts.items()})
            clients = chosen(found, request.get("hosts", ()), hosts)
        except WiringError as error:
            raise RefusedError(str(error), 404 if error.unknown else 400) from error
        whole = set(clients) == set(found.clients)
        former = found.former if whole else ()
        facts: Facts = {
            "server": found.server,
            "clients": list(clients),
            "former": list(former),
            "all": whole,
            "done": [],
        }
        locks = {LOCK, *(f"machine:{host}" for host in (*clients, *former, found.server) if host)}
        if any("dea" in hosts[client].groups for client in clients):
            locks.add("pool:dea")
        return JobPlan(facts, frozenset(locks))

    def compensate(self, job: JobContext, failed: Step, why: str) -> str:
        """Do the same as `JobKind.compensate`; there is nothing to undo: the play left the failed host as it was."""
        del failed, why
        reached = standing(job.facts["clients"], job.facts["done"], self.word)
        return (
            f"{reached}. To go on, repair the named faults and resume this job: `ingot jobs resume {job.job_id}`. "
            f"To go back: `ingot nfs {self.back}`."
        )


class WireNfs(_Wiring):
    """The kind that exports the share, then has each client mount it, write and read back."""

    name = "wire_nfs"
    word = "wired"
    back = "unwire"

    def steps(self, services: Services, facts: Facts) -> Sequence[Step]:
        """Do the same as `JobKind.steps`: preflight, hosts that no longer have the share, export, then a step for each client."""
        clients, server = tuple(facts["clients"]), facts["server"]
        everybody = (server, *clients) if server else clients
        steps = [
            Step("preflight", _play("wire_nfs", everybody, {"wire_nfs_preflight_only": True}), everybody)
        ]
        steps += _former("wire_nfs", facts)
        if server:
            steps.append(Step("export", _play("wire_nfs", (server,), {}), (server,)))
        return [*steps, *(Step("wire", _client("wire_nfs", host), (host,)) for host in clients)]


class UnwireNfs(_Wiring):
    """The kind that has each client unmount the share, then removes the export; stored files stay on the server."""

    name = "unwire_nfs"
    word = "unwired"
    back = "wire"

    def steps(self, services: Services, facts: Facts) -> Sequence[Step]:
        """Do the same as `JobKind.steps`: readers first, writers last, and the export where no client is left."""
        steps = [Step("unwire", _client("unwire_nfs", host), (host,)) for host in reversed(facts["clients"])]
        steps += _former("unwire_nfs", facts)
        if facts["server"] and facts["all"]:
            server = (facts["server"],)
            steps.append(Step("unexport", _play("unwire_nfs", server, {}), server))
        return steps


def _former(verb: str, facts: Facts) -> list[Step]:
    """Return the step that unmounts the share where only an earlier release mounted it; none where there is no such host."""
    # A job that an earlier release began knows of none.
    hosts = tuple(facts.get("former", ()))
    return [Step("leave", _play(verb, hosts, {}), hosts)] if hosts else []


def _client(verb: str, host: str) -> Callable[[JobContext], None]:
    """Return the step that runs a verb's playbook on one client and records that it is done."""

    def run(job: JobContext) -> None:
        done = job.facts["done"]
        variables = {"wire_nfs_wired": done} if verb == "wire_nfs" else {}
        _play(verb, (host,), variables)(job)
        if host not in done:
            done.append(host)

    return run


def _play(verb: str, limit: Sequence[str], variables: Mapping[str, Any]) -> Callable[[JobContext], None]:
    """Return the step that runs a verb's playbook on some hosts; the play decides what has to be done."""

    def run(job: JobContext) -> None:
        what = "preflight" if "wire_nfs_preflight_only" in variables else limit[0]
        key = f"{job.job_id}-{verb}-{what}"
        job.services.plays.run(Play(key, f"{verb}.yml", limit, variables), job.say).check()

    return run
