"""The failure of a build, from the end of its unit and from its result."""

from __future__ import annotations

import pytest

from components.common.config import parse as parse_config
from components.common.units import UnitState, UnitStatus
from components.stager.build import BuildResult
from components.stager.config import StagerConfig
from components.stager.errors import StagingError
from components.stager.staging_task import failure_of

CONFIG = {"bus": {"urls": ["nats://127.0.0.1:4222"]}}


def failure(status: UnitStatus, result: BuildResult) -> StagingError | None:
    return failure_of(status, result, parse_config(CONFIG, StagerConfig))


def test_a_build_that_ended_well_is_no_failure() -> None:
    assert failure(UnitStatus(UnitState.EXITED, exit_code=0, result="success"), BuildResult(ok=True)) is None


@pytest.mark.parametrize(
    ("status", "result", "stage", "says"),
    [
        (
            UnitStatus(UnitState.EXITED, result="timeout", signal=15),
            BuildResult("compile"),
            "compile",
            "longer than 120 s",
        ),
        (UnitStatus(UnitState.EXITED, result="oom-kill"), BuildResult("pack"), "pack", "1024 MB"),
        (
            UnitStatus(UnitState.EXITED, result="signal", signal=9),
            BuildResult("compile"),
            "compile",
            "want of memory",
        ),
        (
            UnitStatus(UnitState.EXITED, exit_code=1),
            BuildResult("detect", reason="no idea"),
            "detect",
            "no idea",
        ),
        (UnitStatus(UnitState.EXITED, exit_code=1), BuildResult("unpack"), "unpack", "exited with status 1"),
        (UnitStatus(UnitState.MISSING), BuildResult("compile"), "compile", "ended unseen"),
        # A build that says it is well and did not end well is not believed.
        (UnitStatus(UnitState.EXITED, exit_code=3), BuildResult("pack", ok=True), "pack", "status 3"),
    ],
)
def test_a_failed_build_is_told_by_stage_and_reason(
    status: UnitStatus, result: BuildResult, stage: str, says: str
) -> None:
    problem = failure(status, result)
    assert problem is not None
    assert problem.stage == stage
    assert says in str(problem)


def test_an_error_carries_the_logs_end() -> None:
    error = StagingError("compile", "it broke", "Mend it.")
    assert error.with_log("last line") == "compile failed: it broke. Mend it.\nlast line"
