"""Applications as they are shown: columns, read with one statement that is made once.

What is read most often wants no objects: a row of the mapped class costs the processor several times what its columns do
(docs/decisions/0011-controller-speed.md).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import Connection, bindparam, func, literal_column, select

from components.controller.accounts.auth import Caller
from components.controller.db.models import App, Route, ServiceBinding, ServiceConfig, version_of
from components.controller.errors import no_app

# Neither a host nor the name of a service has it.
_BETWEEN = "/"
# As a part of the statement: for a text the library would put every statement together anew.
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
    hosts: str | None
    aliases: str | None

    @property
    def version(self) -> str:
        """The version its instances carry."""
        return version_of(self.id, self.staged_package_hash, self.package_hash, self.run_count)

    @property
    def uris(self) -> list[str]:
        """The hosts it answers to, sorted."""
        return names(self.hosts)

    @property
    def services(self) -> list[str]:
        """The aliases of what is bound to it, sorted."""
        return names(self.aliases)


# In the order of the fields: `AppSummary(*row)`.
COLUMNS: list[Any] = [_GATHERED.get(f.name, getattr(App, f.name, None)) for f in fields(AppSummary)]
_OF_OWNER = select(*COLUMNS).where(App.owner_id == bindparam("owner_id"))
_ALL = _OF_OWNER.order_by(App.name)
_ONE = _OF_OWNER.where(App.name == bindparam("name"))
_NAMES = select(*_GATHERED.values()).select_from(App).where(App.id == bindparam("app_id"))


def owned(asked: Connection, caller: Caller) -> list[AppSummary]:
    """Give all the caller owns, by name."""
    return [AppSummary(*row) for row in asked.execute(_ALL, {"owner_id": caller.id})]


def find(asked: Connection, caller: Caller, name: str) -> AppSummary:
    """Give an application the caller owns.

    Raises:
        ApiError: 301.
    """
    row = asked.execute(_ONE, {"owner_id": caller.id, "name": name}).one_or_none()
    if row is None:
        raise no_app()
    return AppSummary(*row)


def attached(asked: Connection, app_id: int) -> tuple[list[str], list[str]]:
    """Give the hosts an application answers to, and the aliases of what is bound to it, both sorted."""
    hosts, aliases = asked.execute(_NAMES, {"app_id": app_id}).one()
    return names(hosts), names(aliases)


def names(gathered: str | None) -> list[str]:
    """Take names apart as the database puts them together."""
    return sorted(gathered.split(_BETWEEN)) if gathered else []
