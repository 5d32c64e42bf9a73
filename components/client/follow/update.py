"""A rolling update, watched to its end: new instances run before old ones leave. The decisions are pure."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from components.client.api_v2 import missing
from components.client.errors import ApiError, PushError, UnreachableError, away
from components.client.lifecycle import AppLifecycle, Background, instance_logs

STAGE = "updating"
_PERIOD = 0.4
_STILL = "the version before still runs"
_SUCCEEDED, _UPDATING = "SUCCEEDED", "UPDATING"


@dataclass(frozen=True, slots=True)
class UpdateSnapshot:
    """An update at one moment: `replaced` of `instances` instances run the new version."""

    state: str
    replaced: int = 0
    instances: int = 0
    message: str = ""

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> UpdateSnapshot:
        """Return the update of an answer to `GET /v2/apps/NAME/update`."""
        return cls(
            str(answer.get("state") or "NONE"),
            int(answer.get("replaced") or 0),
            int(answer.get("instances") or 0),
            str(answer.get("message") or ""),
        )

    @property
    def over(self) -> bool:
        """Return whether the update has ended."""
        return self.state != _UPDATING

    @property
    def failed(self) -> bool:
        """Return whether the update ended without success; NONE is an update that had nothing to do."""
        return self.state not in {_UPDATING, _SUCCEEDED, "NONE"}

    def text(self) -> str:
        """Return `1/3 replaced`."""
        return f"{self.replaced}/{self.instances} replaced"


@dataclass(slots=True)
class Updater:
    """Updates one application of one controller.

    Args:
        life: the application; its timeout holds for each instance.
    """

    life: AppLifecycle
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def possible(self) -> bool:
        """Return whether the controller can do it; an older one stops all and starts all."""
        try:
            self.life.api.update_state(self.life.name)
        except ApiError as error:
            if missing(error):
                return False
            if error.status != 404:
                raise
        return True

    def run(self, changes: Mapping[str, Any] | None = None) -> UpdateSnapshot:
        """Stage the new version and have every instance replaced; return the update as it ended.

        Args:
            changes: changed members of the application, if any.

        Raises:
            PushError: staging or the update failed; the version before still runs.
            ApiError: `missing` where there are changes, and the controller is too old to make them in an update.
        """
        # The controller may take two seconds over this; crashes are requested only after a failure.
        with Background(self.life.crashed) as before:
            try:
                self.life.stage(partial(self._begin, changes), STAGE)
            except PushError as error:
                if isinstance(error.__cause__, ApiError) and missing(error.__cause__):
                    raise error.__cause__ from error
                error.hint = f"{_STILL}; {error.hint}" if error.hint else _STILL
                raise
            return self.follow(before.result)

    def _begin(self, changes: Mapping[str, Any] | None) -> None:
        if changes:
            self.life.api.change_and_update(self.life.name, changes)
        else:
            self.life.api.begin_update(self.life.name)

    def follow(self, crashed_before: Callable[[], frozenset[str]] = frozenset) -> UpdateSnapshot:
        """Wait until the update under way has ended.

        Args:
            crashed_before: returns the ids of the instances that had crashed before; called only when needed.

        Raises:
            PushError: it failed, or takes longer than its instances may.
        """
        with self.life.progress.stage(STAGE):
            begun, update, replaced = self.clock(), UpdateSnapshot(_UPDATING), -1
            while True:
                try:
                    update = UpdateSnapshot.of(self.life.api.update_state(self.life.name))
                except (ApiError, UnreachableError) as error:
                    # A controller that is being replaced is no failure: another carries the update on.
                    if not away(error):
                        raise
                if update.replaced != replaced and update.instances:
                    replaced = update.replaced
                    self.life.progress.count(replaced, update.instances, "replaced")
                if update.over:
                    break
                if self.clock() - begun > self.life.timeout * max(1, update.instances):
                    raise PushError(
                        STAGE,
                        f"{update.text()} after {self.clock() - begun:.0f} s",
                        hint=f"the platform goes on with it: `ingot app {self.life.name}` shows how far it is",
                    )
                self.sleep(_PERIOD)
            if update.failed:
                raise self._failure(update, crashed_before)
            return update

    def _failure(self, update: UpdateSnapshot, crashed_before: Callable[[], frozenset[str]]) -> PushError:
        fresh = sorted(self.life.crashed() - crashed_before())
        logs = instance_logs(self.life.api, self.life.name, fresh[-1]) if fresh else ""
        reason = update.message or "a new instance did not run"
        return PushError(
            STAGE,
            reason,
            logs,
            f"{_STILL}; correct the application and push it again (--hard needs no room for both)"
            + ("; the last lines of its log are above" if logs else ""),
        )
