"""The access list of an instance's Redis server; pure.

A binding is a user of its own with a password of its own, and its password is also one of the passwords of the user
`default`. Both are needed: the credentials of 2011 know no user (protocol 6.7), so a client with a password only sends
`AUTH password`, which Redis takes for `default`; and Redis knows of an open connection its user but not by which password
it was opened. So

* a client that sends user and password (`username` is among the credentials) is one of its binding's user: ending another
  binding does not touch it, ending its own deletes the user, and Redis closes the connections of a user that is deleted;
* a client that sends the password alone is `default`: when a binding ends, its password is taken from `default`, and then all
  of `default`'s connections are closed, because any of them may have been opened with it. Those with another binding's
  password connect again and are let in; the ended binding's are not.

Either way, ended credentials are refused, and no connection opened with them stays open.

The file holds digests; it is read by the server at its start, and a running server gets the same by commands.
"""

from __future__ import annotations

from collections.abc import Mapping

from components.services.base.credentials import digest
from components.services.redis.records import ADMIN, DEFAULT, OWNER, Record

# Everything except commands that change, show or stop the server itself, or make it connect elsewhere (MIGRATE is in
# @dangerous); some of @dangerous matter only where an instance has several owners.
_APPLICATION = (
    "~*",
    "&*",
    "+@all",
    "-@admin",
    "-@dangerous",
    "+info",
    "+keys",
    "+flushdb",
    "+flushall",
    "+sort",
)
# The commands of the node itself, and no more: it never reads data.
_NODE = (
    "-@all",
    "+ping",
    "+acl|users",
    "+acl|getuser",
    "+acl|setuser",
    "+acl|deluser",
    "+client|kill",
)
Users = Mapping[str, frozenset[str]]
Command = tuple[str, ...]


def wanted(record: Record) -> dict[str, frozenset[str]]:
    """Return the users of a server: user → digests of passwords, without the node's own user."""
    users = {OWNER: frozenset({record.owner_digest})}
    users |= {b.username: frozenset({b.digest}) for b in record.bindings}
    users[DEFAULT] = frozenset().union(*users.values())
    return users


def file(record: Record) -> str:
    """Return the access list in the form of the server's file."""
    users = {name: rules(digests) for name, digests in sorted(wanted(record).items())}
    users[ADMIN] = ("reset", "on", f"#{digest(record.admin_password)}", *_NODE)
    return "".join(f"user {name} {' '.join(words)}\n" for name, words in users.items())


def rules(digests: frozenset[str]) -> Command:
    """Return the rules of an application's user, whatever they were before."""
    return ("reset", "on", *(f"#{d}" for d in sorted(digests)), *_APPLICATION)


def changes(live: Users, target: Users) -> list[Command]:
    """Return the commands that make a running server's users the wanted ones; first removals, then additions.

    Args:
        live: the server's users, without the node's own.
        target: see `wanted`.
    """
    gone = sorted(set(live) - set(target) - {DEFAULT})
    taking: list[Command] = [("ACL", "DELUSER", name) for name in gone]
    giving: list[Command] = []
    for name, digests in sorted(target.items()):
        if live.get(name) == digests:
            continue
        tell = ("ACL", "SETUSER", name, *rules(digests))
        if live.get(name, frozenset()) - digests:
            # First the password is refused, then the connections opened with it are closed.
            taking += [tell, ("CLIENT", "KILL", "USER", name)]
        else:
            giving.append(tell)
    return [*taking, *giving]
