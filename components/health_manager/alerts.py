"""Alerts for operators, each reported once at its beginning and once at its end.

A log event `alert` with `alert`, `subject` and the facts, `alert_over` when it has passed; counted in
`ingot_hm_alerts_total` and, while they last, in `ingot_hm_alerts_active`; and passed to the webhooks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import Counter, Gauge

from components.common import log

DEA_LOST, APP_FLAPPING, APP_GIVEN_UP, PICTURE_STALE, CAPACITY_LOW = (
    "dea_lost",
    "app_flapping",
    "app_given_up",
    "picture_stale",
    "capacity_low",
)
KINDS = (DEA_LOST, APP_FLAPPING, APP_GIVEN_UP, PICTURE_STALE, CAPACITY_LOW)
ALERTS = Counter("ingot_hm_alerts_total", "Alerts raised.", ["alert"])
ACTIVE = Gauge("ingot_hm_alerts_active", "Alerts that last.", ["alert"])
logger = log.get(__name__)


@dataclass(frozen=True, slots=True)
class Alert:
    """The beginning or, with `over`, the end of one alert. Times are seconds since 1970."""

    kind: str
    subject: str
    since: float
    facts: dict[str, Any] = field(default_factory=dict)
    over: bool = False


class Alerts:
    """The present alerts, by kind and subject.

    Args:
        told: called with each beginning and each end.
    """

    def __init__(self, told: Callable[[Alert], None] = lambda _alert: None) -> None:
        self._told = told
        self._active: dict[str, dict[str, Alert]] = {kind: {} for kind in KINDS}
        for kind in KINDS:
            ALERTS.labels(kind)
            ACTIVE.labels(kind).set(0)

    def active(self, kind: str) -> list[str]:
        """Return the subjects of a kind's present alerts."""
        return sorted(self._active[kind])

    def lasting(self) -> list[dict[str, Any]]:
        """Return all present alerts, the oldest first, as `/varz` shows them."""
        alerts = sorted((a for of in self._active.values() for a in of.values()), key=lambda a: a.since)
        return [
            {"alert": a.kind, "subject": a.subject, "since": int(a.since), "facts": a.facts} for a in alerts
        ]

    def set(self, kind: str, subject: str, *, on: bool, **facts: object) -> None:
        """Raise or end an alert; do nothing when that is already so."""
        active = self._active[kind]
        if on == (subject in active):
            return
        if on:
            alert = active[subject] = Alert(kind, subject, time.time(), facts)
            ALERTS.labels(kind).inc()
            logger.warning("alert", alert=kind, subject=subject, **facts)
        else:
            begun = active.pop(subject)
            alert = Alert(kind, subject, begun.since, begun.facts, over=True)
            logger.info("alert_over", alert=kind, subject=subject)
        ACTIVE.labels(kind).set(len(active))
        self._told(alert)

    def keep(self, kind: str, subjects: Iterable[str]) -> None:
        """End the alerts of a kind whose subject is not among these."""
        for subject in self._active[kind].keys() - set(subjects):
            self.set(kind, subject, on=False)
