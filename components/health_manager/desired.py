"""The desired state: the applications of the controllers' database (protocol 1.15 and 5.1). Pure; no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from components.common.digits import whole_number
from components.common.states import AppState, PackageState

NEVER = float("-inf")
STARTED, STOPPED, INVALID = AppState.STARTED, AppState.STOPPED, "INVALID"


@dataclass(frozen=True, slots=True)
class DesiredApp:
    """The desired state of one application.

    `version` is the live version: the controller's, or `<staged_package_hash>-<run_count>`; empty where neither
    is known. `changed_at` is when its owner changed it last, on this process's monotonic clock. `updating` is the version
    before while a rolling update runs (docs/decisions/0007-the-core.md), else empty.
    """

    id: int
    state: str
    instances: int
    version: str
    staged: bool
    last_updated: int
    changed_at: float = field(default=NEVER, compare=False)
    name: str = ""
    memory: int = 0
    framework: str = ""
    runtime: str = ""
    owner: str = ""
    updating: str = ""

    def serves(self, version: str) -> bool:
        """Return whether a version serves: the live one, and during an update the one before."""
        return version == self.version or (version == self.updating and version != "")

    def same(self, other: DesiredApp | None) -> bool:
        """Return whether no difference could ask for an action."""
        return other is not None and (
            (self.state, self.instances, self.version, self.staged, self.last_updated, self.updating)
            == (other.state, other.instances, other.version, other.staged, other.last_updated, other.updating)
        )


def parse_row(droplet: int, row: Mapping[str, Any]) -> DesiredApp:
    """Return the application of one row of `GET /bulk/apps`.

    An invalid row is kept as state INVALID: nothing is done about it, and it does not count as deleted.
    """
    try:
        digest = str(row.get("staged_package_hash") or "")
        state = str(row.get("state") or "").upper()
        return DesiredApp(
            id=droplet,
            state=state if state in (STARTED, STOPPED) else INVALID,
            instances=max(int(row["instances"]), 0),
            version=str(
                row.get("version") or (f"{digest}-{int(row.get('run_count') or 0)}" if digest else "")
            ),
            staged=str(row.get("package_state") or PackageState.STAGED).upper() == PackageState.STAGED,
            last_updated=epoch(row.get("last_updated", row.get("updated_at"))),
            name=str(row.get("name") or ""),
            memory=int(row.get("memory") or 0),
            framework=str(row.get("framework") or ""),
            runtime=str(row.get("runtime") or ""),
            owner=str(row.get("owner") or row.get("owner_email") or row.get("owner_id") or ""),
            updating=str(row.get("updating") or ""),
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        return DesiredApp(droplet, INVALID, 0, "", staged=False, last_updated=0)


def epoch(value: object) -> int:
    """Return the seconds of a time in controllers' forms: seconds since 1970, or ISO 8601 (UTC where no zone is given).

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, int | float):
        return int(value)
    if not isinstance(value, str):
        raise ValueError("must be a time")  # noqa: TRY004 - the value is foreign data, not a programming error
    if (seconds := whole_number(value)) is not None:
        return seconds
    when = datetime.fromisoformat(value)
    return int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp())


class DesiredTable:
    """The applications of the last complete reading, and those that were reported as changed since."""

    def __init__(self) -> None:
        self.apps: dict[int, DesiredApp] = {}
        self.fetched_at = NEVER
        self.total_users = 0
        self._touched: dict[int, float] = {}

    @property
    def loaded(self) -> bool:
        """Return whether there was a complete reading."""
        return self.fetched_at > NEVER

    def age(self, now: float) -> float:
        """Return the seconds since the last complete reading began."""
        return now - self.fetched_at

    def touch(self, droplet: int, now: float) -> None:
        """Record that an application has changed: no reading begun before counts for it."""
        self._touched[droplet] = now

    def fresh(self, droplet: int) -> bool:
        """Return whether the reading is younger than the last report of a change."""
        return self.fetched_at > self._touched.get(droplet, NEVER)

    def load(self, apps: Iterable[DesiredApp], began: float, wall: float) -> list[int]:
        """Replace the desired state by a complete reading.

        Args:
            apps: every application.
            began: when the reading began, monotonic.
            wall: the controller's clock then, seconds since 1970: `last_updated` is compared with this.

        Returns:
            the applications that appeared, changed or went.
        """
        before, after, changed = self.apps, {}, []
        for fresh in apps:
            previous = before.get(fresh.id)
            if fresh == previous:
                after[fresh.id] = previous
                continue
            if previous is not None and previous.last_updated == fresh.last_updated:
                since = previous.changed_at
            else:
                since = began - max(wall - fresh.last_updated, 0.0)
            app = after[fresh.id] = replace(fresh, changed_at=since)
            if not app.same(previous):
                changed.append(app.id)
        changed.extend(before.keys() - after.keys())
        self.apps, self.fetched_at = after, began
        # Changes reported before this reading are in it, and worth another look.
        for droplet in [d for d, when in self._touched.items() if when < began]:
            del self._touched[droplet]
            changed.append(droplet)
        return changed
