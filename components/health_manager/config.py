"""Configuration of the health manager (`/etc/ingot/health_manager.yml`)."""

from __future__ import annotations

import msgspec

from components.common.config import DaemonConfig


class Intervals(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Timings in seconds, and related limits (protocol 5.1).

    The names are the protocol's where it has one. A default that differs from 2012's is tighter, because the DEAs
    beat every second, or gentler to an application that crashed once or twice.
    """

    # Desired state.
    desired_interval: float = 5.0  # reload by the bulk API (database_scan: 60)
    desired_max_age: float = 20.0  # older than this it cannot be trusted
    # Actual state.
    beats_missed: float = 4.0  # a DEA silent for so many of its announced intervals is lost
    stopping_grace: float = 15.0  # an agent that said it stops may be away so long: a restart, not a loss
    droplet_lost: float = 30.0  # the same for an instance, and for a DEA that announces no interval
    crash_memory: float = 300.0  # how long a crash is remembered for `healthmanager.status`
    # Repairs.
    droplets_analysis: float = 5.0  # a full pass; what changed is looked at immediately
    restart_timeout: float = 10.0  # between two requests for one index
    stable_state: float = 10.0  # leave alone what its owner has just changed
    version_grace: float = 60.0  # an old version without a successor may run so long
    flapping_death: int = 3  # more crashes than this: flapping
    flapping_timeout: float = 500.0  # quiet for so long: the count starts again
    min_restart_delay: float = 60.0  # doubled with each further crash ...
    max_restart_delay: float = 480.0  # ... up to this
    giveup_crash_number: int = 7  # more crashes than this: given up; negative: never
    dequeueing_rate: float = 50.0  # requests per second
    starts_in_flight: int = (
        200  # no further START while so many are unanswered (each at most restart_timeout long)
    )
    # Trust.
    # Listen so long after a start or a reconnect before acting; half of it where all DEAs of before are heard twice.
    settle: float = 5.0
    lead_settle: float = 1.0  # and so long after becoming leader: the other's last words
    silent_share: float = 0.5  # more of the pool than this silent at once (and at least two): hold
    silent_hold: float = 60.0  # but no longer than this
    # Capacity.
    capacity_share: float = 0.1  # less of the pool's memory than this free: an alert
    # Leading.
    lease_ttl: float = 5.0
    lease_renew: float = 1.5
    nats_ping: float = 10.0

    def problems(self) -> list[str]:
        """Return the timings that contradict each other."""
        problems = [
            f"{name}: must be more than 0, not {getattr(self, name):g}"
            for name in (
                *("desired_interval", "beats_missed", "droplet_lost", "droplets_analysis", "restart_timeout"),
                *("min_restart_delay", "dequeueing_rate", "lease_ttl", "lease_renew", "nats_ping"),
            )
            if getattr(self, name) <= 0
        ]
        if not 0 < self.silent_share <= 1:
            problems.append(f"silent_share: must be more than 0 and at most 1, not {self.silent_share:g}")
        if not 0 <= self.capacity_share < 1:
            problems.append(
                f"capacity_share: must be at least 0 and less than 1, not {self.capacity_share:g}"
            )
        if self.starts_in_flight < 1:
            problems.append(f"starts_in_flight: must be at least 1, not {self.starts_in_flight}")
        if self.desired_max_age < 2 * self.desired_interval:
            problems.append("desired_max_age: must be at least twice desired_interval")
        if self.max_restart_delay < self.min_restart_delay:
            problems.append("max_restart_delay: must be at least min_restart_delay")
        if self.lease_ttl != round(self.lease_ttl):
            problems.append(f"lease_ttl: must be whole seconds, not {self.lease_ttl:g}")
        if self.lease_renew > self.lease_ttl / 2:
            problems.append(
                "lease_renew: must be at most half of lease_ttl, so that one lost answer costs nothing"
            )
        return problems


class Webhook(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The receiver of alerts: a URL, and optionally the header `header` with `secret`."""

    url: str
    header: str = "Authorization"
    secret: str = ""

    def problems(self) -> list[str]:
        """Return a problem for an invalid URL or header; neither is shown, because both may be secret."""
        problems = []
        if not self.url.startswith(("http://", "https://")) or any(c.isspace() for c in self.url):
            problems.append("url: must be http://... or https://...")
        if not self.header or not all(c.isalnum() or c == "-" for c in self.header):
            problems.append(f"header: must consist of letters, digits and dashes, not {self.header!r}")
        if not self.secret.isprintable():
            problems.append("secret: must be one line")
        return problems


class HealthManagerConfig(DaemonConfig, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The health manager's configuration.

    `controllers` are base URLs, tried in turn. Without `bulk_password` the credentials come from the bus
    (`cloudcontroller.bulk.credentials`, protocol 1.15). Alerts go to the log, the metrics and each of `webhooks`.
    """

    controllers: list[str]
    bulk_user: str = "bulk_api"
    bulk_password: str = ""
    bulk_batch: int = 1000
    intervals: Intervals = Intervals()
    webhooks: list[Webhook] = msgspec.field(default_factory=list)

    def problems(self) -> list[str]:
        """Return a problem for each address that is no HTTP address."""
        problems = [
            f"controllers: must be http://host:port, not {u!r}"
            for u in self.controllers
            if not u.startswith(("http://", "https://"))
        ]
        if not self.controllers:
            problems.append("controllers: must name at least one http://host:port")
        problems.extend(f"webhooks.{n}.{p}" for n, hook in enumerate(self.webhooks) for p in hook.problems())
        if self.bulk_batch < 1:
            problems.append(f"bulk_batch: must be at least 1, not {self.bulk_batch}")
        return problems
