"""The start, stop and change of an application, with progress. Push and the commands share it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from components.client.api import Api, App
from components.client.errors import ApiError, ClientError, PushError, UnreachableError
from components.client.follow.start import AppSnapshot, StartFollower, StartOutcome
from components.client.progress import Progress

START_TIMEOUT = 60.0
# As long as a rolling update watches a new instance (`SETTLE_SECONDS` of the controller).
SETTLE_SECONDS = 3.0
LOG_LINES = 40
T = TypeVar("T")
_STAGING_CODES = frozenset({307, 308, 310, 800, 801})
# The most informative log first.
_LOGS = ("logs/stderr.log", "logs/stdout.log", "logs/startup.log")
_LISTEN_HINT = (
    "the application must listen on 0.0.0.0 and the port in $PORT; allow it longer with --timeout SECONDS"
)


def tail(text: str, lines: int = LOG_LINES) -> str:
    """Return the last lines of a text, with the number of lines left out."""
    rows = text.splitlines()
    cut = [f"... {len(rows) - lines} lines more"] if len(rows) > lines else []
    return "\n".join([*cut, *rows[-lines:]])


def instance_logs(api: Api, name: str, instance: str, files: Iterable[str] = _LOGS) -> str:
    """Return the ends of an instance's logs, each under its name; those that cannot be read are left out."""
    parts = []
    for file in files:
        with contextlib.suppress(ClientError):
            if text := api.file(name, instance, file).strip("\n"):
                parts.append(f"==> {file} of instance {instance}\n{tail(text)}")
    return "\n".join(parts)


