"""The handles of a service: every instance and every binding the controllers know of (protocol 1.14); pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from components.common.bus.service_messages import Credentials
from components.services.base.errors import NOT_FOUND, ServiceError


class ServiceHandle(msgspec.Struct, frozen=True):
    """One instance or binding. An instance's `service_id` is its credentials' `name`; a binding's is an id of its own."""

    service_id: str
    configuration: dict[str, Any] = msgspec.field(default_factory=dict)
    credentials: Credentials = msgspec.field(default_factory=dict)

    @property
    def is_instance(self) -> bool:
        """Return whether it is an instance."""
        return self.credentials.get("name") == self.service_id

    @property
    def instance(self) -> str:
        """Return the instance it belongs to."""
        return str(self.credentials.get("name", ""))


class HandlesReply(msgspec.Struct, frozen=True):
    """A controller's answer: all handles of an offering."""

    handles: list[ServiceHandle]


def binding_key(credentials: Credentials) -> tuple[str, str]:
    """Return the key for comparing bindings (protocol 6.6): instance and user."""
    return str(credentials.get("name", "")), str(credentials.get("username") or credentials.get("user") or "")


class HandleTable:
    """All handles of one offering."""

    def __init__(self) -> None:
        self._handles: dict[str, ServiceHandle] = {}

    def replace(self, handles: Iterable[ServiceHandle]) -> None:
        """Replace all handles by those of a controller."""
        self._handles = {h.service_id: h for h in handles}

    def add(self, handle: ServiceHandle) -> None:
        """Add or overwrite a handle."""
        self._handles[handle.service_id] = handle

    def remove(self, service_id: str) -> None:
        """Remove a handle; an instance takes its bindings with it."""
        gone = self._handles.pop(service_id, None)
        if gone is not None and gone.is_instance:
            for binding in self.bindings(service_id):
                del self._handles[binding.service_id]

    def instance(self, service_id: str) -> ServiceHandle:
        """Return an instance.

        Raises:
            ServiceError: 30300, there is none.
        """
        handle = self._handles.get(service_id)
        if handle is None or not handle.is_instance:
            raise ServiceError(NOT_FOUND, f"there is no instance {service_id}")
        return handle

    def binding(self, service_id: str, handle_id: str) -> ServiceHandle:
        """Return a binding of an instance.

        Raises:
            ServiceError: 30300, there is none.
        """
        handle = self._handles.get(handle_id)
        if handle is None or handle.is_instance or handle.instance != service_id:
            raise ServiceError(NOT_FOUND, f"there is no binding {handle_id} of {service_id}")
        return handle

    def bindings(self, service_id: str) -> list[ServiceHandle]:
        """Return an instance's bindings."""
        return [h for h in self._handles.values() if not h.is_instance and h.instance == service_id]

    def names(self) -> set[str]:
        """Return the names of all instances."""
        return {h.service_id for h in self._handles.values() if h.is_instance}

    def binding_keys(self) -> set[tuple[str, str]]:
        """Return the keys of all bindings."""
        return {binding_key(h.credentials) for h in self._handles.values() if not h.is_instance}
