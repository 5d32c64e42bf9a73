"""The contract of the bus: every subject with its publishers, subscribers and messages.

These are the subjects of protocol 2, and ours under `ingot.`. The permissions of the NATS users are generated from this
table and from nothing else. A reply goes to the asker's inbox. The server allows it to the user that was asked, unless that user
could ask itself: such a user has the askers' inboxes among its permissions. An inbox has 128 random bits in its name
(`components/common/bus/inbox.py`), so only a component that was asked can answer.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from itertools import product

from components.common.bus import messages, operation_messages, service_messages

CONTROLLER, DEA, HEALTH_MANAGER, ROUTER, STAGER = "controller", "dea", "health_manager", "router", "stager"
SERVICES, ORCHESTRATOR, OPERATOR, PEER = "services", "orchestrator", "operator", "peer"
# Users made on every bus; `peer` speaks all 2011 subjects and is switched on only where foreign clients exist.
COMPONENTS = (CONTROLLER, DEA, HEALTH_MANAGER, ROUTER, STAGER, SERVICES, ORCHESTRATOR)
EVERYONE = frozenset(COMPONENTS)
# The data services, by their names on the bus (protocol 6.3). Each has rows of its own: a pattern such as
# `*.provision.*` would let a user speak for services that do not exist yet.
SERVICE_NAMES = ("RaaS",)


@dataclass(frozen=True, slots=True)
class Subject:
    """One row of the contract; `*` in a name stands for one token.

    Attributes:
        name: of the subject.
        publishers: users that may send it.
        subscribers: users that may receive it.
        carries: the content of a message.
        reply: the content of an answer.
        queue: the group in which subscribers hear it, so that one of them has each message. Outside of the group only
            the users in `all_heard` and the peers of 2011 hear it.
        all_heard: subscribers that hear every message.
    """

    name: str
    publishers: frozenset[str]
    subscribers: frozenset[str]
    carries: type | None = None
    reply: type | None = None
    queue: str | None = None
    all_heard: frozenset[str] = frozenset()

    @property
    def ours(self) -> bool:
        """Return whether the subject is unknown to peers of 2011."""
        return self.name.startswith("ingot.")

    def heard_as(self, user: str) -> str:
        """Return the subscription that nats-server allows: the subject, or `SUBJECT GROUP` for that group alone."""
        bound = self.queue is not None and user in self.subscribers - self.all_heard
        return f"{self.name} {self.queue}" if bound else self.name


def _of(*users: str) -> frozenset[str]:
    return frozenset(users)


@dataclass(frozen=True, slots=True)
class Permissions:
    """The subjects that a bus user may publish and subscribe to.

    `allow_responses` has the server allow a reply to whatever subject a question names. A user that may publish to a subject it
    hears could name any subject and answer itself, so it has False, and publishes replies to listed inboxes.
    """

    publish: list[str] = field(default_factory=list)
    subscribe: list[str] = field(default_factory=list)
    allow_responses: bool = True


M, OPS, S = messages, operation_messages, service_messages


def _service(name: str) -> tuple[Subject, ...]:
    """Return the rows of one data service (protocol 6.4): its gateway asks, its nodes answer; both are `services`."""
    both = _of(SERVICES)
    return (
        Subject(f"{name}.discover", both, both, S.ServiceDiscover, S.ServiceAnnouncement),
        Subject(f"{name}.announce", both, both, S.ServiceAnnouncement),
        Subject(f"{name}.provision.*", both, both, S.ServiceProvision, S.ServiceReply),
        Subject(f"{name}.unprovision.*", both, both, S.ServiceUnprovision, S.ServiceReply),
        Subject(f"{name}.bind.*", both, both, S.ServiceBind, S.ServiceReply),
        Subject(f"{name}.unbind.*", both, both, S.ServiceUnbind, S.ServiceReply),
        Subject(f"{name}.check_orphan", both, both),
        Subject(f"{name}.node_handles", both, both, S.NodeHandles),
        Subject(f"{name}.purge_orphan.*", both, both, S.PurgeOrphan),
    )


CONTRACT: tuple[Subject, ...] = (
    Subject("vcap.component.announce", EVERYONE, _of(ORCHESTRATOR, OPERATOR), M.ComponentAnnouncement),
    Subject(
        "vcap.component.discover",
        _of(ORCHESTRATOR, OPERATOR, CONTROLLER),
        EVERYONE,
        None,
        M.ComponentAnnouncement,
    ),
    Subject("router.start", _of(ROUTER), _of(DEA, CONTROLLER, ORCHESTRATOR), M.RouterHello),
    Subject("router.greet", _of(DEA, CONTROLLER, ORCHESTRATOR), _of(ROUTER), None, M.RouterHello),
    Subject(
        "router.register",
        _of(DEA, CONTROLLER, ORCHESTRATOR),
        _of(ROUTER, ORCHESTRATOR),
        M.RouterRegister,
    ),
    Subject(
        "router.unregister",
        _of(DEA, CONTROLLER, ORCHESTRATOR),
        _of(ROUTER, ORCHESTRATOR),
        M.RouterRegister,
    ),
    Subject("router.active_apps", _of(ROUTER), _of(HEALTH_MANAGER, CONTROLLER)),
    Subject("dea.start", _of(DEA), _of(CONTROLLER, HEALTH_MANAGER, ORCHESTRATOR), M.DeaHello),
    Subject("dea.discover", _of(CONTROLLER), _of(DEA), M.DeaDiscover, M.DeaHello),
    Subject("dea.*.start", _of(CONTROLLER), _of(DEA), M.DeaStart),
    Subject("dea.stop", _of(CONTROLLER), _of(DEA), M.DeaStop),
    Subject("dea.update", _of(CONTROLLER), _of(DEA), M.DeaUpdate),
    Subject("dea.find.droplet", _of(CONTROLLER), _of(DEA), M.FindDroplet, M.FoundDroplet),
    Subject("dea.status", _of(CONTROLLER, ORCHESTRATOR, OPERATOR), _of(DEA), None, M.DeaHello),
    Subject("droplet.status", _of(CONTROLLER, ORCHESTRATOR, OPERATOR), _of(DEA)),
    Subject("dea.heartbeat", _of(DEA), _of(HEALTH_MANAGER, ORCHESTRATOR), M.Heartbeat),
    Subject("dea.advertise", _of(DEA), _of(CONTROLLER)),
    Subject("dea.locate", _of(CONTROLLER), _of(DEA)),
    Subject("droplet.exited", _of(DEA), _of(HEALTH_MANAGER, ORCHESTRATOR, CONTROLLER), M.DropletExited),
    Subject("droplet.updated", _of(CONTROLLER), _of(HEALTH_MANAGER), M.DropletRef),
    Subject("healthmanager.start", _of(HEALTH_MANAGER), _of(DEA)),
    Subject("healthmanager.status", _of(CONTROLLER), _of(HEALTH_MANAGER), M.StatusQuery),
    Subject("healthmanager.health", _of(CONTROLLER), _of(HEALTH_MANAGER), M.HealthQuery, M.HealthReply),
    Subject("healthmanager.nats.ping", _of(HEALTH_MANAGER), _of(HEALTH_MANAGER)),
    # Health managers that do not lead listen as well: a new leader then knows the requests in flight.
    Subject(
        "cloudcontrollers.hm.requests",
        _of(HEALTH_MANAGER),
        _of(CONTROLLER, HEALTH_MANAGER),
        M.HmRequest,
        queue="cc",
        all_heard=_of(HEALTH_MANAGER),
    ),
    Subject(
        "cloudcontroller.bulk.credentials",
        _of(HEALTH_MANAGER),
        _of(CONTROLLER),
        None,
        M.BulkCredentials,
        queue="cc",
    ),
    Subject("vcap.cc.events", _of(CONTROLLER), _of(ORCHESTRATOR, OPERATOR)),
    Subject("staging", _of(CONTROLLER), _of(STAGER), M.StagingRequest, M.StagingReply, queue="staging"),
    # Ours: every DEA, every interval, whatever it runs.
    Subject("ingot.dea.beat", _of(DEA), _of(CONTROLLER, HEALTH_MANAGER, ORCHESTRATOR, OPERATOR), M.DeaBeat),
    # Ours: asks the DEA named by its id to evacuate (`{"evacuating": bool}`); it answers with its beat.
    Subject("ingot.dea.*.evacuate", _of(ORCHESTRATOR, OPERATOR, CONTROLLER), _of(DEA), None, M.DeaBeat),
    # Ours: one-off commands (docs/decisions/0007-the-core.md).
    Subject("ingot.dea.*.task", _of(CONTROLLER), _of(DEA), OPS.TaskStart, OPS.TaskReply),
    Subject("ingot.dea.*.task_stop", _of(CONTROLLER), _of(DEA), OPS.TaskRef, OPS.TaskReply),
    Subject("ingot.task.ended", _of(DEA), _of(CONTROLLER), OPS.TaskEnded, queue="cc"),
    # Ours: samples for the usage statistics.
    Subject("ingot.dea.usage", _of(DEA), _of(CONTROLLER), OPS.DeaUsage, queue="cc"),
    Subject("ingot.router.usage", _of(ROUTER), _of(CONTROLLER), OPS.RouterUsage, queue="cc"),
    # Ours: routes of the platform's own hosts, which routers take from this subject alone (docs/decisions/0016).
    Subject("ingot.platform.register", _of(CONTROLLER, ORCHESTRATOR), _of(ROUTER), M.RouterRegister),
    Subject("ingot.platform.unregister", _of(CONTROLLER, ORCHESTRATOR), _of(ROUTER), M.RouterRegister),
    # Ours: every component's last lines.
    Subject("ingot.component.logs", _of(CONTROLLER), EVERYONE, OPS.LogQuery, OPS.LogReply),
    # Ours: lines of a staging task as they are written, `ingot.staging.<app id>.log`.
    Subject("ingot.staging.*.log", _of(STAGER), _of(CONTROLLER)),
    *(row for name in SERVICE_NAMES for row in _service(name)),
)
BY_NAME = {s.name: s for s in CONTRACT}
_INBOX = re.compile(r"_INBOX(_[a-z_]+)?(\.[^\s.*>]+)+")


def inbox_prefix(user: str) -> str:
    """Return a user's inbox prefix; each user has its own, so that no other can listen."""
    return f"_INBOX_{user}" if user and user != PEER else "_INBOX"


