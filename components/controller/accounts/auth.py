"""Authentication: passwords, tokens, and the user of a request (protocol 1.1 and 1.2)."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import argon2
import argon2.exceptions
from flask import Request
from itsdangerous import BadData, URLSafeSerializer
from sqlalchemy import Connection, bindparam, select
from sqlalchemy.orm import Session

from components.common import log
from components.controller.config import ControllerConfig
from components.controller.db.models import User
from components.controller.errors import ApiError, Code, bad_request, denied
from components.controller.requests.rate_limit import TooManyError

logger = log.get(__name__)
_HASHER = argon2.PasswordHasher()
# The number and length of tokens whose verified content a process remembers: requests of strangers must not fill its memory.
_REMEMBERED, _LONGEST_REMEMBERED = 4096, 1024
_ACCOUNT = select(User.id, User.email, User.admin, User.token_epoch, User.token_kept).where(
    User.email == bindparam("email")
)


@dataclass(frozen=True, slots=True)
class Caller:
    """The user as which a request acts. `by` is the administrator that acts for the user, or None."""

    id: int
    email: str
    admin: bool
    by: str | None = None


class Hashing:
    """A bound of concurrent password hashes: each takes 64 MiB and a core for a moment.

    Args:
        at_once: the number of concurrent hashes.
        waiting: the number of callers that may wait besides: each holds a thread of the server.
        patience: seconds that a caller waits.
    """

    def __init__(self, at_once: int, waiting: int, patience: float) -> None:
        self._patience = patience
        self._room = threading.BoundedSemaphore(at_once)
        self._queue = threading.BoundedSemaphore(at_once + waiting)

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        """Take a place.

        Raises:
            TooManyError: there is no place.
        """
        if not self._queue.acquire(blocking=False):
            raise TooManyError(1)
        try:
            if not self._room.acquire(timeout=self._patience):
                raise TooManyError(1)
            try:
                yield
            finally:
                self._room.release()
        finally:
            self._queue.release()


_HASHING = Hashing(at_once=2, waiting=4, patience=5.0)


def hash_password(password: str) -> str:
    """Return the argon2 hash to store.

    Raises:
        TooManyError: too many passwords are being hashed.
    """
    with _HASHING.place():
        return _HASHER.hash(password)


def verify_password(stored: str, password: str) -> bool:
    """Return whether a password matches its stored hash.

    Raises:
        TooManyError: too many passwords are being hashed.
    """
    with _HASHING.place():
        try:
            return _HASHER.verify(stored, password)
        except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
            return False


class Tokens:
    """The maker and reader of tokens: one word, safe in a header and in JSON, opaque to clients.

    Args:
        keys: the first signs, all verify: a key is replaced by putting the new one in front.
        lifetime: seconds.
    """

    def __init__(self, keys: list[str], lifetime: int) -> None:
        self._lifetime = lifetime
        # The library expects the signing key last.
        self._serializer = URLSafeSerializer(list(reversed(keys)), salt="ingot token")
        # The content of a token never changes; its validity is checked at every request.
        self._said = functools.lru_cache(_REMEMBERED)(self._open)

    def make(self, email: str, epoch: int = 0, now: float | None = None) -> str:
        """Return a token for a user, valid while the user's epoch is this one."""
        until = int(time.time() if now is None else now) + self._lifetime
        # Controllers of the previous release know no epoch: users without one get a token that those can read.
        text = self._serializer.dumps([email, until, epoch] if epoch else [email, until])
        return text if isinstance(text, str) else text.decode()

    def read(self, token: str, now: float | None = None) -> tuple[str, int] | None:
        """Return the email and the epoch of a token with a valid signature that has not expired, else None."""
        said = (self._said if len(token) <= _LONGEST_REMEMBERED else self._open)(token)
        if said is None:
            return None
        email, until, epoch = said
        return (email, epoch) if until >= (time.time() if now is None else now) else None

    def _open(self, token: str) -> tuple[str, int, int] | None:
        try:
            email, until, *rest = self._serializer.loads(token)
            (epoch,) = rest or (0,)
        except (BadData, TypeError, ValueError):
            return None
        if not isinstance(email, str) or not isinstance(until, int) or not isinstance(epoch, int):
            return None
        return email, until, epoch


def caller_of(asked: Connection, request: Request, tokens: Tokens, config: ControllerConfig) -> Caller | None:
    """Return the caller of a request; None without a token, and for an invalid one (protocol 1.1).

    Raises:
        ApiError: FORBIDDEN, USER_NOT_FOUND for PROXY-USER misused; HTTPS_REQUIRED where HTTPS is demanded.
    """
    token = request.headers.get("Authorization", "").strip()
    claim = tokens.read(token) if token else None
    user = _account(asked, claim[0]) if claim else None
    if user is not None and claim is not None and not _holds(user, token, claim[1]):
        user = None
    secure = request.headers.get("X-Forwarded-Proto", "").lower().startswith("https")
    if not secure and (
        config.https_required or (user is not None and user.admin and config.https_required_for_admins)
    ):
        raise ApiError(Code.HTTPS_REQUIRED)
    if user is None:
        if token:
            logger.info("token_rejected")
        return None
    target = request.headers.get("Proxy-User", "").strip()
    if not target:
        return Caller(user.id, user.email, user.admin)
    if not user.admin:
        raise denied()
    proxied = _account(asked, target)
    if proxied is None:
        raise ApiError(Code.USER_NOT_FOUND)
    return Caller(proxied.id, proxied.email, proxied.admin, by=user.email)


def _account(asked: Connection, email: str) -> Any:
    # Every request makes this query: four columns, without a mapped object.
    return asked.execute(_ACCOUNT, {"email": email.strip().lower()}).one_or_none()


def new_epoch() -> int:
    """Return an epoch, which makes all earlier tokens void; random, so that a user who is added again gets another one."""
    return 1 + secrets.randbelow(1 << 52)


def void_tokens(user: User, keep: str | None = None) -> None:
    """Make all tokens of a user void, except `keep`."""
    user.token_epoch = new_epoch()
    user.token_kept = fingerprint(keep) if keep else None


def fingerprint(token: str) -> str:
    """Return the digest by which a token is remembered."""
    return hashlib.sha256(token.encode()).hexdigest()


def _holds(user: User, token: str, epoch: int) -> bool:
    if user.token_epoch == epoch:
        return True
    return user.token_kept is not None and hmac.compare_digest(user.token_kept, fingerprint(token))


def find_user(session: Session, email: str) -> User | None:
    """Return the user with that email; None where there is none."""
    return session.scalars(select(User).where(User.email == email.strip().lower())).one_or_none()


def add_user(
    session: Session, email: str, password: str, *, admin: bool = False, registered: bool = False
) -> User:
    """Add a user; `registered` marks a user who registers without an administrator.

    Raises:
        ApiError: BAD_REQUEST for an email that is invalid or taken, or an empty password.
    """
    email = email.strip().lower()
    name, at, host = email.partition("@")
    if (
        not (name and at and host)
        or any(c.isspace() or not c.isprintable() or c in ",;<>\"'/" for c in email)
        or len(email) > 255
    ):
        raise bad_request("this is not an email address")
    if not password:
        raise bad_request("a password is needed")
    if find_user(session, email) is not None:
        raise bad_request("this email address is taken")
    user = User(
        email=email,
        crypted_password=hash_password(password),
        admin=admin,
        registered=registered,
        token_epoch=new_epoch(),
        created_at=int(time.time()),
    )
    session.add(user)
    session.flush()
    return user
