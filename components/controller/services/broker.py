"""Instances and bindings of services: the order of writes to ccdb and requests to gateways (protocol 1.14).

No transaction is open while a gateway works. An instance or a binding gets its row after its gateway made it; if the row
cannot be written, the gateway removes it. A controller killed in between leaves an orphan that only the gateway knows:
the gateway finds it, because its offering's handles do not list it (protocol 6.6). On removal rows go first; a gateway
that cannot be told finds the orphan the same way.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from sqlalchemy import delete
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from components.common import log
from components.controller.accounts import quotas
from components.controller.accounts.auth import Caller
from components.controller.apps import rows as app_rows
from components.controller.config import ControllerConfig
from components.controller.db.database import Database
from components.controller.db.models import App, BindingToken, ServiceBinding, ServiceConfig, User
from components.controller.errors import ApiError, Code, denied, no_app
from components.controller.services import rows
from components.controller.services.gateway_client import Endpoint, GatewayClient, GatewayError, Instance
from components.controller.services.offerings import (
    LegacyProvisionRequest,
    ProvisionRequest,
    SchemaError,
    check_alias,
    check_plan,
)
from components.controller.services.rows import Bound

logger = log.get(__name__)


@dataclass(frozen=True, slots=True)
class _Claim:
    """The claim of a new binding: the instance, and the token that was written for it (or given by its owner)."""

    config_id: int
    alias: str
    service_id: str
    endpoint: Endpoint
    token_id: int
    options: Mapping[str, Any]
    own_token: bool


@dataclass(frozen=True, slots=True)
class NewBinding:
    """A binding that its gateway has made and that has no row yet."""

    claim: _Claim
    bound: Bound
    configuration: dict[str, Any]
    credentials: dict[str, Any]


class ServiceBroker:
    """The operations on service instances and bindings."""

    def __init__(self, config: ControllerConfig, db: Database, gateways: GatewayClient) -> None:
        self._config = config
        self._db = db
        self._gateways = gateways

    def close(self) -> None:
        """Close the connections to gateways."""
        self._gateways.close()

    def provision(self, caller: Caller, request: LegacyProvisionRequest | ProvisionRequest) -> Instance:
        """Create and return an instance.

        Raises:
            ApiError: ACCOUNT_TOO_MANY_SERVICES, SERVICE_NOT_FOUND, SERVICE_GATEWAY_ERROR; then there is none.
            SchemaError: its name is taken or invalid, or there is no such plan.
        """
        with self._db.session() as session:
            self._check_new(session, caller, request.name)
            check_alias(request.name)
            found = rows.offers(self._db, session, caller.email, self._config.service_silent_seconds)
            service = rows.wanted_offering(found, request)
            plan = request.tier if isinstance(request, LegacyProvisionRequest) else request.plan
            check_plan(service, plan)
            endpoint, service_id = rows.endpoint(service), service.id
        try:
            made = self._gateways.provision(
                endpoint, name=request.name, plan=plan, plan_option=request.plan_option, email=caller.email
            )
        except GatewayError as error:
            raise _gateway_error("provision", error) from error
        with self._undone(lambda: self._take_back(endpoint, made.service_id)):
            try:
                with self._db.session() as session:
                    if session.get(User, caller.id, with_for_update=True) is None:
                        raise denied()
                    self._check_new(session, caller, request.name)
                    now = int(time.time())
                    session.add(
                        ServiceConfig(
                            user_id=caller.id,
                            service_id=service_id,
                            alias=request.name,
                            name=made.service_id,
                            data=made.data,
                            credentials=made.credentials,
                            plan=plan,
                            plan_option=request.plan_option,
                            created_at=now,
                            updated_at=now,
                        )
                    )
            except IntegrityError as error:
                raise ApiError(
                    Code.SERVICE_GATEWAY_ERROR,
                    f"{endpoint.label} made nothing new, or was withdrawn meanwhile",
                ) from error
        logger.info("service_provisioned", label=endpoint.label, service=made.service_id)
        return made

    def unprovision(self, find: Callable[[Session], ServiceConfig]) -> None:
        """Delete an instance and its bindings; a failure of its gateway is only logged.

        `find` returns the instance, and raises where the caller may not have it.
        """
        with self._db.session() as session:
            config = find(session)
            found = rows.bindings_of(session, config_id=config.id)
            # Applications before the instance: bindings are made with locks in that order.
            for binding in found:
                _change(app_rows.by_id(session, binding.app_id, lock=True))
            gone = [rows.bound(binding) for binding in found]
            endpoint, service_id = rows.endpoint(config.service), config.name
            changed = [binding.app for binding in found]
            # Bindings and tokens are deleted with it, by their foreign keys.
            session.execute(delete(ServiceConfig).where(ServiceConfig.id == config.id))
            for app in changed:
                session.expire(app, ["bindings"])
                app_rows.restage_if_due(app)
        self.unbind(gone)
        self._unprovision(endpoint, service_id)
        logger.info("service_unprovisioned", label=endpoint.label, service=service_id)

    def make(self, caller: Caller, aliases: Sequence[str]) -> list[NewBinding]:
        """Bind a user's instances at their gateways, all or none; return the bindings.

        Raises:
            ApiError: SERVICE_NOT_FOUND, SERVICE_GATEWAY_ERROR.
        """
        if not aliases:
            return []
        with self._db.session() as session:
            configs = [rows.own(session, caller, alias) for alias in aliases]
            claims = [_claim(session, config, {}) for config in configs]
        return self._bind(caller, claims)

    @contextmanager
    def kept(self, fresh: Sequence[NewBinding]) -> Iterator[None]:
        """Guard the writing of bindings: an exception within this context undoes them at their gateways."""
        with self._undone(lambda: self._forget([f.claim for f in fresh], [f.bound for f in fresh])):
            yield

    def settle(
        self, session: Session, app: App, wanted: Iterable[str], fresh: Sequence[NewBinding]
    ) -> list[Bound]:
        """Make `wanted` the application's only bindings; return those to be unbound at the gateways.

        Raises:
            ApiError: LOCKING_ERROR for a binding that has been removed meanwhile.
        """
        names = set(wanted)
        gone = self.drop(session, [b for b in app.bindings if b.config.alias not in names])
        gone += [extra for one in fresh if (extra := self._add(session, app, one))]
        missing = names.difference(app.services)
        if missing:
            raise ApiError(Code.LOCKING_ERROR, f"what it was; {', '.join(sorted(missing))} has been unbound")
        return gone

    def drop(self, session: Session, bindings: Iterable[ServiceBinding]) -> list[Bound]:
        """Delete bindings, and the tokens that were made for them; return those to be unbound at the gateways."""
        gone = []
        for binding in list(bindings):
            gone.append(rows.bound(binding))
            token = binding.token
            binding.app.bindings.remove(binding)
            session.flush()
            if token.auto_generated:
                session.delete(token)
        session.flush()
        return gone

    def unbind(self, gone: Iterable[Bound]) -> None:
        """Tell gateways of removed bindings; failures are only logged, an unreachable gateway is not asked again."""
        lost: set[str] = set()
        for one in gone:
            if one.endpoint.url in lost:
                continue
            try:
                self._gateways.unbind(one.endpoint, one.service_id, one.handle, one.options)
            except GatewayError as error:
                logger.warning("service_not_unbound", handle=one.handle, reason=str(error))
                if error.lost:
                    lost.add(one.endpoint.url)

    def bind_one(
        self,
        caller: Caller,
        app_id: int,
        find: Callable[[Session], ServiceConfig | BindingToken],
        options: Mapping[str, Any] = MappingProxyType({}),
    ) -> tuple[str, str]:
        """Bind one instance to an application of the caller; return the binding's token and the label.

        `find` returns the caller's instance, or the token of its owner, whose options then replace the given ones.

        Raises:
            ApiError: APP_NOT_FOUND, SERVICE_GATEWAY_ERROR, and the errors of `find`.
        """
        with self._db.session() as session:
            app = self._own_app(session, caller, app_id)
            found = find(session)
            token = found if isinstance(found, BindingToken) else None
            config = found.config if isinstance(found, BindingToken) else found
            label = config.service.label
            for binding in app.bindings:
                if binding.config_id == config.id:
                    return binding.token.uuid, label
            claim = _claim(session, config, token.binding_options if token else options, token)
        fresh = self._bind(caller, [claim])
        with self.kept(fresh), self._db.session() as session:
            app = self._own_app(session, caller, app_id)
            extra = self._add(session, app, fresh[0])
            text = next(b.token.uuid for b in app.bindings if b.config_id == claim.config_id)
            _change(app)
            app_rows.restage_if_due(app)
        self.unbind([extra] if extra else [])
        return text, label

    def unbind_token(self, caller: Caller, text: str, missing: Code, *, forget: bool) -> None:
        """Delete the bindings of a token; with `forget`, also the token.

        Raises:
            ApiError: `missing` where there is no such token; FORBIDDEN for a caller that owns neither application nor instance.
        """
        with self._db.session() as session:
            token = rows.token(session, text, missing)
            found = rows.bindings_of(session, token_id=token.id)
            mine = token.config.user_id == caller.id
            if not mine:
                found = [b for b in found if not forget and b.app.owner_id == caller.id]
                if not found:
                    raise denied()
            gone = []
            for binding in found:
                app = app_rows.by_id(session, binding.app_id, lock=True)
                gone += self.drop(session, [binding])
                if app is not None:
                    _change(app)
                    app_rows.restage_if_due(app)
            # A token that a killed controller left behind has no binding; it is deleted, too.
            if mine and (forget or not found):
                session.execute(delete(BindingToken).where(BindingToken.id == token.id))
        self.unbind(gone)

    def check_limit(self, session: Session, caller: Caller) -> None:
        """Check that an account may have one more instance.

        Raises:
            ApiError: ACCOUNT_TOO_MANY_SERVICES.
        """
        limits = quotas.limits(session, self._config, caller.id, admin=caller.admin)
        used = rows.count(session, caller.id)
        if used >= limits.services:
            raise ApiError(Code.ACCOUNT_TOO_MANY_SERVICES, used, limits.services)

    def _check_new(self, session: Session, caller: Caller, alias: str) -> None:
        self.check_limit(session, caller)
        try:
            rows.own(session, caller, alias)
        except ApiError:
            return
        raise SchemaError(f"there is a service {alias!r} already")

    def _own_app(self, session: Session, caller: Caller, app_id: int) -> App:
        app = app_rows.by_id(session, app_id, lock=True)
        if app is None or app.owner_id != caller.id:
            raise no_app()
        return app

    def _bind(self, caller: Caller, claims: Sequence[_Claim]) -> list[NewBinding]:
        done: list[NewBinding] = []
        with self._undone(lambda: self._forget(claims, [f.bound for f in done])):
            for claim in claims:
                try:
                    handle = self._gateways.bind(
                        claim.endpoint, claim.service_id, email=caller.email, binding_options=claim.options
                    )
                except GatewayError as error:
                    raise _gateway_error("bind", error) from error
                bound = Bound(claim.endpoint, claim.service_id, handle.service_id, claim.options)
                done.append(NewBinding(claim, bound, handle.configuration, handle.credentials))
        return done

    def _add(self, session: Session, app: App, fresh: NewBinding) -> Bound | None:
        """Write a binding; return it where a parallel request has bound the same instance first."""
        claim = fresh.claim
        rows.locked(session, claim.config_id)
        token = session.get(BindingToken, claim.token_id)
        if token is None:
            raise ApiError(Code.TOKEN_NOT_FOUND)
        if any(binding.config_id == claim.config_id for binding in app.bindings):
            if claim.own_token:
                session.delete(token)
                session.flush()
            return fresh.bound
        app.bindings.append(
            ServiceBinding(
                config_id=claim.config_id,
                token_id=claim.token_id,
                name=fresh.bound.handle,
                configuration=fresh.configuration,
                credentials=fresh.credentials,
                binding_options=dict(claim.options),
                created_at=int(time.time()),
            )
        )
        session.flush()
        return None

    def _forget(self, claims: Iterable[_Claim], made: Iterable[Bound]) -> None:
        tokens = [claim.token_id for claim in claims if claim.own_token]
        self.unbind(made)
        if tokens:
            with self._db.session() as session:
                session.execute(delete(BindingToken).where(BindingToken.id.in_(tokens)))

    def _unprovision(self, endpoint: Endpoint, service_id: str) -> None:
        try:
            self._gateways.unprovision(endpoint, service_id)
        except GatewayError as error:
            logger.warning("service_not_unprovisioned", service=service_id, reason=str(error))

    def _take_back(self, endpoint: Endpoint, service_id: str) -> None:
        """Remove an instance without a row; one that the gateway gave out twice stays with its first owner."""
        with self._db.session() as session:
            known = rows.is_known(session, service_id)
        if not known:
            self._unprovision(endpoint, service_id)

    @contextmanager
    def _undone(self, undo: Callable[[], None]) -> Iterator[None]:
        try:
            yield
        except BaseException:
            try:
                undo()
            except Exception:
                # The first error is the one to report.
                logger.exception("service_not_undone")
            raise


def _claim(
    session: Session,
    config: ServiceConfig,
    options: Mapping[str, Any],
    given: BindingToken | None = None,
) -> _Claim:
    """Write the token of a new binding, before the request to the gateway."""
    token = given or rows.add_token(session, config, options, auto_generated=True)
    return _Claim(
        config_id=config.id,
        alias=config.alias,
        service_id=config.name,
        endpoint=rows.endpoint(config.service),
        token_id=token.id,
        options=dict(options),
        own_token=given is None,
    )


def _change(app: App | None) -> None:
    """Change an application's version, so that a client that read it earlier notices the change."""
    if app is not None:
        app.lock_version += 1


def _gateway_error(operation: str, error: GatewayError) -> ApiError:
    logger.warning("service_gateway_failed", operation=operation, reason=str(error))
    return ApiError(Code.SERVICE_GATEWAY_ERROR, str(error))
