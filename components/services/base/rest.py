"""The gateway's REST of protocol 6.2."""

from __future__ import annotations

import hmac
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

import msgspec
from aiohttp import web
from prometheus_client import Counter, Histogram

from components.common import log
from components.common.bus.service_messages import Credentials
from components.services.base.errors import (
    CONTENT_TYPE,
    INTERNAL,
    MALFORMED,
    NO_EXTENSION,
    NOT_AUTHORISED,
    UNAVAILABLE,
    UNKNOWN_LABEL,
    UNKNOWN_PLAN,
    ServiceError,
)
from components.services.base.handles import ServiceHandle
from components.services.base.orphans import Orphans

OPERATIONS = Counter(
    "ingot_service_operations_total", "Operations for controllers, by outcome.", ["operation", "code"]
)
SECONDS = Histogram("ingot_service_operation_seconds", "Duration of an operation.", ["operation"])
_HANDLES = "/gateway/v1/configurations/{service_id}/handles"
logger = log.get(__name__)
T = TypeVar("T")
Handler = Callable[[web.Request], Awaitable[web.Response]]


class GatewayOperations(Protocol):
    """The gateway, as the REST interface uses it."""

    token: str
    labels: frozenset[str]
    plans: list[str]

    def unavailable(self) -> str:
        """Return the reason why nothing can be done now; empty when there is none."""

    async def provision(self, plan: str) -> ServiceHandle:
        """Make an instance."""

    async def unprovision(self, service_id: str) -> None:
        """Remove an instance."""

    async def bind(self, service_id: str, options: dict[str, Any]) -> ServiceHandle:
        """Make a binding."""

    async def unbind(self, service_id: str, handle_id: str) -> None:
        """End a binding."""

    def undo(self, handle: ServiceHandle) -> None:
        """Undo a handle whose caller has gone."""

    def check_orphans(self) -> None:
        """Begin to look for orphans."""

    async def purge(self, unwanted: Orphans) -> None:
        """Remove orphans."""


class Provision(msgspec.Struct):
    """Body of a provision."""

    label: str
    name: str
    plan: str
    email: str
    plan_option: Any = None


class Bind(msgspec.Struct):
    """Body of a bind."""

    service_id: str
    label: str
    email: str
    binding_options: dict[str, Any] | None = None


class Purge(msgspec.Struct):
    """Body of a purge, by node id."""

    orphan_instances: dict[str, list[str]] = msgspec.field(default_factory=dict)
    orphan_bindings: dict[str, list[Credentials]] = msgspec.field(default_factory=dict)


def routes(gateway: GatewayOperations) -> list[web.RouteDef]:
    """Return every route of a gateway for controllers and operators."""
    rest = _Rest(gateway)
    internal = "/service/internal/v1"
    configuration = "/gateway/v1/configurations/{service_id}"
    table: list[tuple[str, str, str, Handler]] = [
        ("POST", "/gateway/v1/configurations", "provision", rest.provision),
        ("DELETE", configuration, "unprovision", rest.unprovision),
        ("POST", _HANDLES, "bind", rest.bind),
        ("DELETE", _HANDLES + "/{handle_id}", "unbind", rest.unbind),
        ("POST", f"{internal}/check_orphan", "check_orphan", rest.check_orphan),
        ("DELETE", f"{internal}/purge_orphan", "purge_orphan", rest.purge_orphan),
        # Restoring, moving and exporting are extensions of 2012; a service without them answers 30501.
        ("*", internal + "/{extension:(restore|recover|migration)(/.*)?}", "extension", rest.extension),
        ("*", configuration + "/{extension:(snapshots|serialized|jobs)(/.*)?}", "extension", rest.extension),
    ]
    return [
        web.route(method, path, _guarded(gateway, name, handler)) for method, path, name, handler in table
    ]