def is_inbox(subject: str) -> bool:
    """Return whether a subject is an inbox, where a component awaits an answer.

    An answer to any other subject would be a message to its subscribers, with the rights of the user that was asked.
    """
    return _INBOX.fullmatch(subject) is not None


def permissions(user: str) -> Permissions:
    """Derive the permissions of a user from the table.

    Args:
        user: one of `COMPONENTS`, `operator` or `peer`.

    Raises:
        ValueError: no user of that name is in the contract.
    """
    if user not in {*COMPONENTS, OPERATOR, PEER}:
        raise ValueError(f"{user}: not a user of the bus")
    publish = {s.name for s in CONTRACT if user in _with_peer(s, s.publishers)}
    heard = {s.heard_as(user) for s in CONTRACT if user in _with_peer(s, s.subscribers)}
    listen = heard | {f"{inbox_prefix(user)}.>"}
    if user == STAGER:
        # When the server restarts, it forgets which users it allowed to answer; a droplet's answer takes minutes and
        # must not be lost.
        publish.add(f"{inbox_prefix(CONTROLLER)}.>")
    asks_itself = overlap(publish, listen)
    if asks_itself:
        publish |= _inboxes_answered(user)
    return Permissions(sorted(publish), sorted(listen), allow_responses=not asks_itself)


