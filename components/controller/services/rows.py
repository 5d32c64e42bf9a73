"""Rows of services: offerings, instances, bindings and their tokens."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from sqlalchemy import delete, exists, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from components.controller.accounts.auth import Caller
from components.controller.db.database import Database
from components.controller.db.models import BindingToken, Service, ServiceBinding, ServiceConfig
from components.controller.errors import ApiError, Code, denied
from components.controller.services.gateway_client import DEFAULT_SECONDS, Endpoint
from components.controller.services.offerings import (
    HandleRequest,
    LegacyProvisionRequest,
    OfferingRequest,
    ProvisionRequest,
    offered,
    pick,
    split_label,
)

# The age of a binding's token that a controller left behind when it was killed before the gateway answered.
FORGOTTEN_TOKEN_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Bound:
    """A binding in the form of its gateway, for the time before and after its row."""

    endpoint: Endpoint
    service_id: str
    handle: str
    options: Mapping[str, Any] = field(default_factory=dict)


def endpoint(service: Service) -> Endpoint:
    """Return the address of an offering's gateway."""
    return Endpoint(service.label, service.name, service.url, float(service.timeout or DEFAULT_SECONDS))


def register(db: Database, session: Session, request: OfferingRequest) -> None:
    """Write an offering, or the changes in its heartbeat."""
    name, version = split_label(request.label)
    now = db.now(session)
    insert = postgresql.insert if db.postgresql else sqlite.insert
    first = insert(Service).values(
        label=request.label,
        name=name,
        version=version,
        url=request.url,
        tags=[],
        plans=[],
        active=True,
        last_seen=now,
        created_at=int(now),
    )
    # Two gateways of one offering may start at the same moment.
    session.execute(first.on_conflict_do_nothing())
    service = offering(session, request.label, lock=True)
    given = msgspec.structs.asdict(request)
    for key in (
        "url",
        "description",
        "info_url",
        "tags",
        "plans",
        "plan_options",
        "binding_options",
        "active",
    ):
        if given[key] is not None:
            setattr(service, key, given[key])
    service.acls = msgspec.to_builtins(request.acls)
    service.timeout = request.timeout
    service.last_seen = now


def all_offerings(session: Session) -> list[Service]:
    """Return every offering, sorted by label."""
    return list(session.scalars(select(Service).order_by(Service.name, Service.version)))


def offering(session: Session, label: str, *, lock: bool = False) -> Service:
    """Return an offering by its exact label.

    Raises:
        ApiError: SERVICE_NOT_FOUND.
    """
    query = select(Service).where(Service.label == label)
    found = session.scalars(query.with_for_update() if lock else query).one_or_none()
    if found is None:
        raise ApiError(Code.SERVICE_NOT_FOUND)
    return found


def withdraw(session: Session, label: str) -> None:
    """Delete an offering; one with instances, which belong to users, is only no longer offered.

    Raises:
        ApiError: SERVICE_NOT_FOUND.
    """
    service = offering(session, label, lock=True)
    if session.scalar(select(exists().where(ServiceConfig.service_id == service.id))):
        service.active = False
    else:
        session.delete(service)


def offers(db: Database, session: Session, email: str, silent_seconds: float) -> list[Service]:
    """Return the offerings that a user can have, sorted by label."""
    now = db.now(session)
    found = session.scalars(select(Service).where(Service.active).order_by(Service.label))
    return [s for s in found if offered(s, email, now, silent_seconds)]


def wanted_offering(offers: Iterable[Service], request: LegacyProvisionRequest | ProvisionRequest) -> Service:
    """Return the offering that a request means; an old label means the vendor's present offering.

    Raises:
        ApiError: SERVICE_NOT_FOUND.
    """
    if isinstance(request, ProvisionRequest):
        vendor, version = split_label(request.label)
    else:
        vendor, version = request.vendor, request.version
    found = pick(offers, vendor, version)
    if found is None:
        raise ApiError(Code.SERVICE_NOT_FOUND)
    return found


def count(session: Session, user_id: int) -> int:
    """Return the number of a user's instances."""
    query = select(func.count()).select_from(ServiceConfig).where(ServiceConfig.user_id == user_id)
    return session.scalar(query) or 0


def own_all(session: Session, user_id: int) -> list[ServiceConfig]:
    """Return a user's instances, sorted by name."""
    query = select(ServiceConfig).where(ServiceConfig.user_id == user_id).order_by(ServiceConfig.alias)
    return list(session.scalars(query))


