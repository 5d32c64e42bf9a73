"""Logins and registrations of strangers: how often they may fail, in this process and, by `shared_rate_limit`, at all of them."""

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

    `pair` is its address and account. `door`: whether it counts for its address, too: a guesser behind the same address must
    not lock out who is at home there.
    """

    controller: Controller
    network: str
    pair: str
    door: bool

    @classmethod
    def begin(cls, controller: Controller, email: str) -> LoginAttempt:
        """Count one that comes, before its body is read.

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
        """Count it for its account.

        Raises:
            TooManyError: there were too many.
        """
        if wait := self.controller.limits.logins.take(self.pair, time.monotonic()):
            raise TooManyError(wait)

    def check(self, session: Session) -> LoginAttempt:
        """Ask what other processes have let through, and who is at home by what they saw; one statement.

        Returns:
            The attempt, which counts for its address only where nobody is at home.

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
        """Have all processes know that it failed."""
        takings = self.controller.limits.takings
        with self.controller.db.asking() as asked:
            # In one order: of those who count at once none waits in a circle.
            for key, limit in sorted(self.limits().items()):
                takings.take(asked, key, limit)

    def forgive(self) -> None:
        """Give back what was taken, and only that: else one with an account would make room for guesses at others."""
        limits, now = self.controller.limits, time.monotonic()
        limits.logins.give_back(self.pair, now)
        if self.door:
            limits.doors.give_back(self.network, now)

    def welcome(self) -> None:
        """Remember that it succeeded: here, and once a day in ccdb for the others."""
        limits, now = self.controller.limits, time.monotonic()
        limits.welcome.add(self.pair, now)
        if not limits.settled.knows(self.pair, now):
            with self.controller.db.asking() as asked:
                limits.takings.settle(asked, self.pair)
            limits.settled.add(self.pair, now)

    def limits(self) -> dict[str, RateLimit]:
        """Return the keys it counts for, with their limits."""
        config = self.controller.config
        door = {_door(self.network): config.address_limit} if self.door else {}
        return {f"login {self.pair}": config.login_limit, **door}


def at_the_door(limits: RequestLimits, network: str) -> None:
    """Count one who comes without a token, in this process.

    Raises:
        TooManyError: there were too many from there.
    """
    if wait := limits.doors.take(network, time.monotonic()):
        raise TooManyError(wait)


def count_registration(controller: Controller, asked: Connection, network: str) -> None:
    """Count a registration, whether or not an account comes of it, at all processes.

    Raises:
        TooManyError: there were too many from there.
    """
    limit = controller.config.address_limit
    if wait := controller.limits.takings.take(asked, _door(network), limit):
        raise TooManyError(wait)


def _door(network: str) -> str:
    return f"door {network}"
