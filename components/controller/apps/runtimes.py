"""What of the runtimes the DEAs have: asked before anything is pushed or started that nobody could run."""

from __future__ import annotations

import time

from components.common.frameworks import InvalidFrameworkError, check_offered, offered
from components.controller.apps.change_plan import AppSpec
from components.controller.errors import ApiError
from components.controller.pool.registry import LOST, Pool


def versions(pool: Pool) -> dict[str, str] | None:
    """Give what the DEAs that are there have, runtime name to version; None where that is not known."""
    now = time.monotonic()
    beats = [beat for beat, _seen in pool.beats() if pool.state(beat.id, now) != LOST]
    return offered((beat.runtimes, beat.runtime_versions) for beat in beats)


def check(pool: Pool, current: AppSpec, target: AppSpec) -> None:
    """Refuse a runtime that no DEA has, where it is chosen anew or an application is to be started on it.

    Raises:
        ApiError: 307.
    """
    if target.runtime == current.runtime and (target.state == current.state or target.state != "STARTED"):
        return
    try:
        check_offered(target.runtime, versions(pool))
    except InvalidFrameworkError as error:
        refused = ApiError(307, target.runtime, target.framework)
        refused.description = f"{refused.description}: {error}"
        raise refused from error
