"""Applications for views: columns, read with one statement that is compiled once.

The most frequent reads avoid mapped objects: one costs the processor several times as much as its columns
(docs/decisions/0011-controller-speed.md).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import Connection, bindparam, func, literal_column, select

from components.controller.accounts.auth import Caller
from components.controller.db.models import App, Route, ServiceBinding, ServiceConfig, version_of
from components.controller.errors import no_app

# The separator of names: neither a host nor the name of a service contains it.
_BETWEEN = "/"
# A literal part of the statement: with a bound text the library would compile every statement anew.
_SEPARATOR: Any = literal_column(f"'{_BETWEEN}'")
_HOSTS = select(func.aggregate_strings(Route.url, _SEPARATOR)).where(Route.app_id == App.id)
_ALIASES = (
    select(func.aggregate_strings(ServiceConfig.alias, _SEPARATOR))
    .join(ServiceBinding, ServiceBinding.config_id == ServiceConfig.id)
    .where(ServiceBinding.app_id == App.id)
)
_GATHERED = {"hosts": _HOSTS.scalar_subquery(), "aliases": _ALIASES.scalar_subquery()}


@dataclass(frozen=True, slots=True)
class AppSummary:
    """One application; each field is a column of `apps`, but for the last two: names with a slash between them, or None."""

    id: int
    name: str
    framework: str
    runtime: str
    state: str
    package_state: str
    package_hash: str | None
    staged_package_hash: str | None
    run_count: int
    instances: int
    memory: int
    disk_quota: int
    file_descriptors: int
    environment: list[str]
    details: dict[str, Any]
    lock_version: int
    created_at: int
    updated_at: int
    hosts: str | None
    aliases: str | None

    @property
    def version(self) -> str:
        """Return the version of its instances."""
        return version_of(self.id, self.staged_package_hash, self.package_hash, self.run_count)

    @property
    def uris(self) -> list[str]:
        """Return the application's hosts, sorted."""
        return names(self.hosts)

    @property
    def services(self) -> list[str]:
        """Return the aliases of its bound services, sorted."""
        return names(self.aliases)


# In the order of the fields: `AppSummary(*row)`.
COLUMNS: list[Any] = [_GATHERED.get(f.name, getattr(App, f.name, None)) for f in fields(AppSummary)]
_OF_OWNER = select(*COLUMNS).where(App.owner_id == bindparam("owner_id"))
_ALL = _OF_OWNER.order_by(App.name)
_ONE = _OF_OWNER.where(App.name == bindparam("name"))
_NAMES = select(*_GATHERED.values()).select_from(App).where(App.id == bindparam("app_id"))


def owned(asked: Connection, caller: Caller) -> list[AppSummary]:
    """Return the caller's applications, sorted by name."""
    return [AppSummary(*row) for row in asked.execute(_ALL, {"owner_id": caller.id})]


def find(asked: Connection, caller: Caller, name: str) -> AppSummary:
    """Return an application of the caller.

    Raises:
        ApiError: APP_NOT_FOUND.
    """
    row = asked.execute(_ONE, {"owner_id": caller.id, "name": name}).one_or_none()
    if row is None:
        raise no_app()
    return AppSummary(*row)


def attached(asked: Connection, app_id: int) -> tuple[list[str], list[str]]:
    """Return an application's hosts and the aliases of its bound services, both sorted."""
    hosts, aliases = asked.execute(_NAMES, {"app_id": app_id}).one()
    return names(hosts), names(aliases)


def names(gathered: str | None) -> list[str]:
    """Return the names that the database joined into one text."""
    return sorted(gathered.split(_BETWEEN)) if gathered else []
