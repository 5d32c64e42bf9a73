"""The errors that clients see: one table (protocol 1.3), one exception."""

from __future__ import annotations

from enum import IntEnum
from typing import Self

from components.common.errors import IngotError


class Code(IntEnum):
    """The number of an error in its answer, with the HTTP `status` and the `text`, in which `{}` takes the facts.

    The names of 2011's codes are those of vcap's `CloudError`. The others are Ingot's own.
    """

    status: int
    text: str

    def __new__(cls, number: int, status: int, text: str) -> Self:
        """Make one member from a row of the table."""
        code = int.__new__(cls, number)
        code._value_, code.status, code.text = number, status, text
        return code

    BAD_REQUEST = 100, 400, "Bad request: {}"
    DATABASE_ERROR = 101, 500, "Error talking with the database"
    LOCKING_ERROR = 102, 400, "The application was changed by someone else: meta.version is not {}"
    NO_DATABASE = 103, 503, "The database does not answer; repeat the request later"
    BUSY = 104, 503, "Too many clients are being waited for: repeat the request in {} s"
    SLOW_BODY = 105, 408, "The request's body did not come in time"
    NO_SHARE = 106, 503, "The share of packages and droplets does not answer; repeat the request later"
    SYSTEM_ERROR = 111, 500, "System exception encountered"
    FORBIDDEN = 200, 403, "Operation not permitted"
    USER_NOT_FOUND = 201, 403, "User not found"
    HTTPS_REQUIRED = 202, 403, "HTTPS required"
    APP_INVALID = 300, 400, "Invalid application description: {}"
    APP_NOT_FOUND = 301, 404, "Application not found"
    APP_NO_RESOURCES = 302, 404, "There is no place to run the application: {}"
    APP_FILE_NOT_FOUND = 303, 404, "File not found: '{}'"
    APP_INSTANCE_NOT_FOUND = 304, 400, "Instance not found: '{}'"
    APP_STOPPED = 305, 400, "Operation not permitted on a stopped application"
    APP_FILE_ERROR = 306, 500, "Error retrieving file '{}'"
    APP_INVALID_RUNTIME = 307, 400, "Invalid runtime '{}' for framework '{}'"
    APP_INVALID_FRAMEWORK = 308, 400, "Invalid framework: '{}'"
    APP_DEBUG_DISALLOWED = 309, 400, "Debug mode '{}' is not allowed"
    APP_STAGING_ERROR = 310, 500, "Staging failed: {}"
    RESOURCES_UNKNOWN_PACKAGE_TYPE = 400, 400, "Unknown package type: '{}'"
    RESOURCES_MISSING_RESOURCE = 401, 400, "The resource requested is missing: '{}'"
    RESOURCES_PACKAGING_FAILED = 402, 500, "Application packaging failed: {}"
    TOO_MANY_REQUESTS = 429, 429, "Too many requests: the next one is let through in {} s"
    SERVICE_NOT_FOUND = 500, 404, "Service not found"
    BINDING_NOT_FOUND = 501, 404, "Binding not found"
    TOKEN_NOT_FOUND = 502, 404, "Token not found"
    SERVICE_GATEWAY_ERROR = 503, 502, "Unexpected response from service gateway: {}"
    ACCOUNT_TOO_MANY_SERVICES = 504, 403, "Too many services provisioned: {}, you are allowed: {}"
    EXTENSION_NOT_IMPL = 505, 501, "Service extension {} is not implemented"
    ACCOUNT_NOT_ENOUGH_MEMORY = 600, 403, "Not enough memory capacity, you are allowed: {}"
    ACCOUNT_APPS_TOO_MANY = 601, 403, "Too many applications: {}, you are allowed: {}"
    ACCOUNT_APP_TOO_MANY_URIS = 602, 403, "Too many URIs: {}, you are allowed: {}"
    ACCOUNT_TOO_MANY_INSTANCES = 603, 403, "Too many instances: {}, you are allowed: {}"
    ACCOUNT_NOT_ENOUGH_DISK = 604, 403, "Not enough disk capacity: {}M, you are allowed: {}M"
    ACCOUNT_TOO_MANY_URIS = 605, 403, "Too many URIs in all: {}, you are allowed: {}"
    ACCOUNT_TOO_MANY_STAGINGS = 606, 403, "Too many applications are being staged: {}, you are allowed: {}"
    REGISTERED_ACCOUNTS_FULL = (
        607,
        403,
        "Accounts that registered themselves have no more room together: ask the platform's operator for {}",
    )
    ACCOUNT_NOT_ENOUGH_STORAGE = (
        608,
        403,
        "Not enough storage for packages and droplets: {}M, you are allowed: {}M",
    )
    URI_INVALID = 700, 400, "Invalid URI: '{}'"
    URI_ALREADY_TAKEN = 701, 400, "The URI '{}' has already been taken or reserved"
    URI_NOT_ALLOWED = 702, 403, "External URIs are not enabled for this account"
    STAGING_TIMED_OUT = 800, 500, "Staging timed out: {}"
    STAGING_FAILED = 801, 500, "Staging failed"


class ApiError(IngotError):
    """An error that is answered as HTTP `status` with `{"code", "description"}`.

    Args:
        code: of the table.
        facts: the values for the text's placeholders.
    """

    def __init__(self, code: Code, *facts: object) -> None:
        self.code = code
        self.status = code.status
        self.description = code.text.format(*facts)
        super().__init__(self.description)


class BusyError(ApiError):
    """An error that is answered as 503 with `Retry-After`: `seconds`."""

    def __init__(self, seconds: int) -> None:
        self.seconds = seconds
        super().__init__(Code.BUSY, seconds)


class SlowError(ApiError):
    """A body did not arrive in time."""

    def __init__(self) -> None:
        super().__init__(Code.SLOW_BODY)


def bad_request(reason: str) -> ApiError:
    """Return the error for a request that cannot be understood."""
    return ApiError(Code.BAD_REQUEST, reason)


def unexpected(reason: str) -> ApiError:
    """Return the error of 2011 for a request that failed for an unforeseen reason, which it states."""
    error = ApiError(Code.SYSTEM_ERROR)
    error.description = f"{error.description}: {reason}"
    return error


def denied() -> ApiError:
    """Return the 403 for callers that are anonymous or not allowed."""
    return ApiError(Code.FORBIDDEN)


def no_app() -> ApiError:
    """Return the error for an application that the user does not have."""
    return ApiError(Code.APP_NOT_FOUND)


def invalid_app(reason: str) -> ApiError:
    """Return the error for an application's description that cannot be used."""
    return ApiError(Code.APP_INVALID, reason)