class _Rest:
    """The handlers, behind `_guarded`."""

    def __init__(self, gateway: GatewayOperations) -> None:
        self._gateway = gateway

    async def provision(self, request: web.Request) -> web.Response:
        body = await _body(request, Provision)
        self._check_label(body.label)
        if body.plan not in self._gateway.plans:
            plans = ", ".join(self._gateway.plans)
            raise ServiceError(UNKNOWN_PLAN, f"there is no plan {body.plan}; there is: {plans}")
        handle = await self._gateway.provision(body.plan)
        shown = {
            "service_id": handle.service_id,
            "data": {"plan": body.plan},
            "credentials": handle.credentials,
        }
        return self._made(request, handle, shown)

    async def unprovision(self, request: web.Request) -> web.Response:
        await self._gateway.unprovision(request.match_info["service_id"])
        return web.json_response({})

    async def bind(self, request: web.Request) -> web.Response:
        body = await _body(request, Bind)
        self._check_label(body.label)
        service_id = request.match_info["service_id"]
        if body.service_id != service_id:
            raise ServiceError(MALFORMED, "service_id: the body names another instance than the path")
        handle = await self._gateway.bind(service_id, body.binding_options or {})
        shown = {
            "service_id": handle.service_id,
            "configuration": handle.configuration,
            "credentials": handle.credentials,
        }
        return self._made(request, handle, shown)

    async def unbind(self, request: web.Request) -> web.Response:
        await self._gateway.unbind(request.match_info["service_id"], request.match_info["handle_id"])
        return web.json_response({})

    async def check_orphan(self, _request: web.Request) -> web.Response:
        self._gateway.check_orphans()
        return web.json_response({})

    async def purge_orphan(self, request: web.Request) -> web.Response:
        body = await _body(request, Purge)
        await self._gateway.purge(Orphans(body.orphan_instances, body.orphan_bindings))
        return web.json_response({})

    async def extension(self, request: web.Request) -> web.Response:
        raise ServiceError(NO_EXTENSION, f"this service has no {request.match_info['extension']}")

    def _check_label(self, label: str) -> None:
        if label not in self._gateway.labels:
            raise ServiceError(UNKNOWN_LABEL, f"{label} is not offered here")

    def _made(self, request: web.Request, handle: ServiceHandle, shown: dict[str, Any]) -> web.Response:
        if request.transport is None or request.transport.is_closing():
            # The caller has given up and counts this as failed, so the result must not stay.
            self._gateway.undo(handle)
        return web.json_response(shown)


def _guarded(gateway: GatewayOperations, operation: str, handler: Handler) -> Handler:
    async def guard(request: web.Request) -> web.Response:
        began = time.monotonic()
        try:
            _check(gateway, request)
            answer = await handler(request)
        except ServiceError as error:
            if error.status >= 500:
                logger.warning("operation_failed", operation=operation, reason=error.description)
            answer = web.json_response(error.body(), status=error.status)
            OPERATIONS.labels(operation, str(error.code)).inc()
        except Exception:
            logger.exception("operation_broke", operation=operation)
            broken = ServiceError(INTERNAL, "the gateway failed; its log has the reason")
            answer = web.json_response(broken.body(), status=broken.status)
            OPERATIONS.labels(operation, str(broken.code)).inc()
        else:
            OPERATIONS.labels(operation, "0").inc()
        SECONDS.labels(operation).observe(time.monotonic() - began)
        return answer

    return guard


def _check(gateway: GatewayOperations, request: web.Request) -> None:
    if request.content_type != "application/json" or "Content-Type" not in request.headers:
        raise ServiceError(CONTENT_TYPE, "Content-Type: must be application/json")
    given = request.headers.get("X-VCAP-Service-Token", "")
    if not hmac.compare_digest(given.encode(), gateway.token.encode()):
        raise ServiceError(NOT_AUTHORISED, "X-VCAP-Service-Token: not the token of this service")
    why = gateway.unavailable()
    if why:
        raise ServiceError(UNAVAILABLE, why)


async def _body(request: web.Request, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(await request.read() or b"{}", type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ServiceError(MALFORMED, f"the body is not what is wanted: {error}") from None
