"""The limits of clients' requests: the buckets of one worker."""

from __future__ import annotations

from dataclasses import dataclass

from components.controller.config import ControllerConfig, RateLimit
from components.controller.db.database import Database
from components.controller.requests.rate_limit import RateLimiter, Welcome
from components.controller.requests.shared_rate_limit import HOME_SECONDS, SharedRateLimiter

# The interval at which a process tells the others that a user goes on logging in.
_SETTLED_SECONDS = 86_400.0
# The refusals of callers without a token that are recorded as events: of one address, and of all.
_REFUSED, _REFUSED_ALL = RateLimit(per_minute=30, burst=30), RateLimit(per_minute=120, burst=240)


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """One worker's buckets, and those that it shares with all workers.

    `rates`: requests of users, a share of the limit of all workers; `takings`: anonymous requests and uploads, at all workers;
    `logins`: failed logins, by address and account; `doors`: failed logins and registrations, by address; `welcome`: successful
    logins, by address and account; `settled`: those of them that the other workers know; `refused`, `refused_all`: recorded
    refusals of anonymous calls, by address and of all.
    """

    rates: RateLimiter
    logins: RateLimiter
    doors: RateLimiter
    welcome: Welcome
    settled: Welcome
    refused: RateLimiter
    refused_all: RateLimiter
    takings: SharedRateLimiter

    @classmethod
    def of(cls, config: ControllerConfig, db: Database) -> RequestLimits:
        """Return full buckets of the configured sizes."""
        return cls(
            rates=RateLimiter(config.rate_limit),
            logins=RateLimiter(config.login_limit),
            doors=RateLimiter(config.address_limit),
            welcome=Welcome(HOME_SECONDS),
            settled=Welcome(_SETTLED_SECONDS),
            refused=RateLimiter(_REFUSED),
            refused_all=RateLimiter(_REFUSED_ALL),
            takings=SharedRateLimiter(db, [config.login_limit, config.address_limit, config.upload_limit]),
        )
