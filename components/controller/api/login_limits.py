"""Limits of anonymous logins and registrations, in this process and, by `shared_rate_limit`, in all processes."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from flask import request
from sqlalchemy import Connection
from sqlalchemy.orm import Session

from components.controller.api.audit import client_network
from components.controller.composition import Controller
from components.controller.config import RateLimit
from components.controller.requests.limits import RequestLimits
from components.controller.requests.rate_limit import TooManyError


@dataclass(frozen=True, slots=True)
class LoginAttempt:
    """A login by password, which may be a guess.

    `pair` is its address and account. `door`: whether it counts for its address, too: a guesser must not lock out users that
    log in regularly from the same address.
    """

    controller: Controller
    network: str
    pair: str
    door: bool

    @classmethod
    def begin(cls, controller: Controller, email: str) -> LoginAttempt:
        """Count an attempt before its body is read.

        Raises:
            TooManyError: there were too many from its address.
        """
        network = client_network(request)
        pair = f"{network} {email.strip().lower()[:255]}"
        door = not controller.limits.welcome.knows(pair, time.monotonic())
        if door:
            at_the_door(controller.limits, network)
        return cls(controller, network, pair, door)

    def take(self) -> None:
        """Count the attempt for its account.

        Raises:
            TooManyError: there were too many.
        """
        if wait := self.controller.limits.logins.take(self.pair, time.monotonic()):
            raise TooManyError(wait)

    def check(self, session: Session) -> LoginAttempt:
        """Check the counts of all processes, and whether the user logs in regularly from this address; one statement.

        Returns:
            The attempt, which counts for its address only where the user does not log in regularly from there.

        Raises:
            TooManyError: there were too many.
        """
        limits = self.controller.limits
        waits, at_home = limits.takings.look(session.connection(), self.limits(), self.pair)
        known = self
        if self.door and at_home:
            limits.doors.give_back(self.network, time.monotonic())
            known = replace(self, door=False)
        wait = max((waits.get(key, 0.0) for key in known.limits()), default=0.0)
        if wait > 0:
            known.forgive()
            raise TooManyError(wait)
        return known

    def count(self) -> None:
        """Count the failed attempt for all processes."""
        takings = self.controller.limits.takings
        with self.controller.db.connection() as asked:
            # In one order, so that concurrent counts cannot deadlock.
            for key, limit in sorted(self.limits().items()):
                takings.take(asked, key, limit)

    def forgive(self) -> None:
        """Return only the tokens that this attempt took: otherwise the owner of one account could make room for guesses at others."""
        limits, now = self.controller.limits, time.monotonic()
        limits.logins.give_back(self.pair, now)
        if self.door:
            limits.doors.give_back(self.network, now)

    def welcome(self) -> None:
        """Record the success: in this process, and once a day in ccdb for the others."""
        limits, now = self.controller.limits, time.monotonic()
        limits.welcome.add(self.pair, now)
        if not limits.settled.knows(self.pair, now):
            with self.controller.db.connection() as asked:
                limits.takings.settle(asked, self.pair)
            limits.settled.add(self.pair, now)

    def limits(self) -> dict[str, RateLimit]:
        """Return the keys for which the attempt counts, with their limits."""
        config = self.controller.config
        door = {_door(self.network): config.address_limit} if self.door else {}
        return {f"login {self.pair}": config.login_limit, **door}


def at_the_door(limits: RequestLimits, network: str) -> None:
    """Count a request without a token, in this process.

    Raises:
        TooManyError: there were too many from there.
    """
    if wait := limits.doors.take(network, time.monotonic()):
        raise TooManyError(wait)


def count_registration(controller: Controller, asked: Connection, network: str) -> None:
    """Count a registration for all processes, whether or not it makes an account.

    Raises:
        TooManyError: there were too many from there.
    """
    limit = controller.config.address_limit
    if wait := controller.limits.takings.take(asked, _door(network), limit):
        raise TooManyError(wait)


def _door(network: str) -> str:
    return f"door {network}"