def overlap(some: Iterable[str], others: Iterable[str]) -> bool:
    """Return whether a subject may match a pattern of both, in any queue group; pure."""
    return any(_meet(_tokens(a), _tokens(b)) for a, b in product(some, others))


def _tokens(pattern: str) -> list[str]:
    return pattern.partition(" ")[0].split(".")


def _meet(one: list[str], other: list[str]) -> bool:
    for a, b in zip(one, other, strict=False):
        if ">" in (a, b):
            return True
        if a != b and "*" not in (a, b):
            return False
    return len(one) == len(other)


def _with_peer(subject: Subject, users: frozenset[str]) -> frozenset[str]:
    """Return the users of a row; a 2011 peer is one of them unless the row is ours."""
    return users if subject.ours else users | {PEER}


def _inboxes_answered(user: str) -> set[str]:
    """Return the inboxes of all users that may ask this user."""
    answered = [s for s in CONTRACT if s.reply is not None and user in _with_peer(s, s.subscribers)]
    return {f"{inbox_prefix(asker)}.>" for s in answered for asker in _with_peer(s, s.publishers)}


def main() -> None:
    """Print every user's permissions as JSON, for the `nats` role."""
    table = {u: permissions(u) for u in (*COMPONENTS, OPERATOR, PEER)}
    json.dump({u: asdict(p) for u, p in table.items()}, sys.stdout, indent=2, sort_keys=True)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
