"""The node's record of an instance: a file of root's own beside the instance's data."""

from __future__ import annotations

import re
import time

import msgspec

from components.common.bus.service_messages import Credentials
from components.services.base.credentials import digest, new_name, new_password
from components.services.base.errors import ServiceError
from components.services.redis.errors import INVALID_CREDENTIALS

# Names become folders and units, user names stand in the access list.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
# Redis's own users, the node's, and the user of the credentials that provisioning returned.
DEFAULT, ADMIN, OWNER = "default", "ingot-node", "owner"
_RESERVED = frozenset({DEFAULT, ADMIN, OWNER})


class Binding(msgspec.Struct, frozen=True):
    """One application's access: its user, and the digest of its password."""

    username: str
    digest: str


class Record(msgspec.Struct):
    """One instance. Only digests of passwords are kept, except the node's own, which it sends to the server.

    Attributes:
        name: of the instance; its folder and its unit carry it.
        port: of its server.
        plan: the requested one.
        admin_password: the node's own at this server.
        owner_digest: of the password that provisioning returned.
        bindings: by user.
        ready: false until provisioning has ended well; one that is not is removed at the node's next start.
        created: whole seconds since 1970.
        uid: of its server, and the number of its group; None where it has none of its own yet: a release before ran all servers under
            one account, and one that runs so gets its own at its next start.
    """

    name: str
    port: int
    plan: str
    admin_password: str
    owner_digest: str
    bindings: list[Binding] = msgspec.field(default_factory=list)
    ready: bool = False
    created: int = msgspec.field(default_factory=lambda: int(time.time()))
    uid: int | None = None

    @property
    def unit(self) -> str:
        """Return the name of its unit."""
        return UNIT_PREFIX + self.name

    def find(self, credentials: Credentials) -> Binding | None:
        """Return the binding of credentials: by user, else by password, because credentials of 2011 name no user."""
        username = credentials.get("username")
        if username:
            return next((b for b in self.bindings if b.username == username), None)
        password_digest = digest(str(credentials.get("password", "")))
        return next((b for b in self.bindings if b.digest == password_digest), None)

    def with_binding(self, binding: Binding) -> list[Binding]:
        """Return the bindings with one more."""
        return [*(b for b in self.bindings if b.username != binding.username), binding]

    def without(self, binding: Binding) -> list[Binding]:
        """Return the bindings with one fewer."""
        return [b for b in self.bindings if b.username != binding.username]


UNIT_PREFIX = "ingot-redis-"


def wanted_identity(given: Credentials | None) -> tuple[str, str]:
    """Return name and password of an instance: the requested ones, or new ones.

    Raises:
        ServiceError: the requested name or password is not valid.
    """
    name = str((given or {}).get("name") or new_name())
    return _checked(name, "name"), _password(given)


def wanted_user(given: Credentials | None) -> tuple[str, str]:
    """Return user and password of a binding: the requested ones, or new ones.

    Raises:
        ServiceError: the requested user or password is not valid.
    """
    username = _checked(str((given or {}).get("username") or new_name("u")), "username")
    if username in _RESERVED:
        raise ServiceError(INVALID_CREDENTIALS, f"username: {username} is taken")
    return username, _password(given)


def _password(given: Credentials | None) -> str:
    password = str((given or {}).get("password") or new_password())
    if len(password) < 8:
        raise ServiceError(INVALID_CREDENTIALS, "password: must have at least 8 characters")
    return password


def _checked(name: str, what: str) -> str:
    if not _NAME.fullmatch(name):
        raise ServiceError(
            INVALID_CREDENTIALS, f"{what}: must consist of letters, digits, _ and -, at most 64"
        )
    return name
