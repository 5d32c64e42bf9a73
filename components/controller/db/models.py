"""The tables of ccdb with the desired state. Columns that the bulk API shows have the names of 2011 (protocol 1.15)."""

from __future__ import annotations

import uuid
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, BigInteger, Float, ForeignKey, Integer, String, Text, UniqueConstraint, false
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from components.common.states import AppState, PackageState

# The MB of disk that an instance reserves.
DISK_QUOTA = 2048

# SQLite generates only INTEGER keys by itself.
Id = BigInteger().with_variant(Integer, "sqlite")


class StagingState(StrEnum):
    """The state of a staging; FAILED and CANCELLED have its reason in `error`."""

    RUNNING = "RUNNING"
    DONE = "DONE"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class UpdateState(StrEnum):
    """The state of a rolling update: open, or ended, in the words of 2011."""

    UPDATING = "UPDATING"
    GOING_BACK = "GOING_BACK"
    SUCCEEDED = "SUCCEEDED"
    CANARY_FAILED = "CANARY_FAILED"


OPEN_UPDATES = (UpdateState.UPDATING, UpdateState.GOING_BACK)


class Base(DeclarativeBase):
    """The root of the mapped classes."""


class User(Base):
    """A person; `crypted_password` is an argon2 hash."""

    __tablename__ = "users"

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    email: Mapped[str] = mapped_column(String(255), unique=True)
    crypted_password: Mapped[str] = mapped_column(String(255))
    admin: Mapped[bool] = mapped_column(default=False)
    # Tokens carry the epoch: a new one makes all earlier tokens void. 0: none was ever chosen.
    token_epoch: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    # SHA-256 of one token that stays valid: the one by which the password was last changed.
    token_kept: Mapped[str | None] = mapped_column(String(64))
    # Whether the account is self-registered: such accounts have a common limit.
    registered: Mapped[bool] = mapped_column(default=False, server_default=false(), index=True)
    created_at: Mapped[int] = mapped_column(BigInteger)

    apps: Mapped[list[App]] = relationship(back_populates="owner", order_by="App.name")


def version_of(id_: int, droplet: str | None, package: str | None, run_count: int) -> str:
    """Return the version of an application's instances: `<hash>-<run count>`."""
    return f"{droplet or package or uuid.uuid5(uuid.NAMESPACE_OID, str(id_)).hex}-{run_count}"


