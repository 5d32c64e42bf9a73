"""The tables of ccdb beside applications: its identity, limits of accounts, one-off tasks, usage by day."""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import JSON, BigInteger, Float, ForeignKey, String, Text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from components.controller.db.models import App, Base


class TaskState(StrEnum):
    """The state of a one-off task."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


OPEN_TASKS = (TaskState.PENDING, TaskState.RUNNING)


class Identity(Base):
    """The one row that identifies this database; a restored copy keeps the name."""

    __tablename__ = "identity"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(String(32))


class Quota(Base):
    """An account's own limits, MB and counts; null means the platform's default."""

    __tablename__ = "quotas"

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    memory: Mapped[int | None]
    apps: Mapped[int | None]
    app_uris: Mapped[int | None]
    services: Mapped[int | None]
    instances: Mapped[int | None]
    disk: Mapped[int | None]
    routes: Mapped[int | None]
    builds: Mapped[int | None]
    storage: Mapped[int | None]


class Taking(Base):
    """A bucket of `shared_rate_limit.level` for rare actions of strangers and accounts, by `key`; `at` is the database's clock."""

    __tablename__ = "takings"

    key: Mapped[str] = mapped_column(String(400), primary_key=True)
    level: Mapped[float] = mapped_column(Float)
    at: Mapped[float] = mapped_column(Float, index=True)


class Worker(Base):
    """A process that serves the API; `seen` is a time of the database's clock."""

    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    seen: Mapped[float] = mapped_column(Float)


class Task(Base):
    """A command run once beside an application. `memory` MB; times are seconds since 1970.

    `dea` is written before the request to it, so that a later reader of the row knows where the task may run.
    """

    __tablename__ = "tasks"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    app_id: Mapped[int] = mapped_column(ForeignKey("apps.id", ondelete="CASCADE"), index=True)
    command: Mapped[str] = mapped_column(Text)
    memory: Mapped[int]
    timeout: Mapped[float] = mapped_column(Float)
    state: Mapped[str] = mapped_column(String(16), index=True)
    exit_status: Mapped[int | None]
    detail: Mapped[str] = mapped_column(Text, default="")
    # The last lines of its output, once it has ended.
    tail: Mapped[str] = mapped_column(Text, default="")
    dea: Mapped[str] = mapped_column(String(64), default="")
    log_uri: Mapped[str] = mapped_column(String(1024), default="")
    credentials: Mapped[list[str]] = mapped_column(JSON, default=list)
    by: Mapped[str] = mapped_column(String(255))
    created_at: Mapped[float] = mapped_column(Float)
    started_at: Mapped[float | None] = mapped_column(Float)
    ended_at: Mapped[float | None] = mapped_column(Float, index=True)

    app: Mapped[App] = relationship()


class UsageDay(Base):
    """The reservation and usage of an application on a day (UTC). The row outlives the application and its owner, with names."""

    __tablename__ = "usage_days"

    day: Mapped[str] = mapped_column(String(10), primary_key=True)
    app_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    user_id: Mapped[int] = mapped_column(BigInteger, index=True)
    email: Mapped[str] = mapped_column(String(255))
    app: Mapped[str] = mapped_column(String(255))
    reserved_mb_seconds: Mapped[float] = mapped_column(Float, default=0.0)
    used_mb_seconds: Mapped[float] = mapped_column(Float, default=0.0)
    cpu_seconds: Mapped[float] = mapped_column(Float, default=0.0)
    requests: Mapped[int] = mapped_column(BigInteger, default=0)
    restarts: Mapped[int] = mapped_column(BigInteger, default=0)
