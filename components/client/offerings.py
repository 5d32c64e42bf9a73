"""The services on offer, read from the catalogue, and the choice of one. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from components.client.errors import ClientError

NONE_OFFERED = "no services are offered now"


@dataclass(frozen=True, slots=True)
class Offering:
    """A service on offer: `plans` in the platform's order."""

    type: str
    vendor: str
    version: str
    description: str
    plans: tuple[str, ...]

    def plan(self, wanted: str | None) -> str:
        """Return the plan of that name; by default `free`, else the first.

        Raises:
            ClientError: there is no such plan.
        """
        if wanted is None:
            return "free" if "free" in self.plans or not self.plans else self.plans[0]
        if self.plans and wanted not in self.plans:
            raise ClientError(
                f"{self.vendor} {self.version} has no plan {wanted!r}", f"it has: {', '.join(self.plans)}"
            )
        return wanted


def offerings_of(catalogue: Mapping[str, Any]) -> list[Offering]:
    """Return the services of `GET /info/services`."""
    return [
        Offering(
            kind,
            vendor,
            version,
            str(facts.get("description") or ""),
            tuple(sorted(tiers, key=lambda plan: (tiers[plan] or {}).get("order", 0))),
        )
        for kind, vendors in catalogue.items()
        for vendor, versions in vendors.items()
        for version, facts in versions.items()
        for tiers in [facts.get("tiers") or {}]
    ]


def choose(offerings: Sequence[Offering], wanted: str) -> Offering:
    """Return the service that is meant by `redis`, or by `redis-7.0`.

    Raises:
        ClientError: there is none; lists those on offer.
    """
    found = [o for o in offerings if wanted.lower() in {o.vendor, f"{o.vendor}-{o.version}"}]
    if found:
        return found[-1]
    if not offerings:
        raise ClientError(NONE_OFFERED, "their gateways may be starting: try again, or ask an operator")
    known = ", ".join(sorted({o.vendor for o in offerings}))
    raise ClientError(f"there is no service {wanted!r}", f"choose one of: {known}")


def wish(offering: Offering, name: str, plan: str | None = None) -> dict[str, str]:
    """Return the body of `POST /services`.

    Raises:
        ClientError: there is no such plan.
    """
    return {
        "type": offering.type,
        "vendor": offering.vendor,
        "version": offering.version,
        "tier": offering.plan(plan),
        "name": name,
    }