class App(Base):
    """An application as desired. `memory` and `disk_quota` are MB; times are whole seconds since 1970."""

    __tablename__ = "apps"
    __table_args__ = (UniqueConstraint("owner_id", "name"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    owner_id: Mapped[int] = mapped_column(ForeignKey("users.id"), index=True)
    name: Mapped[str] = mapped_column(String(255))
    framework: Mapped[str] = mapped_column(String(64))
    # Empty: the framework decides.
    runtime: Mapped[str] = mapped_column(String(64), default="")
    state: Mapped[str] = mapped_column(String(16), default=AppState.STOPPED, index=True)
    package_state: Mapped[str] = mapped_column(String(16), default=PackageState.PENDING)
    package_hash: Mapped[str | None] = mapped_column(String(40), index=True)
    staged_package_hash: Mapped[str | None] = mapped_column(String(40), index=True)
    # The digest of the droplet's inputs: no droplet is built twice from the same ones.
    staged_from: Mapped[str | None] = mapped_column(String(40))
    # The droplet of the last start: the run count begins anew with another one.
    started_package_hash: Mapped[str | None] = mapped_column(String(40))
    instances: Mapped[int] = mapped_column(default=0)
    memory: Mapped[int] = mapped_column(default=256)
    disk_quota: Mapped[int] = mapped_column(default=DISK_QUOTA)
    file_descriptors: Mapped[int] = mapped_column(default=256)
    environment: Mapped[list[str]] = mapped_column(JSON, default=list)
    # `debug`, `console`, `command`: protocol 1.7's free-form `meta`.
    details: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    run_count: Mapped[int] = mapped_column(default=0)
    # The revision of the last start; None before the first start.
    revision: Mapped[int | None]
    lock_version: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[int] = mapped_column(BigInteger)
    updated_at: Mapped[int] = mapped_column(BigInteger)

    owner: Mapped[User] = relationship(back_populates="apps")
    # The database itself removes these rows with their application.
    routes: Mapped[list[Route]] = relationship(
        back_populates="app", cascade="all, delete-orphan", order_by="Route.url", passive_deletes=True
    )
    bindings: Mapped[list[ServiceBinding]] = relationship(
        back_populates="app", cascade="all, delete-orphan", order_by="ServiceBinding.id", passive_deletes=True
    )

    @property
    def version(self) -> str:
        """Return the version of its instances: `<hash>-<run count>` (protocol 1.7)."""
        return version_of(self.id, self.staged_package_hash, self.package_hash, self.run_count)

    @property
    def uris(self) -> list[str]:
        """Return the application's hosts, sorted."""
        return sorted(route.url for route in self.routes)

    @property
    def services(self) -> list[str]:
        """Return the aliases of its bound services, sorted."""
        return sorted(binding.config.alias for binding in self.bindings)


class Route(Base):
    """A host name that belongs to exactly one application."""

    __tablename__ = "routes"

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    url: Mapped[str] = mapped_column(String(255), unique=True)
    app_id: Mapped[int] = mapped_column(ForeignKey("apps.id", ondelete="CASCADE"), index=True)

    app: Mapped[App] = relationship(back_populates="routes")


class Service(Base):
    """An offering of a gateway (protocol 1.14); `name` is the vendor, `timeout` seconds, `last_seen` its last announcement."""

    __tablename__ = "services"

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    label: Mapped[str] = mapped_column(String(255), unique=True)
    name: Mapped[str] = mapped_column(String(255), index=True)
    version: Mapped[str] = mapped_column(String(255))
    url: Mapped[str] = mapped_column(String(1024))
    description: Mapped[str | None] = mapped_column(Text)
    info_url: Mapped[str | None] = mapped_column(String(1024))
    tags: Mapped[list[str]] = mapped_column(JSON, default=list)
    plans: Mapped[list[str]] = mapped_column(JSON, default=list)
    plan_options: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    binding_options: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    acls: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    active: Mapped[bool] = mapped_column(default=True)
    timeout: Mapped[int | None]
    last_seen: Mapped[float] = mapped_column(Float)
    created_at: Mapped[int] = mapped_column(BigInteger)


class ServiceConfig(Base):
    """An instance of an offering; `alias` is the user's name for it, `name` the gateway's (`service_id`)."""

    __tablename__ = "service_configs"
    __table_args__ = (UniqueConstraint("user_id", "alias"),)

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    service_id: Mapped[int] = mapped_column(ForeignKey("services.id"), index=True)
    alias: Mapped[str] = mapped_column(String(255))
    name: Mapped[str] = mapped_column(String(255), unique=True)
    data: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    credentials: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    plan: Mapped[str] = mapped_column(String(255))
    plan_option: Mapped[str | None] = mapped_column(String(255))
    created_at: Mapped[int] = mapped_column(BigInteger)
    updated_at: Mapped[int] = mapped_column(BigInteger)

    service: Mapped[Service] = relationship(lazy="joined")


class BindingToken(Base):
    """A permission to bind an instance. One that a binding made itself (`auto_generated`) is removed with the binding."""

    __tablename__ = "binding_tokens"

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    uuid: Mapped[str] = mapped_column(String(36), unique=True)
    config_id: Mapped[int] = mapped_column(ForeignKey("service_configs.id", ondelete="CASCADE"), index=True)
    binding_options: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    auto_generated: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[int] = mapped_column(BigInteger)

    config: Mapped[ServiceConfig] = relationship()


class ServiceBinding(Base):
    """An application's binding to an instance; `name` is the gateway's handle, `credentials` are this binding's own."""

    __tablename__ = "service_bindings"
    __table_args__ = (UniqueConstraint("app_id", "config_id"),)

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    app_id: Mapped[int] = mapped_column(ForeignKey("apps.id", ondelete="CASCADE"))
    config_id: Mapped[int] = mapped_column(ForeignKey("service_configs.id", ondelete="CASCADE"), index=True)
    token_id: Mapped[int] = mapped_column(ForeignKey("binding_tokens.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(255), index=True)
    configuration: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    credentials: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    binding_options: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    created_at: Mapped[int] = mapped_column(BigInteger)

    app: Mapped[App] = relationship(back_populates="bindings")
    config: Mapped[ServiceConfig] = relationship(lazy="joined")
    token: Mapped[BindingToken] = relationship(lazy="joined")


class Staging(Base):
    """The last staging of an application. While RUNNING its controller renews `alive_at`; without renewal it is over."""

    __tablename__ = "stagings"

    app_id: Mapped[int] = mapped_column(ForeignKey("apps.id", ondelete="CASCADE"), primary_key=True)
    task: Mapped[str] = mapped_column(String(32))
    built_from: Mapped[str] = mapped_column(String(40))
    state: Mapped[str] = mapped_column(String(16))
    started_at: Mapped[float] = mapped_column(Float)
    alive_at: Mapped[float] = mapped_column(Float)
    error: Mapped[str] = mapped_column(Text, default="")
    log: Mapped[str] = mapped_column(Text, default="")


class AppRevision(Base):
    """A droplet with which an application was started. `kept`: its droplet and its package are still on the share.

    `command` is None where the framework decided; `run_count` is that of the droplet's last start.
    """

    __tablename__ = "app_revisions"

    app_id: Mapped[int] = mapped_column(ForeignKey("apps.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    droplet: Mapped[str] = mapped_column(String(40), index=True)
    package: Mapped[str | None] = mapped_column(String(40), index=True)
    built_from: Mapped[str | None] = mapped_column(String(40))
    framework: Mapped[str] = mapped_column(String(64))
    runtime: Mapped[str] = mapped_column(String(64))
    command: Mapped[Any | None] = mapped_column(JSON(none_as_null=True))
    run_count: Mapped[int] = mapped_column(default=0)
    by: Mapped[str] = mapped_column(String(255))
    created_at: Mapped[int] = mapped_column(BigInteger)
    kept: Mapped[bool] = mapped_column(default=True)


class AppUpdate(Base):
    """The last rolling update of an application (docs/decisions/0007-the-core.md).

    `state` is `UPDATING` or `GOING_BACK` while it is open, else `SUCCEEDED` or `CANARY_FAILED`. The controller that works on
    it renews `alive_until`; `serial` changes with every update. `asked` has the instances that are starting: index (as text)
    to the time of the request. `instances` and `replaced` are counts, times are the database's clock.
    """

    __tablename__ = "app_updates"

    app_id: Mapped[int] = mapped_column(ForeignKey("apps.id", ondelete="CASCADE"), primary_key=True)
    serial: Mapped[str] = mapped_column(String(32))
    state: Mapped[str] = mapped_column(String(16), index=True)
    from_version: Mapped[str] = mapped_column(String(64))
    to_version: Mapped[str] = mapped_column(String(64))
    from_revision: Mapped[int | None]
    to_revision: Mapped[int | None]
    from_run_count: Mapped[int] = mapped_column(default=0)
    instances: Mapped[int] = mapped_column(default=0)
    replaced: Mapped[int] = mapped_column(default=0)
    asked: Mapped[dict[str, float]] = mapped_column(JSON, default=dict)
    message: Mapped[str] = mapped_column(Text, default="")
    by: Mapped[str] = mapped_column(String(255), default="")
    holder: Mapped[str] = mapped_column(String(64), default="")
    alive_until: Mapped[float] = mapped_column(Float, default=0.0)
    started_at: Mapped[float] = mapped_column(Float)
    changed_at: Mapped[float] = mapped_column(Float)

    @property
    def open(self) -> bool:
        """Return whether instances are being replaced, forward or back."""
        return self.state in OPEN_UPDATES

    @property
    def other(self) -> str:
        """Return the version that is being replaced; each of its instances serves until its successor does."""
        return self.to_version if self.state == UpdateState.GOING_BACK else self.from_version


class AppBefore(Base):
    """An application before and after an unproven change (`saved_states`), each in the form of `change_plan.AppSpec`.

    `of` is `change` until an update begins to deploy it, then `update`; `key` is the row's lock version, or the update's serial.
    """

    __tablename__ = "app_befores"

    app_id: Mapped[int] = mapped_column(ForeignKey("apps.id", ondelete="CASCADE"), primary_key=True)
    of: Mapped[str] = mapped_column(String(16), primary_key=True)
    key: Mapped[str] = mapped_column(String(32))
    before: Mapped[dict[str, Any]] = mapped_column(JSON)
    after: Mapped[dict[str, Any]] = mapped_column(JSON)


class Upload(Base):
    """A permission to deliver one droplet; `droplet_hash` is set once it was delivered."""

    __tablename__ = "uploads"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    app_id: Mapped[int] = mapped_column(ForeignKey("apps.id", ondelete="CASCADE"), index=True)
    droplet_hash: Mapped[str | None] = mapped_column(String(40), index=True)
    created_at: Mapped[float] = mapped_column(Float)


class Lease(Base):
    """A leadership and its holder; `token` grows with every change of holder. Times are the database's clock."""

    __tablename__ = "leases"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    holder: Mapped[str] = mapped_column(String(128), default="")
    token: Mapped[int] = mapped_column(BigInteger, default=0)
    expires_at: Mapped[float] = mapped_column(Float, default=0.0)
    # The lease's duration in seconds: an end that is farther away comes from another clock.
    ttl: Mapped[float | None] = mapped_column(Float)


class Machine(Base):
    """A DEA's last beat, so that a starting controller knows of a lost DEA."""

    __tablename__ = "machines"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    beat: Mapped[dict[str, Any]] = mapped_column(JSON)
    last_seen: Mapped[float] = mapped_column(Float)


class Event(Base):
    """A change: its caller, address, request and result; `app` is a name, or empty. `outcome` is a text."""

    __tablename__ = "events"

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    at: Mapped[float] = mapped_column(Float, index=True)
    who: Mapped[str] = mapped_column(String(255), index=True)
    acting_for: Mapped[str] = mapped_column(String(255), default="")
    method: Mapped[str] = mapped_column(String(8))
    path: Mapped[str] = mapped_column(String(512))
    status: Mapped[int]
    app: Mapped[str] = mapped_column(String(255), default="", server_default="")
    origin: Mapped[str] = mapped_column(String(64), default="", server_default="")
    outcome: Mapped[str] = mapped_column(String(512), default="", server_default="")
