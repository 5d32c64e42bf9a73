"""Errors of data services: an HTTP status with a code and a sentence, the same on the bus and over HTTP (protocol 6.2)."""

from __future__ import annotations

from typing import Any

from components.common.errors import IngotError

CONTENT_TYPE = (30000, 400)
MALFORMED = (30001, 400)
UNKNOWN_LABEL = (30002, 400)
UNKNOWN_PLAN = (30003, 400)
NOT_AUTHORISED = (30100, 401)
NOT_FOUND = (30300, 404)
INTERNAL = (30500, 500)
NO_EXTENSION = (30501, 501)
UNAVAILABLE = (30600, 503)
NODE_TIMEOUT = (30700, 504)


class ServiceError(IngotError):
    """A service's refusal or failure.

    Args:
        kind: code and HTTP status, one of the pairs above or a service's own.
        description: one sentence for the person who asked.
    """

    def __init__(self, kind: tuple[int, int], description: str) -> None:
        super().__init__(description)
        self.code, self.status = kind
        self.description = description

    def body(self) -> dict[str, Any]:
        """Return the body of an HTTP answer."""
        return {"code": self.code, "description": self.description}

    def wire(self) -> dict[str, Any]:
        """Return the member `error` of a node's reply (protocol 6.4)."""
        return {"status": self.status, "msg": self.body()}

    @classmethod
    def of(cls, error: dict[str, Any] | None) -> ServiceError:
        """Return the error of a node's reply; one that is not in the contract's form becomes 30500."""
        try:
            message = (error or {})["msg"]
            return cls((int(message["code"]), _status((error or {})["status"])), str(message["description"]))
        except (KeyError, TypeError, ValueError):
            return cls(INTERNAL, "the node failed and gave no reason")


def _status(given: object) -> int:
    number = int(str(given))
    if not 400 <= number <= 599:
        raise ValueError(number)
    return number
