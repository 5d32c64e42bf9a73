"""A node's report of its instances and bindings, in messages that the bus carries (protocol 6.6); pure."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from components.common.bus.service_messages import Credentials, NodeHandles

# The server takes 1 MB; some is left for the message around the lists.
LIMIT_BYTES = 1024 * 1024 - 200


def reports(
    node_id: str, instances: list[str], bindings: list[Credentials], limit: int = LIMIT_BYTES
) -> Iterator[NodeHandles]:
    """Yield messages of at most `limit` bytes; a node without instances sends one empty message."""
    names: list[str] = []
    bound: list[Credentials] = []
    empty = len(msgspec.json.encode(NodeHandles(node_id=node_id))) + 50
    size, sent = empty, False
    items: list[str | Credentials] = [*instances, *bindings]
    for item in items:
        # One more for the comma.
        more = len(msgspec.json.encode(item)) + 1
        if size + more > limit and (names or bound):
            yield NodeHandles(node_id=node_id, instances_list=names, bindings_list=bound)
            names, bound, size, sent = [], [], empty, True
        if isinstance(item, str):
            names.append(item)
        else:
            bound.append(item)
        size += more
    if names or bound or not sent:
        yield NodeHandles(node_id=node_id, instances_list=names, bindings_list=bound)
