"""ccdb: what is desired, as rows. Column names are those of 2011 where the bulk API shows them (protocol 1.15)."""

from __future__ import annotations

import uuid
from typing import Any

from sqlalchemy import JSON, BigInteger, Float, ForeignKey, Integer, String, Text, UniqueConstraint, false
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

STARTED, STOPPED = "STARTED", "STOPPED"
PENDING, STAGED, FAILED = "PENDING", "STAGED", "FAILED"
RUNNING, DONE, CANCELLED = "RUNNING", "DONE", "CANCELLED"
UPDATING, GOING_BACK, SUCCEEDED, CANARY_FAILED = "UPDATING", "GOING_BACK", "SUCCEEDED", "CANARY_FAILED"

# MB that an instance reserves.
DISK_QUOTA = 2048

# SQLite counts only INTEGER keys up by itself.
Id = BigInteger().with_variant(Integer, "sqlite")


class Base(DeclarativeBase):
    """Root of the mapped classes."""


class User(Base):
    """A person; `crypted_password` is an argon2 hash."""

    __tablename__ = "users"

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    email: Mapped[str] = mapped_column(String(255), unique=True)
    crypted_password: Mapped[str] = mapped_column(String(255))
    admin: Mapped[bool] = mapped_column(default=False)
    # Tokens carry it: with another one, all that were issued are void. 0: none was ever chosen.
    token_epoch: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    # SHA-256 of one token that is good all the same: the one by which the password was last changed.
    token_kept: Mapped[str | None] = mapped_column(String(64))
    # Whether they made the account themselves: such accounts have a limit together.
    registered: Mapped[bool] = mapped_column(default=False, server_default=false(), index=True)
    created_at: Mapped[int] = mapped_column(BigInteger)

    apps: Mapped[list[App]] = relationship(back_populates="owner", order_by="App.name")


def version_of(id_: int, droplet: str | None, package: str | None, run_count: int) -> str:
    """Give the version that instances of an application carry: `<hash>-<run count>`."""
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
    state: Mapped[str] = mapped_column(String(16), default=STOPPED, index=True)
    package_state: Mapped[str] = mapped_column(String(16), default=PENDING)
    package_hash: Mapped[str | None] = mapped_column(String(40), index=True)
    staged_package_hash: Mapped[str | None] = mapped_column(String(40), index=True)
    # What the droplet was built from: a droplet is not built twice from the same.
    staged_from: Mapped[str | None] = mapped_column(String(40))
    # The droplet it was last started with: the run count begins anew with another one.
    started_package_hash: Mapped[str | None] = mapped_column(String(40))
    instances: Mapped[int] = mapped_column(default=0)
    memory: Mapped[int] = mapped_column(default=256)
    disk_quota: Mapped[int] = mapped_column(default=DISK_QUOTA)
    file_descriptors: Mapped[int] = mapped_column(default=256)
    environment: Mapped[list[str]] = mapped_column(JSON, default=list)
    # `debug`, `console`, `command`: protocol 1.7's free-form `meta`.
    details: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    run_count: Mapped[int] = mapped_column(default=0)
    # The revision it was last started with; None before the first start.
    revision: Mapped[int | None]
    lock_version: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[int] = mapped_column(BigInteger)
    updated_at: Mapped[int] = mapped_column(BigInteger)

    owner: Mapped[User] = relationship(back_populates="apps")
    # The database itself removes them with their application.
    routes: Mapped[list[Route]] = relationship(
        back_populates="app", cascade="all, delete-orphan", order_by="Route.url", passive_deletes=True
    )
    bindings: Mapped[list[ServiceBinding]] = relationship(
        back_populates="app", cascade="all, delete-orphan", order_by="ServiceBinding.id", passive_deletes=True
    )

    @property
    def version(self) -> str:
        """The version its instances carry: `<hash>-<run count>` (protocol 1.7)."""
        return version_of(self.id, self.staged_package_hash, self.package_hash, self.run_count)

    @property
    def uris(self) -> list[str]:
        """The hosts it answers to, sorted."""
        return sorted(route.url for route in self.routes)

    @property
    def services(self) -> list[str]:
        """The aliases of what is bound to it, sorted."""
        return sorted(binding.config.alias for binding in self.bindings)


