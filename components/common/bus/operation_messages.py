"""The messages beyond the contract of 2011: one-off tasks, usage samples, the components' own logs.

docs/decisions/0007-the-core.md says why they are needed.
Times are seconds since 1970, memory is MB.
"""

from __future__ import annotations

import msgspec

from components.common.bus.messages import DeaStart


class _Message(msgspec.Struct, kw_only=True, frozen=True):
    """The base of every message: members go by name, unknown ones are ignored."""


class TaskStart(_Message, frozen=True):
    """`ingot.dea.<uuid>.task`: run `command` once, in the sandbox of an instance; `timeout` in seconds."""

    task: str
    command: str
    start: DeaStart
    timeout: float = 3600


class TaskReply(_Message, frozen=True, omit_defaults=True):
    """Reply to `ingot.dea.<uuid>.task`: `error` is the reason of a refusal; `log_uri` as in `dea.find.droplet`."""

    task: str
    error: str | None = None
    log_uri: str = ""
    credentials: list[str] = msgspec.field(default_factory=list)


class TaskRef(_Message, frozen=True):
    """`ingot.dea.<uuid>.task_stop`: end this task; answered by `TaskReply`."""

    task: str


class TaskEnded(_Message, frozen=True, omit_defaults=True):
    """`ingot.task.ended`: `exit_status` is None where a signal, a limit or the timeout ended it; `detail` says which.

    `tail` is the end of its output, at most 64 KiB.
    """

    task: str
    dea: str
    exit_status: int | None = None
    detail: str = ""
    tail: str = ""


class UsageSample(_Message, frozen=True):
    """One instance or task in a DEA's sample: `reserved` and `used` are MB, `cpu` seconds since the sample before.

    `restarted`: it crashed meanwhile and is started again, on this DEA or another.
    """

    droplet: int
    instance: str
    reserved: int
    used: float
    cpu: float = 0
    restarted: bool = False


class DeaUsage(_Message, frozen=True):
    """`ingot.dea.usage`: the usage of each instance in the last `seconds`; `at` is the end of them."""

    dea: str
    at: int
    seconds: float
    samples: list[UsageSample] = msgspec.field(default_factory=list)


class RouterUsage(_Message, frozen=True):
    """`ingot.router.usage`: requests answered for each application (by id, as text).

    The counts are those of the last `seconds`; `at` is the end of them.
    """

    router: str
    at: int
    seconds: float
    requests: dict[str, int] = msgspec.field(default_factory=dict)


class LogQuery(_Message, frozen=True, omit_defaults=True):
    """`ingot.component.logs`: an omitted member matches all; `since` is in seconds, `limit` counts lines, the newest win."""

    component: str | None = None
    host: str | None = None
    since: float = 0
    limit: int = 200
    level: str | None = None
    contains: str | None = None


class LogReply(_Message, frozen=True):
    """Reply to `ingot.component.logs`: the matching lines, oldest first, as the component's log has them (JSON text)."""

    component: str
    id: str
    host: str
    lines: list[str] = msgspec.field(default_factory=list)
