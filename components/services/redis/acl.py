"""Who may do what at an instance's server: the access list of Redis; pure.

A binding is a user of its own with a password of its own, and its password is also one of the passwords of the user
`default`. Why both: the credentials of 2011 know no user (protocol 6.7), so a client that was given only a password sends
`AUTH password`, which Redis takes for `default`; and Redis knows of an open connection its user but not by which password
it was opened. So

* a client that sends user and password (`username` is among the credentials) is one of its binding's user: ending another
  binding does not touch it, ending its own deletes the user, and Redis closes the connections of a user that is deleted;
* a client that sends the password alone is `default`: when a binding ends, its password is taken from `default`, and then all
  of `default`'s connections are closed, because any of them may have been opened with it. Those with another binding's
  password connect again and are let in; the ended binding's are not.

Either way, what was ended opens nothing, and nothing stays open that it had opened.

The file holds digests; it is read by the server at its start, and a running server is told the same by commands.
"""

from __future__ import annotations

from collections.abc import Mapping

from components.services.base.credentials import digest
from components.services.redis.records import ADMIN, DEFAULT, OWNER, Record

# Everything but what changes, shows or stops the server itself, or makes it connect elsewhere (MIGRATE is of @dangerous);
# some of @dangerous is only so where an instance has several owners.
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
# What the node itself does, and no more: it never reads data.
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
    """Give who may enter: user → digests of passwords, the node's own user left out."""
    users = {OWNER: frozenset({record.owner_digest})}
    users |= {b.username: frozenset({b.digest}) for b in record.bindings}
    users[DEFAULT] = frozenset().union(*users.values())
    return users


def file(record: Record) -> str:
    """Write the access list as the server reads it at its start."""
    users = {name: rules(digests) for name, digests in sorted(wanted(record).items())}
    users[ADMIN] = ("reset", "on", f"#{digest(record.admin_password)}", *_NODE)
    return "".join(f"user {name} {' '.join(words)}\n" for name, words in users.items())


def rules(digests: frozenset[str]) -> Command:
    """Give the rules of an application's user, whatever they were before."""
    return ("reset", "on", *(f"#{d}" for d in sorted(digests)), *_APPLICATION)


def changes(live: Users, want: Users) -> list[Command]:
    """Give the commands that make a running server's users the wanted ones; first what takes away, then what gives.

    Args:
        live: what the server says, the node's own user left out.
        want: see `wanted`.
    """
    gone = sorted(set(live) - set(want) - {DEFAULT})
    taking: list[Command] = [("ACL", "DELUSER", name) for name in gone]
    giving: list[Command] = []
    for name, digests in sorted(want.items()):
        if live.get(name) == digests:
            continue
        tell = ("ACL", "SETUSER", name, *rules(digests))
        if live.get(name, frozenset()) - digests:
            # First it opens no more, then what it had opened is closed.
            taking += [tell, ("CLIENT", "KILL", "USER", name)]
        else:
            giving.append(tell)
    return [*taking, *giving]
