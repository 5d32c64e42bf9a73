"""How often clients may ask: the buckets of one worker."""

from __future__ import annotations

from dataclasses import dataclass

from components.controller.config import ControllerConfig, RateLimit
from components.controller.db.database import Database
from components.controller.requests.rate_limit import RateLimiter, Welcome
from components.controller.requests.shared_rate_limit import HOME_SECONDS, SharedRateLimiter

# How often a process tells the others that somebody goes on logging in.
_SETTLED_SECONDS = 86_400.0
# Refusals of callers without a token that are written down as events: of one address, and of all.
_REFUSED, _REFUSED_ALL = RateLimit(per_minute=30, burst=30), RateLimit(per_minute=120, burst=240)


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """One worker's buckets, and those that it shares with all workers.

    `rates`: of users, a part of what all workers let through; `takings`: of strangers and uploads, at all workers; `logins`: failed ones, by address and account; `doors`: failed logins and registrations, by address;
    `welcome`: logins that succeeded, by address and account; `settled`: those of them that the other workers were told; `refused`, `refused_all`: anonymous calls written down, by address and of all.
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
        """Return full buckets, as large as configured."""
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
