"""The messages of the bus, as structs.

Names and units are those of protocol 2: `mem` and `disk` in limits are MB, quotas are bytes, `usage.mem` is KB,
times are whole seconds since 1970. Unknown members are ignored, as a peer may be newer.
"""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = [
    "BulkCredentials",
    "Capacity",
    "ComponentAnnouncement",
    "DeaBeat",
    "DeaDiscover",
    "DeaHello",
    "DeaStart",
    "DeaStop",
    "DeaUpdate",
    "DropletExited",
    "DropletRef",
    "FindDroplet",
    "FoundDroplet",
    "HealthCheck",
    "HealthQuery",
    "HealthReply",
    "Heartbeat",
    "HeartbeatEntry",
    "HmRequest",
    "IndicesReply",
    "InstancesReply",
    "Limits",
    "RouterHello",
    "RouterRegister",
    "StagingReply",
    "StagingRequest",
    "StatusQuery",
]


class _Message(msgspec.Struct, kw_only=True, frozen=True):
    """The base of every message: members go by name, unknown ones are ignored."""


class Limits(_Message, frozen=True):
    """The limits of one instance: `mem` MB, `disk` MB, `fds` open files."""

    mem: int
    disk: int = 2048
    fds: int = 256


class Capacity(_Message, frozen=True):
    """The capacity of a DEA and the part that is reserved, in MB and counts."""

    memory: int
    memory_reserved: int = 0
    disk: int = 0
    disk_reserved: int = 0
    instances: int = 0
    max_instances: int = 1024


class DeaBeat(_Message, frozen=True):
    """`ingot.dea.beat`: sent by every DEA each `interval` seconds, full or empty.

    `droplets` counts the live (starting or running) instances by application id (as text, JSON keys are).
    """

    id: str
    address: str
    capacity: Capacity
    interval: float = 1.0
    zone: str = "default"
    evacuating: bool = False
    stopping: bool = False
    runtimes: list[str] = msgspec.field(default_factory=list)
    droplets: dict[str, int] = msgspec.field(default_factory=dict)
    index: int = 0
    host: str = ""
    release: str = ""
    # The one-off tasks that run on this DEA, by id.
    tasks: list[str] = msgspec.field(default_factory=list)
    # The versions that its interpreters reported, by the runtime's name without aliases.
    runtime_versions: dict[str, str] = msgspec.field(default_factory=dict)
    # The instances that ask for a successor while the DEA itself stays, by id.
    leaving: list[str] = msgspec.field(default_factory=list)


class DeaHello(_Message, frozen=True, omit_defaults=True):
    """`dea.start` and the reply to `dea.discover`; with the four numbers, the reply to `dea.status`."""

    id: str
    ip: str
    port: int
    # Not 0.99: a member that equals its default is left out, and peers of 2011 look for it.
    version: float = 0
    max_memory: int | None = None
    reserved_memory: int | None = None
    used_memory: float | None = None
    num_clients: int | None = None
    state: str | None = None


class DeaDiscover(_Message, frozen=True):
    """`dea.discover`."""

    droplet: int
    limits: Limits
    name: str = ""
    runtime: str | None = None
    sha: str | None = None


class HealthCheck(_Message, frozen=True):
    """The proof that an instance is up.

    `path` answers 2xx or 3xx within `timeout` seconds of its start; without a path, the port is open.
    """

    path: str | None = None
    timeout: float = 60


class DeaStart(_Message, frozen=True):
    """`dea.<uuid>.start`; `dea.update` has the same keys, with `env` and `services` empty. `services` are the protocol's SERVICE objects."""

    droplet: int
    name: str
    version: str
    uris: list[str] = msgspec.field(default_factory=list)
    runtime: str | None = None
    framework: str | None = None
    sha1: str = ""
    executableFile: str = ""  # noqa: N815 - the wire's name
    executableUri: str = ""  # noqa: N815 - the wire's name
    services: list[dict[str, Any]] = msgspec.field(default_factory=list)
    limits: Limits = Limits(mem=256)
    env: list[str] = msgspec.field(default_factory=list)
    users: list[str] = msgspec.field(default_factory=list)
    index: int = 0
    debug: str | None = None
    console: bool | None = None
    flapping: bool = False
    # Ours: the proof that the instance is up, `{"path": "/up" or null, "timeout": seconds}`; null: its port answers.
    health: HealthCheck | None = None


class DeaUpdate(_Message, frozen=True):
    """`dea.update`: the complete new list of routes of an application."""

    droplet: int
    uris: list[str] = msgspec.field(default_factory=list)


class DeaStop(_Message, frozen=True, omit_defaults=True):
    """`dea.stop`: every member but `droplet` narrows the selection; omitted ones match all."""

    droplet: int
    version: str | None = None
    instances: list[str] | None = None
    indices: list[int] | None = None
    states: list[str] | None = None


