"""Service gateways over HTTP (protocol 6.2): create and remove instances, bind and unbind.

A gateway that does not answer in time may still have done the work, so no request is repeated: an instance that ccdb does
not know is an orphan, which the gateway finds by a comparison with its offering's handles (protocol 6.6).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
import msgspec
from prometheus_client import Counter

from components.common.errors import IngotError

CALLS = Counter("ingot_controller_gateway_calls_total", "Calls of service gateways.", ["operation", "result"])
TOKEN_HEADER = "X-VCAP-Service-Token"  # noqa: S105 - a header's name
DEFAULT_SECONDS = 20.0
_CONNECT_SECONDS = 5.0
T = TypeVar("T")


class GatewayError(IngotError):
    """A gateway was unreachable, late, refused, or answered nonsense; the text tells a user which.

    `lost`: there was no answer, so that an immediate repetition is useless.
    """

    def __init__(self, reason: str, *, lost: bool = False) -> None:
        super().__init__(reason)
        self.lost = lost


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The address of an offering's gateway, and its timeout (seconds)."""

    label: str
    vendor: str
    url: str
    seconds: float


class Instance(msgspec.Struct, frozen=True):
    """An instance that a gateway made."""

    service_id: str
    data: dict[str, Any]
    credentials: dict[str, Any]


class Handle(msgspec.Struct, frozen=True):
    """A gateway's answer for a binding; `service_id` is the handle's own id."""

    service_id: str
    configuration: dict[str, Any]
    credentials: dict[str, Any]


class GatewayClient:
    """The client of all gateways of a platform.

    Args:
        tokens: vendor to the token that its gateway and the controllers show each other.
        broker: the token of a broker, which is used for every vendor without one; empty: there is no broker.
    """

    def __init__(
        self, tokens: Mapping[str, str], transport: httpx.BaseTransport | None = None, *, broker: str = ""
    ) -> None:
        self._tokens = tokens
        self._broker = broker
        # Gateways are machines of the platform: a proxy of the environment is not used. A kept connection may close as a request
        # goes out, and no request here can be sent twice.
        limits = httpx.Limits(max_keepalive_connections=0)
        self._http = httpx.Client(trust_env=False, limits=limits, transport=transport)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def provision(
        self, endpoint: Endpoint, *, name: str, plan: str, plan_option: str | None, email: str
    ) -> Instance:
        """Have a gateway make an instance, and return it.

        Raises:
            GatewayError: this failed, as far as is known.
        """
        body = {"label": endpoint.label, "name": name, "plan": plan, "email": email}
        if plan_option is not None:
            body["plan_option"] = plan_option
        return _read(
            endpoint, Instance, self._call("provision", endpoint, "POST", "/gateway/v1/configurations", body)
        )

    def unprovision(self, endpoint: Endpoint, service_id: str) -> None:
        """Have a gateway remove an instance.

        Raises:
            GatewayError: this failed, as far as is known.
        """
        path = f"/gateway/v1/configurations/{quote(service_id, safe='')}"
        self._call("unprovision", endpoint, "DELETE", path, {})

    def bind(
        self, endpoint: Endpoint, service_id: str, *, email: str, binding_options: Mapping[str, Any]
    ) -> Handle:
        """Have a gateway make credentials for one application, and return them.

        Raises:
            GatewayError: this failed, as far as is known.
        """
        path = f"/gateway/v1/configurations/{quote(service_id, safe='')}/handles"
        body = {
            "service_id": service_id,
            "label": endpoint.label,
            "email": email,
            "binding_options": dict(binding_options),
        }
        return _read(endpoint, Handle, self._call("bind", endpoint, "POST", path, body))

    def unbind(
        self, endpoint: Endpoint, service_id: str, handle: str, binding_options: Mapping[str, Any]
    ) -> None:
        """Have a gateway revoke a binding's credentials.

        Raises:
            GatewayError: this failed, as far as is known.
        """
        path = f"/gateway/v1/configurations/{quote(service_id, safe='')}/handles/{quote(handle, safe='')}"
        body = {"service_id": service_id, "handle_id": handle, "binding_options": dict(binding_options)}
        self._call("unbind", endpoint, "DELETE", path, body)

    def _call(
        self, operation: str, endpoint: Endpoint, method: str, path: str, body: Mapping[str, Any]
    ) -> Any:
        try:
            found = self._send(endpoint, method, path, body)
        except GatewayError:
            CALLS.labels(operation, "failed").inc()
            raise
        CALLS.labels(operation, "done").inc()
        return found

    def _send(self, endpoint: Endpoint, method: str, path: str, body: Mapping[str, Any]) -> Any:
        token = self._tokens.get(endpoint.vendor, self._broker)
        if not token:
            raise GatewayError(f"the controllers have no token of {endpoint.vendor}")
        try:
            response = self._http.request(
                method,
                endpoint.url.rstrip("/") + path,
                # `json=` writes the media type in exactly this form.
                json=body,
                headers={TOKEN_HEADER: token, "Accept": "application/json"},
                timeout=httpx.Timeout(endpoint.seconds, connect=min(_CONNECT_SECONDS, endpoint.seconds)),
            )
        except httpx.TimeoutException as error:
            raise GatewayError(
                f"the gateway of {endpoint.label} did not answer within {endpoint.seconds:g} s", lost=True
            ) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise GatewayError(f"the gateway of {endpoint.label} cannot be reached", lost=True) from error
        if response.status_code != 200:
            raise GatewayError(f"{endpoint.label}: {_reason(response)}")
        try:
            return response.json()
        except ValueError as error:
            raise GatewayError(f"the gateway of {endpoint.label} does not answer in JSON") from error


def _read(endpoint: Endpoint, kind: type[T], value: Any) -> T:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        # The error names the member and its kind, never its value.
        raise GatewayError(f"the answer of {endpoint.label} cannot be used: {error}") from error


def _reason(response: httpx.Response) -> str:
    """Return a gateway's own reason, from `{"code", "description"}`."""
    try:
        body = response.json()
        return f"{str(body['description'])[:500]} ({int(body['code'])})"
    except (ValueError, KeyError, TypeError, OverflowError):
        return f"status {response.status_code}"
