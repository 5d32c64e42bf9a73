"""The runtimes of the DEAs, checked before a push or a start."""

from __future__ import annotations

import time

from components.common.frameworks import InvalidFrameworkError, check_offered, offered
from components.common.states import AppState
from components.controller.apps.change_plan import AppSpec
from components.controller.errors import ApiError, Code
from components.controller.pool.registry import LOST, Pool


def versions(pool: Pool) -> dict[str, str] | None:
    """Return the runtimes of the present DEAs, name to version; None where they are unknown."""
    now = time.monotonic()
    beats = [beat for beat, _seen in pool.beats() if pool.state(beat.id, now) != LOST]
    return offered((beat.runtimes, beat.runtime_versions) for beat in beats)


def check(pool: Pool, current: AppSpec, target: AppSpec) -> None:
    """Refuse a runtime that no DEA has, for a new choice of it and for a start.

    Raises:
        ApiError: APP_INVALID_RUNTIME.
    """
    if target.runtime == current.runtime and (
        target.state == current.state or target.state != AppState.STARTED
    ):
        return
    try:
        check_offered(target.runtime, versions(pool))
    except InvalidFrameworkError as error:
        refused = ApiError(Code.APP_INVALID_RUNTIME, target.runtime, target.framework)
        refused.description = f"{refused.description}: {error}"
        raise refused from error
