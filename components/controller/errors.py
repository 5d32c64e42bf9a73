"""The errors that clients see: one table (protocol 1.3), one exception."""

from __future__ import annotations

from components.common.errors import IngotError

# code: (HTTP status, text); `{}` takes the facts.
TABLE: dict[int, tuple[int, str]] = {
    100: (400, "Bad request: {}"),
    101: (500, "Error talking with the database"),
    102: (400, "The application was changed by someone else: meta.version is not {}"),
    103: (503, "The database does not answer; repeat the request later"),
    104: (503, "Too many clients are being waited for: repeat the request in {} s"),
    105: (408, "The request's body did not come in time"),
    106: (503, "The share of packages and droplets does not answer; repeat the request later"),
    111: (500, "System exception encountered"),
    200: (403, "Operation not permitted"),
    201: (403, "User not found"),
    202: (403, "HTTPS required"),
    300: (400, "Invalid application description: {}"),
    301: (404, "Application not found"),
    302: (404, "There is no place to run the application: {}"),
    303: (404, "File not found: '{}'"),
    304: (400, "Instance not found: '{}'"),
    305: (400, "Operation not permitted on a stopped application"),
    306: (500, "Error retrieving file '{}'"),
    307: (400, "Invalid runtime '{}' for framework '{}'"),
    308: (400, "Invalid framework: '{}'"),
    309: (400, "Debug mode '{}' is not allowed"),
    310: (500, "Staging failed: {}"),
    400: (400, "Unknown package type: '{}'"),
    401: (400, "The resource requested is missing: '{}'"),
    402: (500, "Application packaging failed: {}"),
    429: (429, "Too many requests: the next one is let through in {} s"),
    500: (404, "Service not found"),
    501: (404, "Binding not found"),
    502: (404, "Token not found"),
    503: (502, "Unexpected response from service gateway: {}"),
    504: (403, "Too many services provisioned: {}, you are allowed: {}"),
    505: (501, "Service extension {} is not implemented"),
    600: (403, "Not enough memory capacity, you are allowed: {}"),
    601: (403, "Too many applications: {}, you are allowed: {}"),
    602: (403, "Too many URIs: {}, you are allowed: {}"),
    603: (403, "Too many instances: {}, you are allowed: {}"),
    604: (403, "Not enough disk capacity: {}M, you are allowed: {}M"),
    605: (403, "Too many URIs in all: {}, you are allowed: {}"),
    606: (403, "Too many applications are being staged: {}, you are allowed: {}"),
    607: (
        403,
        "Accounts that registered themselves have no more room together: ask the platform's operator for {}",
    ),
    608: (403, "Not enough storage for packages and droplets: {}M, you are allowed: {}M"),
    700: (400, "Invalid URI: '{}'"),
    701: (400, "The URI '{}' has already been taken or reserved"),
    702: (403, "External URIs are not enabled for this account"),
    800: (500, "Staging timed out: {}"),
    801: (500, "Staging failed"),
}

# Codes beyond the protocol: its 101 reports a failure, but not that it is temporary.
NO_DATABASE, BUSY, SLOW, NO_SHARE = 103, 104, 105, 106


class ApiError(IngotError):
    """An error that is answered as HTTP `status` with `{"code", "description"}`.

    Args:
        code: a key of the table.
        facts: the values for the text's placeholders.
    """

    def __init__(self, code: int, *facts: object) -> None:
        self.code = code
        self.status, text = TABLE[code]
        self.description = text.format(*facts)
        super().__init__(self.description)


class BusyError(ApiError):
    """An error that is answered as 503 with `Retry-After`: `seconds`."""

    def __init__(self, seconds: int) -> None:
        self.seconds = seconds
        super().__init__(BUSY, seconds)


class SlowError(ApiError):
    """A body did not arrive in time."""

    def __init__(self) -> None:
        super().__init__(SLOW)


def bad_request(reason: str) -> ApiError:
    """Return the error for a request that cannot be understood."""
    return ApiError(100, reason)


def unexpected(reason: str) -> ApiError:
    """Return the error of 2011 for a request that failed for an unforeseen reason, which it states."""
    error = ApiError(111)
    error.description = f"{error.description}: {reason}"
    return error


def denied() -> ApiError:
    """Return the 403 for callers that are anonymous or not allowed."""
    return ApiError(200)


def no_app() -> ApiError:
    """Return the error for an application that the user does not have."""
    return ApiError(301)
