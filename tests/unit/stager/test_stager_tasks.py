"""The log, the environment, the failure, the cache and the configuration: what surrounds a build."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.common.config import parse as parse_config
from components.common.errors import ConfigError
from components.common.trees import hand_over
from components.common.units import UnitState, UnitStatus
from components.stager.build import BuildResult
from components.stager.config import StagerConfig
from components.stager.environment import build_environment, parse
from components.stager.errors import StagingError
from components.stager.staging_log import LONGEST_LINE, MOST_KEPT, MOST_SENT, StagingLog, clean
from components.stager.staging_task import failure_of
from components.stager.transfer import safe_uri, want_of_storage

CONFIG = {"bus": {"urls": ["nats://127.0.0.1:4222"]}}


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain\n", "plain"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("10%\r50%\r100%\r\n", "100%"),
        (
            "Looking in indexes: https://me:secret@index.example/simple",
            "Looking in indexes: https://***@index.example/simple",
        ),
        ("nul\x00bell\x07", "nulbell"),
        ("tab\tstays", "tab\tstays"),
    ],
)
def test_a_line_is_made_fit_to_be_shown(raw: str, shown: str) -> None:
    assert clean(raw) == shown


@given(st.text())
def test_a_clean_line_is_one_line_of_bounded_length(raw: str) -> None:
    line = clean(raw)
    assert len(line) <= LONGEST_LINE + 4
    assert "\r" not in line
    line.encode()


def test_a_short_log_is_kept_whole() -> None:
    log = StagingLog()
    assert [log.add(f"line {i}") for i in range(3)] == ["line 0", "line 1", "line 2"]
    assert log.text() == "line 0\nline 1\nline 2"
    assert log.tail() == log.text()


def test_a_long_log_keeps_its_beginning_and_its_end() -> None:
    log = StagingLog()
    sent = [log.add(f"{i} " + "x" * 1000) for i in range(3000)]
    text = log.text()
    assert len(text.encode()) < MOST_KEPT + 100
    assert text.startswith("0 x")
    assert "2999 x" in text
    assert "lines left out" in text
    shown = [line for line in sent if line is not None]
    assert sum(len(line) + 1 for line in shown[:-1]) <= MOST_SENT
    assert "not shown" in shown[-1]


def test_an_environment_file_is_read_as_systemd_reads_it() -> None:
    text = "# note\nA=1\nexport B='two words'\nC=\"x=y\"\n\nnot a line\nD=\n"
    assert parse(text) == {"A": "1", "B": "two words", "C": "x=y", "D": ""}


def test_a_build_learns_nothing_but_where_packages_are(tmp_path: Path) -> None:
    found = build_environment(
        {"SECRET": "s", "PIP_INDEX_URL": "http://own", "https_proxy": "http://p", "NATS_PASSWORD": "x"},
        "PIP_INDEX_URL=http://file\nINGOT_TOKEN=t\nNODE_EXTRA_CA_CERTS=/ca\n",
        tmp_path,
    )
    assert found["PIP_INDEX_URL"] == "http://file"
    assert found["https_proxy"] == "http://p"
    assert found["NODE_EXTRA_CA_CERTS"] == "/ca"
    assert found["HOME"] == str(tmp_path)
    assert not {"SECRET", "NATS_PASSWORD", "INGOT_TOKEN"} & set(found)


def test_the_stagers_own_settings_win(tmp_path: Path) -> None:
    found = build_environment({}, "PIP_INDEX_URL=http://file\n", tmp_path, "http://config", "http://npm")
    assert (found["PIP_INDEX_URL"], found["NPM_CONFIG_REGISTRY"]) == ("http://config", "http://npm")


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


def test_an_address_is_logged_without_its_password() -> None:
    assert (
        safe_uri("http://me:secret@10.0.0.1:9022/staging/app/1?x=y") == "http://10.0.0.1:9022/staging/app/1"
    )


def test_a_cache_is_handed_over_without_what_leads_elsewhere(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("root's")
    cache = tmp_path / "cache"
    (cache / "deep").mkdir(parents=True)
    (cache / "deep" / "wheel").write_text("w")
    (cache / "link").symlink_to(outside)
    (cache / "dirlink").symlink_to(tmp_path)
    os.link(outside, cache / "deep" / "hard")
    os.mkfifo(cache / "pipe")
    hand_over(cache, os.getuid(), 100)
    assert sorted(p.name for p in cache.rglob("*")) == ["deep", "wheel"]
    assert outside.read_text() == "root's"


def test_every_problem_of_a_configuration_is_told_at_once() -> None:
    raw = {**CONFIG, "max_tasks": 0, "sandbox": "none", "python": "python3", "first_uid": "x"}
    with pytest.raises(ConfigError) as error:
        parse_config(raw, StagerConfig)
    assert "first_uid" in str(error.value)
    raw.pop("first_uid")
    with pytest.raises(ConfigError) as error:
        parse_config(raw, StagerConfig)
    assert [p.split(":")[0] for p in error.value.problems] == ["max_tasks", "sandbox", "python"]


def test_a_refusal_for_want_of_storage_is_the_platforms_own_sentence():
    text = (
        '{"code":608,"description":"Not enough storage for packages and droplets: 3M, you are allowed: 2M"}'
    )
    assert want_of_storage(text) == "Not enough storage for packages and droplets: 3M, you are allowed: 2M"
    for other in ('{"code":300,"description":"x"}', "<html>", "[]", ""):
        assert not want_of_storage(other)
