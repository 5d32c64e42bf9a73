"""Authentication of operators: administrators whose token a controller confirms, and `operator` with a password."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Sequence

import httpx
from werkzeug.datastructures import Headers

from components.common import log
from components.common.errors import IngotError
from components.common.probes import authorised
from orchestrator.config import OrchestratorConfig

OPERATOR = "operator"
# How long a confirmed token still allows reading while no controller can be asked.
LOOK_SECONDS = 30.0
_CACHED_AT_MOST = 1000
logger = log.get(__name__)


class AuthError(IngotError):
    """The caller may not do this; `status` is 401, 403, or 503 where it cannot be decided."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


class Authenticator:
    """The authentication of callers.

    Args:
        config: the controllers that confirm tokens, and the operator's password.
        clock: seconds that only grow.
    """

    def __init__(self, config: OrchestratorConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self._controllers: Sequence[str] = [url.rstrip("/") for url in config.controllers]
        self._password = config.operator_password
        self._clock = clock
        self._mutex = threading.Lock()
        self._known: dict[str, tuple[str, float]] = {}
        self._http = httpx.Client(timeout=config.controller_timeout, trust_env=False)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def caller(self, headers: Headers, *, looks: bool = False) -> str:
        """Return the administrator's email, or `operator`.

        A controller is asked each time: a user revoked there is refused here at once.

        Args:
            headers: of the request.
            looks: the request changes nothing; then a token confirmed lately is enough where no controller answers.

        Raises:
            AuthError: 401 no login, or a wrong password; 403 not an administrator; 503 no controller answers.
        """
        given = headers.get("Authorization", "").strip()
        if not given:
            raise AuthError("log in: `ingot login` as an administrator, or the operator's password", 401)
        if given.lower().startswith("basic "):
            if authorised(given, OPERATOR, self._password):
                return OPERATOR
            logger.info("operator_rejected")
            raise AuthError("wrong user or password", 401)
        return self._administrator(given, looks=looks)

    def _administrator(self, token: str, *, looks: bool) -> str:
        key = hashlib.sha256(token.encode()).hexdigest()
        try:
            email = self._ask(token)
        except AuthError as error:
            with self._mutex:
                if error.status != 503:
                    self._known.pop(key, None)
                email, until = self._known.get(key, ("", 0.0))
            if looks and self._clock() < until:
                return email
            raise
        with self._mutex:
            if len(self._known) >= _CACHED_AT_MOST:
                self._known.clear()
            self._known[key] = (email, self._clock() + LOOK_SECONDS)
        return email

    def _ask(self, token: str) -> str:
        for url in self._controllers:
            try:
                answer = self._http.get(f"{url}/v2/me", headers={"Authorization": token})
                said = answer.json() if answer.status_code == 200 else None
            except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
                logger.warning("controller_unreachable", url=url, reason=str(error) or type(error).__name__)
                continue
            if answer.status_code in (401, 403):
                self._prefer(url)
                raise AuthError("this token is not, or no longer, valid: `ingot login`", 401)
            if not isinstance(said, dict) or not isinstance(said.get("email"), str):
                logger.warning("controller_cannot_tell", url=url, status=answer.status_code)
                continue
            self._prefer(url)
            if said.get("admin") is not True:
                raise AuthError(f"{said['email']} is not an administrator of the platform", 403)
            return str(said["email"])
        raise AuthError("no controller answers, so no token can be checked: use the operator's password", 503)

    def _prefer(self, url: str) -> None:
        """Ask this controller first from now on: a silent one would delay each request."""
        if self._controllers[0] != url:
            self._controllers = [url, *(other for other in self._controllers if other != url)]