class Route(Base):
    """A host name that belongs to an application, and to one only."""

    __tablename__ = "routes"

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    url: Mapped[str] = mapped_column(String(255), unique=True)
    app_id: Mapped[int] = mapped_column(ForeignKey("apps.id", ondelete="CASCADE"), index=True)

    app: Mapped[App] = relationship(back_populates="routes")


class Service(Base):
    """An offering of a gateway (protocol 1.14); `name` is the vendor, `timeout` seconds, `last_seen` its last word."""

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
    """A permission to bind an instance. Those made by a binding itself (`auto_generated`) go with it."""

    __tablename__ = "binding_tokens"

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    uuid: Mapped[str] = mapped_column(String(36), unique=True)
    config_id: Mapped[int] = mapped_column(ForeignKey("service_configs.id", ondelete="CASCADE"), index=True)
    binding_options: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    auto_generated: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[int] = mapped_column(BigInteger)

    config: Mapped[ServiceConfig] = relationship()


class ServiceBinding(Base):
    """What an application has of an instance; `name` is the gateway's handle, `credentials` are this binding's own."""

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
    """The last staging of an application. While RUNNING its controller renews `alive_at`; silence frees it."""

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
    """A droplet an application was started with. `kept`: its droplet and its package are still on the share.

    `command` is None where the framework decided; `run_count` is the last this droplet was started with.
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

    `state` is `UPDATING` or `GOING_BACK` while it is open, else `SUCCEEDED` or `CANARY_FAILED`. Whoever holds it renews
    `alive_until`; `serial` changes with every update. `asked` is what was started and is not up yet: index (as text) to
    the time it was asked for. `instances` and `replaced` are counts, times are the database's clock.
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
        """True while instances are being replaced, one way or the other."""
        return self.state in (UPDATING, GOING_BACK)

    @property
    def other(self) -> str:
        """The version that is leaving: what runs of it serves until its successor does."""
        return self.to_version if self.state == GOING_BACK else self.from_version


class AppBefore(Base):
    """An application before and after a change that has not proved itself (`saved_states`), each as `change_plan.AppSpec` has it.

    `of` is `change` until an update brings it, then `update`; `key` is the lock version it made, or the update's serial.
    """

    __tablename__ = "app_befores"

    app_id: Mapped[int] = mapped_column(ForeignKey("apps.id", ondelete="CASCADE"), primary_key=True)
    of: Mapped[str] = mapped_column(String(16), primary_key=True)
    key: Mapped[str] = mapped_column(String(32))
    before: Mapped[dict[str, Any]] = mapped_column(JSON)
    after: Mapped[dict[str, Any]] = mapped_column(JSON)


class Upload(Base):
    """A one-shot permission to deliver a droplet; `droplet_hash` once it was delivered."""

    __tablename__ = "uploads"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    app_id: Mapped[int] = mapped_column(ForeignKey("apps.id", ondelete="CASCADE"), index=True)
    droplet_hash: Mapped[str | None] = mapped_column(String(40), index=True)
    created_at: Mapped[float] = mapped_column(Float)


class Lease(Base):
    """Who leads what; `token` grows with every change of holder. Times are the database's clock."""

    __tablename__ = "leases"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    holder: Mapped[str] = mapped_column(String(128), default="")
    token: Mapped[int] = mapped_column(BigInteger, default=0)
    expires_at: Mapped[float] = mapped_column(Float, default=0.0)
    # For how long it was taken, seconds: an end farther away than that is one of another clock.
    ttl: Mapped[float | None] = mapped_column(Float)


class Machine(Base):
    """A DEA as last heard, so that a controller that starts knows of one that is lost."""

    __tablename__ = "machines"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    beat: Mapped[dict[str, Any]] = mapped_column(JSON)
    last_seen: Mapped[float] = mapped_column(Float)


class Event(Base):
    """Who changed what, from where, and how it ended; `app` is a name, or empty. `outcome` is a text."""

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
