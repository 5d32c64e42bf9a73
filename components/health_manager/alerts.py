"""Alerts: what an operator should know, said once when it begins and once when it ends.

A log event `alert` with `alert`, `subject` and the facts, `alert_over` when it has passed; counted in
`ingot_hm_alerts_total` and, while they last, in `ingot_hm_alerts_active`.
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import Counter, Gauge

from components.common import log

DEA_LOST, APP_FLAPPING, APP_GIVEN_UP, PICTURE_STALE = (
    "dea_lost",
    "app_flapping",
    "app_given_up",
    "picture_stale",
)
ALERTS = Counter("ingot_hm_alerts_total", "Alerts raised.", ["alert"])
ACTIVE = Gauge("ingot_hm_alerts_active", "Alerts that last.", ["alert"])
logger = log.get(__name__)


class Alerts:
    """The alerts that last, by kind and subject."""

    def __init__(self) -> None:
        self._active: dict[str, set[str]] = {}
        for kind in (DEA_LOST, APP_FLAPPING, APP_GIVEN_UP, PICTURE_STALE):
            ALERTS.labels(kind)
            ACTIVE.labels(kind).set(0)

    def active(self, kind: str) -> list[str]:
        """Give the subjects of the alerts of a kind that last."""
        return sorted(self._active.get(kind, ()))

    def set(self, kind: str, subject: str, *, on: bool, **facts: object) -> None:
        """Raise or end an alert; does nothing when that is already so."""
        subjects = self._active.setdefault(kind, set())
        if on == (subject in subjects):
            return
        if on:
            subjects.add(subject)
            ALERTS.labels(kind).inc()
            logger.warning("alert", alert=kind, subject=subject, **facts)
        else:
            subjects.discard(subject)
            logger.info("alert_over", alert=kind, subject=subject)
        ACTIVE.labels(kind).set(len(subjects))

    def keep(self, kind: str, subjects: Iterable[str]) -> None:
        """End the alerts of a kind whose subject is not among these."""
        for subject in self._active.get(kind, set()) - set(subjects):
            self.set(kind, subject, on=False)