@dataclass(slots=True)
class AppLifecycle:
    """One application of one controller.

    Args:
        progress: shows the stages.
        timeout: seconds a start may take, staging not counted.
        procfile: whether the application's files hold a Procfile; None: they have to be asked.
        stop_on_failure: whether an application whose new version does not come up is stopped again (for a push).
    """

    api: Api
    name: str
    progress: Progress
    timeout: float = START_TIMEOUT
    stop_on_failure: bool = False
    procfile: bool | None = None

    def change(self, **changes: Any) -> App:
        """Put the application back with these members changed (of `meta`, the named ones); return what was put."""
        app = self.api.app(self.name)
        if "meta" in changes:
            # The controller compares the version in it.
            changes["meta"] = {**(app.get("meta") or {}), **changes["meta"]}
        if "command" in changes.get("staging", {}):
            # An older controller uses the command in `meta`.
            meta = changes.get("meta") or app.get("meta") or {}
            changes["meta"] = {**meta, "command": changes["staging"]["command"]}
        app = {**app, **changes}
        self.api.update(self.name, app)
        return app

    def stop(self) -> None:
        """Stop the application; a stopped one stays so."""
        if self.api.app(self.name).get("state") != "STOPPED":
            self.change(state="STOPPED")

    def start(self, *, new: bool = False, **changes: Any) -> None:
        """Stage it if that is due, start it with these changes, and wait until all its instances run.

        A running application is restarted; it serves until the new version is staged. A `new` one never ran.

        Raises:
            PushError: naming the stage, with its log.
        """
        old = self.api.app(self.name)
        # The controller may take two seconds over this; crashes are requested only after a failure.
        with Background(frozenset[str] if new else self.crashed) as before, self._stopping(old):
            self.stage(lambda: self.change(state="STARTED", **changes))
            now = self.api.app(self.name)
            if old.get("state") == "STARTED" and old.get("version") == now.get("version"):
                # Nothing had to be staged, so nothing was restarted.
                self.stop()
                self.change(state="STARTED")
            with self.progress.stage("starting"):
                self.wait(int(now.get("instances") or 1), before.result, lambda: self._settle(now))

    def restart(self) -> None:
        """Stop the application and start it."""
        self.stop()
        self.start()

    def stage(self, change: Callable[[], object], then: str = "starting") -> None:
        """Make a call that stages the application where that is needed; show its log as it grows.

        Args:
            change: the call.
            then: the next stage, to which other errors belong.

        Raises:
            PushError: staging failed.
        """
        with self.progress.stage("staging"):
            earlier = self._staging_log()
            call = Background(change)
            shown = ""
            while not call.done(0.4):
                shown = self._show_log(earlier, shown)
            try:
                call.result()
            except ApiError as error:
                if error.code not in _STAGING_CODES:
                    raise PushError(then, error.message, hint=error.hint) from error
                # The first line is the reason; the end of the log follows it.
                reason, _, end = error.description.partition("\n")
                log = "" if self._show_log(earlier, shown) else tail(self._staging_log() or end)
                raise PushError(
                    "staging",
                    reason.removeprefix("Staging failed: "),
                    log,
                    "correct the application and push it again",
                ) from error

    def wait(
        self,
        wanted: int,
        known_crashes: Callable[[], frozenset[str]] = frozenset,
        settle: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """Wait until `wanted` instances run, and have run for the seconds that `settle` returns.

        Raises:
            PushError: with the logs of an instance that did not.
        """
        follower = StartFollower(self.api, self.name, wanted, known_crashes, settle, self.progress.detail)
        outcome, snapshot = follower.wait(self.timeout)
        if outcome is StartOutcome.RUNNING:
            return
        raise self._start_failure(outcome, snapshot)

    def _settle(self, app: App) -> float:
        """Return the seconds that an application has to run on before its start is proven.

        An answer of its health path proves it, and so does the port where a framework's own server opens it: such a server has
        loaded the application by then. A server of a developer's command may listen first and fail afterwards.
        """
        meta, staging = app.get("meta") or {}, app.get("staging") or {}
        if (meta.get("health") or {}).get("path"):
            return 0.0
        own = bool(meta.get("command")) or staging.get("model") == "standalone" or self._has_procfile()
        return SETTLE_SECONDS if own else 0.0

    def _has_procfile(self) -> bool:
        if self.procfile is None:
            try:
                self.procfile = bool(self.api.file(self.name, "0", "app/Procfile"))
            except ApiError:
                self.procfile = False
            except UnreachableError:
                # The start is unknown, so nothing is proven.
                return True
        return self.procfile

    def _start_failure(self, outcome: StartOutcome, snapshot: AppSnapshot) -> PushError:
        crashes = snapshot.crashes or tuple(sorted(self.crashed()))[-1:]
        logs = instance_logs(self.api, self.name, crashes[-1] if crashes else "0")
        if outcome is StartOutcome.CRASHED:
            return PushError("starting", "the application crashed", logs, "its last words are above")
        if snapshot.states["STARTING"] or crashes:
            return PushError("starting", f"{snapshot.text()} after {self.timeout:.0f} s", logs, _LISTEN_HINT)
        return PushError(
            "starting",
            f"{snapshot.text()} after {self.timeout:.0f} s",
            logs,
            "there may be no machine with room for it: `ingot machines`, or a smaller --memory",
        )

    @contextlib.contextmanager
    def _stopping(self, old: App) -> Iterator[None]:
        try:
            yield
        except PushError:
            if self.stop_on_failure:
                # The failure is reported; that the application could not be stopped either is not.
                with contextlib.suppress(ClientError):
                    if not self._still_runs(old):
                        self.stop()
            raise

    def _still_runs(self, old: App) -> bool:
        """Return whether the old version still runs, because the new one failed before it was started."""
        now = self.api.app(self.name)
        return (old.get("state"), old.get("version")) == ("STARTED", now.get("version"))

    def crashed(self) -> frozenset[str]:
        """Return the ids of the instances that crashed lately; none where they are not known."""
        with contextlib.suppress(ApiError):
            return frozenset(str(item.get("instance")) for item in self.api.crashes(self.name))
        return frozenset()

    def _staging_log(self) -> str:
        with contextlib.suppress(ClientError):
            return self.api.staging_log(self.name)
        return ""

    def _show_log(self, earlier: str, shown: str) -> str:
        """Show the part of the log that is not shown yet; `earlier` is the last staging's. Return all that is shown now."""
        text = self._staging_log()
        if text == earlier or not text.startswith(shown):
            return shown
        # The shown part may end within a line's end: the controller joins lines as they come.
        self.progress.log(text[len(shown) :].lstrip("\n"))
        return text


class Background(Generic[T]):
    """A call in a thread of its own, so that the screen moves meanwhile; the thread ends with the program.

    As a context manager it waits for the call at the end, because the call's resources may end there; Ctrl-C does not wait.
    """

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._value: list[T] = []
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None or issubclass(kind, Exception):
            self._thread.join()

    def done(self, seconds: float) -> bool:
        """Wait at most `seconds`; return whether the call has returned."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def result(self) -> T:
        """Wait for the call; return its result or raise its error."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._value[0]

    def _run(self) -> None:
        try:
            self._value.append(self._call())
        except Exception as error:  # noqa: BLE001 - the caller that waits for the result gets the error
            self._error = error
