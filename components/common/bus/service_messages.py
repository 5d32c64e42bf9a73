"""The messages between the gateway and the nodes of a data service (protocol 6.4), as structs.

Credentials are mappings whose keys depend on the service (protocol 6.7); they hold passwords and never reach a log.
"""

from __future__ import annotations

from typing import Any

import msgspec

Credentials = dict[str, Any]


class _Message(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """The base of every message: members go by name, unknown ones are ignored, absent ones left out."""


class ServiceDiscover(_Message, frozen=True):
    """`X.discover`: asks the nodes with this plan, or all. In 2011 its payload was empty."""

    plan: str | None = None


class ServiceAnnouncement(_Message, frozen=True):
    """`X.announce`, and the reply to `X.discover`.

    A node of 2012 sends `plan`, `available_capacity` and `capacity_unit` (the part of one instance); one of 2011 sends
    `available_memory` (MB) or `available_storage` (bytes). Ours sends both.
    """

    id: str
    plan: str | None = None
    available_capacity: float | None = None
    capacity_unit: float | None = None
    available_memory: float | None = None
    available_storage: float | None = None


class ServiceProvision(_Message, frozen=True):
    """`X.provision.<node>`; `credentials` asks for an instance with these names and passwords again."""

    plan: str = ""
    credentials: Credentials | None = None


class ServiceUnprovision(_Message, frozen=True):
    """`X.unprovision.<node>`: the instance of this name, and the credentials of its bindings."""

    name: str
    bindings: list[Credentials] = msgspec.field(default_factory=list)


class ServiceBind(_Message, frozen=True):
    """`X.bind.<node>`; `credentials` asks for a binding with these again."""

    name: str
    bind_opts: dict[str, Any] = msgspec.field(default_factory=dict)
    credentials: Credentials | None = None


class ServiceUnbind(_Message, frozen=True):
    """`X.unbind.<node>`: the credentials that the binding returned."""

    credentials: Credentials


class ServiceReply(_Message, frozen=True):
    """A node's reply; `error` is `{"status": http, "msg": {"code", "description"}}`."""

    success: bool
    credentials: Credentials | None = None
    error: dict[str, Any] | None = None


class NodeHandles(_Message, frozen=True):
    """`X.node_handles`: the handles of a node, in one or several messages; bindings without their passwords."""

    node_id: str
    instances_list: list[str] = msgspec.field(default_factory=list)
    bindings_list: list[Credentials] = msgspec.field(default_factory=list)


class PurgeOrphan(_Message, frozen=True):
    """`X.purge_orphan.<node>`: the handles that the node must remove."""

    orphan_ins_list: list[str] = msgspec.field(default_factory=list)
    orphan_binding_list: list[Credentials] = msgspec.field(default_factory=list)