class FindDroplet(_Message, frozen=True, omit_defaults=True):
    """`dea.find.droplet`; `instance_ids` is what controllers of 2011 sent for `instances`: both are honoured."""

    droplet: int
    version: str | None = None
    instances: list[str] | None = None
    instance_ids: list[str] | None = None
    indices: list[int] | None = None
    states: list[str] | None = None
    include_stats: bool = False


class FoundDroplet(_Message, frozen=True):
    """The reply to `dea.find.droplet` for one instance; `stats` is the shape of protocol 1.10."""

    dea: str
    version: str
    droplet: int
    instance: str
    index: int
    state: str
    state_timestamp: int
    file_uri: str = ""
    credentials: list[str] = msgspec.field(default_factory=list)
    staged: str = ""
    debug_ip: str | None = None
    debug_port: int | None = None
    console_ip: str | None = None
    console_port: int | None = None
    stats: dict[str, Any] | None = None
    # Ours: the address of its numbered lines, with the same credentials (docs/platform.md).
    log_uri: str = ""


class HeartbeatEntry(_Message, frozen=True):
    """One instance in a heartbeat."""

    droplet: int
    version: str
    instance: str
    index: int
    state: str
    state_timestamp: int
    cc_partition: str = "default"


class Heartbeat(_Message, frozen=True):
    """`dea.heartbeat`; `dea` is absent from peers of 2011."""

    droplets: list[HeartbeatEntry]
    dea: str = ""


class DropletExited(_Message, frozen=True, omit_defaults=True):
    """`droplet.exited`; `reason` is STOPPED, CRASHED, DEA_SHUTDOWN or DEA_EVACUATION."""

    droplet: int
    version: str
    instance: str
    index: int
    reason: str
    crash_timestamp: int | None = None
    cc_partition: str = msgspec.field(default="")
    # Ours: the reason, in words that a person can act on (for example "memory over 64 MB").
    detail: str = ""


class DropletRef(_Message, frozen=True):
    """`droplet.updated`."""

    droplet: int


class StatusQuery(_Message, frozen=True, omit_defaults=True):
    """`healthmanager.status`: `state` is FLAPPING (answered with indices) or CRASHED (with instances)."""

    droplet: int
    state: str
    version: str | None = None


class IndicesReply(_Message, frozen=True):
    """Flapping indices: `[{"index", "since"}]`."""

    indices: list[dict[str, int]]


class InstancesReply(_Message, frozen=True):
    """Crashed instances: `[{"instance", "since"}]`."""

    instances: list[dict[str, Any]]


class HealthQuery(_Message, frozen=True):
    """`healthmanager.health`: `[{"droplet", "version"}]`."""

    droplets: list[dict[str, Any]]


class HealthReply(_Message, frozen=True):
    """One application's healthy (running) instances; one reply for each known application of the query."""

    droplet: int
    version: str
    healthy: int


class HmRequest(_Message, frozen=True, omit_defaults=True):
    """`cloudcontrollers.hm.requests`: START names indices, STOP names instances."""

    droplet: int
    op: str
    last_updated: int = 0
    version: str = ""
    indices: list[int] | None = None
    instances: list[str] | None = None
    flapping: bool = False


class BulkCredentials(_Message, frozen=True):
    """Reply to `cloudcontroller.bulk.credentials`."""

    user: str
    password: str


class RouterHello(_Message, frozen=True):
    """`router.start`, and the reply to `router.greet`; the intervals are seconds."""

    id: str
    version: float = 0.98
    hosts: list[str] = msgspec.field(default_factory=list)
    minimumRegisterIntervalInSeconds: int = 20  # noqa: N815 - the wire's name
    pruneThresholdInSeconds: int = 120  # noqa: N815 - the wire's name


class RouterRegister(_Message, frozen=True, omit_defaults=True):
    """`router.register` and `router.unregister`, and the same of the platform's own hosts, `ingot.platform.…`."""

    host: str
    port: int
    uris: list[str]
    dea: str | None = None
    app: int | None = None
    tags: dict[str, Any] = msgspec.field(default_factory=dict)
    private_instance_id: str | None = None


class StagingRequest(_Message, frozen=True):
    """`staging`: the stager fetches `download_uri` (a zip), answers when `upload_uri` has the droplet.

    `properties` is protocol 7.2's environment: services, framework, runtime, resources, meta, environment.
    """

    app_id: int
    properties: dict[str, Any]
    download_uri: str
    upload_uri: str


class StagingReply(_Message, frozen=True, omit_defaults=True):
    """Reply to `staging`; `error` is there when it failed, `task_log` always.

    `retry` is ours: the stager has not tried, as it has no room, and the same request may succeed later.
    """

    task_id: str
    task_log: str = ""
    error: str | None = None
    retry: bool = False


class ComponentAnnouncement(_Message, frozen=True, omit_defaults=True):
    """`vcap.component.announce`, and with `uptime` the reply to `vcap.component.discover` (protocol 2.2)."""

    type: str
    index: int
    uuid: str
    host: str
    credentials: list[str]
    start: str
    uptime: str | None = None
