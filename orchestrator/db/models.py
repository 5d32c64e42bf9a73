"""The orchestrator's tables: machines it made, images it may use, and the journal of jobs."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Float, ForeignKey, Integer, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

# States of a machine, in the order it goes through them.
PLANNED, CREATING, REACHING, CONFIGURING, READY = "planned", "creating", "reaching", "configuring", "ready"
DRAINING, LEAVING = "draining", "leaving"
# States beside the way: a job left a machine as `failed` and an operator is needed; a `lost` one does not answer.
LOST = "lost"
MACHINE_STATES = (PLANNED, CREATING, REACHING, CONFIGURING, READY, DRAINING, LEAVING, "failed", LOST)

# States of a job and of its steps; jobs end `succeeded` or `failed`, steps `done` or `failed`.
WAITING, RUNNING, SUCCEEDED, FAILED, DONE = "waiting", "running", "succeeded", "failed", "done"
JOB_STATES = (WAITING, RUNNING, SUCCEEDED, FAILED)

# States of an image, beside `failed`: of its import. The provider tells whether it has the image.
REGISTERED, IMPORTING = "registered", "importing"

# SQLite numbers INTEGER keys only.
Id = BigInteger().with_variant(Integer, "sqlite")


class Base(DeclarativeBase):
    """The root of the mapped classes."""


class Machine(Base):
    """A machine the orchestrator made, or is making; fixed ones are the inventory's and have no row.

    `native` is the provider's name of it, `since` the time of its state (seconds since 1970),
    `message` the reason of the state where it is not plain, `job` the last job that changed it.
    """

    __tablename__ = "machines"

    name: Mapped[str] = mapped_column(String(63), primary_key=True)
    pool: Mapped[str] = mapped_column(String(64), index=True)
    provider: Mapped[str] = mapped_column(String(64))
    image: Mapped[str] = mapped_column(String(255))
    groups: Mapped[list[str]] = mapped_column(JSON, default=list)
    native: Mapped[str] = mapped_column(String(255), default="")
    address: Mapped[str] = mapped_column(String(64), default="")
    # As in a known_hosts file, without the host: `ssh-ed25519 AAAA…`; empty until pinned.
    host_key: Mapped[str] = mapped_column(Text, default="")
    state: Mapped[str] = mapped_column(String(16), default=PLANNED, index=True)
    message: Mapped[str] = mapped_column(Text, default="")
    job: Mapped[int | None] = mapped_column(BigInteger)
    since: Mapped[float] = mapped_column(Float)
    created: Mapped[float] = mapped_column(Float)


class Image(Base):
    """An image an operator registered with a provider; machines are made from these only."""

    __tablename__ = "images"

    provider: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(255), primary_key=True)
    # The source of its import; empty where the provider had it already.
    source: Mapped[str] = mapped_column(Text, default="")
    state: Mapped[str] = mapped_column(String(16), default=REGISTERED)
    message: Mapped[str] = mapped_column(Text, default="")
    since: Mapped[float] = mapped_column(Float)


class Job(Base):
    """One operation. `wish` is the request, `facts` the present knowledge; times are seconds since 1970."""

    __tablename__ = "jobs"
    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012 - SQLAlchemy's own shape

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    kind: Mapped[str] = mapped_column(String(32), index=True)
    wish: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    facts: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    state: Mapped[str] = mapped_column(String(16), default=WAITING, index=True)
    by: Mapped[str] = mapped_column(String(255), default="")
    created: Mapped[float] = mapped_column(Float)
    started: Mapped[float | None] = mapped_column(Float)
    ended: Mapped[float | None] = mapped_column(Float)
    message: Mapped[str] = mapped_column(Text, default="")
    way_out: Mapped[str] = mapped_column(Text, default="")
    # The locks of its work, kept when they are freed: a resumed job takes them again.
    locks: Mapped[list[str]] = mapped_column(JSON, default=list)

    steps: Mapped[list[Step]] = relationship(
        back_populates="job", order_by="Step.position", cascade="all, delete-orphan"
    )


class Step(Base):
    """One step of a job; `position` counts from 0."""

    __tablename__ = "steps"

    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(64))
    machines: Mapped[list[str]] = mapped_column(JSON, default=list)
    state: Mapped[str] = mapped_column(String(16), default=WAITING)
    started: Mapped[float | None] = mapped_column(Float)
    ended: Mapped[float | None] = mapped_column(Float)
    message: Mapped[str] = mapped_column(Text, default="")

    job: Mapped[Job] = relationship(back_populates="steps")


class Line(Base):
    """One line of progress; `n` counts from 1 within its job, `step` names the step that wrote it."""

    __tablename__ = "lines"

    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    n: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[float] = mapped_column(Float)
    step: Mapped[str | None] = mapped_column(String(64))
    text: Mapped[str] = mapped_column(Text)


class Lock(Base):
    """A lock that a job holds while it works: `pool:dea`, `machine:dea3`, `*`."""

    __tablename__ = "locks"

    name: Mapped[str] = mapped_column(String(128), primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), index=True)