def own(session: Session, caller: Caller, alias: str) -> ServiceConfig:
    """Return a user's instance by the user's name for it.

    Raises:
        ApiError: SERVICE_NOT_FOUND.
    """
    query = select(ServiceConfig).where(ServiceConfig.user_id == caller.id, ServiceConfig.alias == alias)
    found = session.scalars(query).one_or_none()
    if found is None:
        raise ApiError(Code.SERVICE_NOT_FOUND)
    return found


def is_known(session: Session, name: str) -> bool:
    """Return whether an instance has this name at its gateway."""
    return bool(session.scalar(select(exists().where(ServiceConfig.name == name))))


def by_name(session: Session, caller: Caller, name: str) -> ServiceConfig:
    """Return a user's instance by the gateway's name for it.

    Raises:
        ApiError: SERVICE_NOT_FOUND; FORBIDDEN where it belongs to another user.
    """
    found = session.scalars(select(ServiceConfig).where(ServiceConfig.name == name)).one_or_none()
    if found is None:
        raise ApiError(Code.SERVICE_NOT_FOUND)
    if found.user_id != caller.id:
        raise denied()
    return found


def locked(session: Session, config_id: int) -> ServiceConfig:
    """Return an instance, locked until the transaction ends.

    Raises:
        ApiError: SERVICE_NOT_FOUND for a deleted one.
    """
    query = select(ServiceConfig).where(ServiceConfig.id == config_id).with_for_update(of=ServiceConfig)
    found = session.scalars(query).one_or_none()
    if found is None:
        raise ApiError(Code.SERVICE_NOT_FOUND)
    return found


def add_token(
    session: Session, config: ServiceConfig, options: Mapping[str, Any], *, auto_generated: bool
) -> BindingToken:
    """Add and return a permission to bind an instance."""
    now = int(time.time())
    session.execute(
        delete(BindingToken).where(
            BindingToken.config_id == config.id,
            BindingToken.auto_generated,
            BindingToken.created_at < now - FORGOTTEN_TOKEN_SECONDS,
            ~exists().where(ServiceBinding.token_id == BindingToken.id),
        )
    )
    token = BindingToken(
        uuid=str(uuid.uuid4()),
        config_id=config.id,
        binding_options=dict(options),
        auto_generated=auto_generated,
        created_at=now,
    )
    session.add(token)
    session.flush()
    return token


def token(session: Session, text: str, missing: Code) -> BindingToken:
    """Return a permission to bind an instance.

    Raises:
        ApiError: with the code `missing` where there is none.
    """
    found = session.scalars(select(BindingToken).where(BindingToken.uuid == text)).one_or_none()
    if found is None:
        raise ApiError(missing)
    return found


def bindings_of(session: Session, *, config_id: int = 0, token_id: int = 0) -> list[ServiceBinding]:
    """Return the bindings of an instance, or those by a token."""
    query = select(ServiceBinding).order_by(ServiceBinding.app_id)
    if config_id:
        query = query.where(ServiceBinding.config_id == config_id)
    if token_id:
        query = query.where(ServiceBinding.token_id == token_id)
    return list(session.scalars(query))


def bound(binding: ServiceBinding) -> Bound:
    """Return a binding in the form of its gateway."""
    config = binding.config
    return Bound(endpoint(config.service), config.name, binding.name, dict(binding.binding_options))


def handles(session: Session, service: Service) -> list[dict[str, Any]]:
    """Return all instances and bindings of an offering, with which its gateway compares its own."""
    configs = session.scalars(select(ServiceConfig).where(ServiceConfig.service_id == service.id))
    found = [{"service_id": c.name, "configuration": c.data, "credentials": c.credentials} for c in configs]
    query = select(ServiceBinding).join(ServiceBinding.config).where(ServiceConfig.service_id == service.id)
    found += [
        {"service_id": b.name, "configuration": b.configuration, "credentials": b.credentials}
        for b in session.scalars(query)
    ]
    return found


def update_handle(session: Session, service: Service, request: HandleRequest) -> None:
    """Store a gateway's new data of an instance or a binding, which was recovered or moved.

    Raises:
        ApiError: BINDING_NOT_FOUND.
    """
    config = session.scalars(
        select(ServiceConfig).where(
            ServiceConfig.service_id == service.id, ServiceConfig.name == request.service_id
        )
    ).one_or_none()
    if config is not None:
        config.data, config.credentials = request.configuration, request.credentials
        config.updated_at = int(time.time())
        return
    query = select(ServiceBinding).join(ServiceBinding.config)
    binding = session.scalars(
        query.where(ServiceConfig.service_id == service.id, ServiceBinding.name == request.service_id)
    ).one_or_none()
    if binding is None:
        raise ApiError(Code.BINDING_NOT_FOUND)
    binding.configuration, binding.credentials = request.configuration, request.credentials
