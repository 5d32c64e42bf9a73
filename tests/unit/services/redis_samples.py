"""A node's configuration, and an instance with two bindings."""

from __future__ import annotations

from components.services.base.credentials import digest
from components.services.redis.records import Binding, Record

NODE = {"bus": {"urls": ["nats://h:4222"]}, "node_id": "redis_node_1", "base_dir": "/var/lib/x"}
A, B = Binding("ua", digest("password of a")), Binding("ub", digest("password of b"))


def record(*bindings: Binding) -> Record:
    """Return the record of an instance with these bindings."""
    return Record("i1", 5000, "free", "admin secret", digest("owner"), list(bindings))
