"""The reason of an exit, in words."""

from __future__ import annotations

import pytest

from components.common.bus.messages import Limits
from components.common.units import UnitState, UnitStatus
from components.dea.limits import exit_reason


@pytest.mark.parametrize(
    ("status", "crowded", "words"),
    [
        (UnitStatus(UnitState.EXITED, None, 3), None, "exited with status 3"),
        (UnitStatus(UnitState.EXITED, None, 3), 512, "too many tasks (512): exited with status 3"),
        (
            UnitStatus(UnitState.EXITED, None, None, 9, "oom-kill"),
            None,
            "memory over 64 MB (killed by its control group)",
        ),
        (UnitStatus(UnitState.EXITED, None, 153), None, "a file over 1024 MB"),
        (UnitStatus(UnitState.EXITED, None, None, 25), None, "a file over 1024 MB"),
        (UnitStatus(UnitState.MISSING), None, "ended unseen"),
    ],
)
def test_ends_are_told_in_words(status: UnitStatus, crowded: int | None, words: str) -> None:
    assert exit_reason.describe(status, Limits(mem=64), 1024, crowded) == words
