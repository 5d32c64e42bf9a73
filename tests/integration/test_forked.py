"""A forked program is to its test what a started one is: streams, arguments, environment, session, signals, the end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration import forked
from tests.support.waiting import until

CLIENT = "components.client.main"
DAEMON = "components.health_manager.main"
SAMPLE = "tests.integration.forked_sample"
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def manager(tmp_path: Path) -> list[str]:
    """Return the arguments of a health manager that has neither bus nor controllers."""
    config = {
        "bus": {"urls": ["nats://127.0.0.1:1"]},
        "controllers": ["http://127.0.0.1:1"],
        "bulk_password": "bulk",
    }
    (tmp_path / "hm.yml").write_text(yaml.safe_dump(config))
    return ["--config", str(tmp_path / "hm.yml")]


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["no-such-command"], ["apps", "--none"]])
def test_the_client_says_what_it_says_when_it_is_started(arguments: list[str]) -> None:
    program = str(Path(sys.executable).parent / "ingot")
    installed = subprocess.run([program, *arguments], capture_output=True, text=True, check=False, timeout=60)

    def said(forks: bool) -> tuple[int, str, str]:
        with forked.forking(forks):
            done = forked.run(CLIENT, *arguments, name="ingot", timeout=60)
        return done.returncode, done.stdout, done.stderr

    assert said(True) == said(False) == (installed.returncode, installed.stdout, installed.stderr)


@pytest.mark.parametrize("leads", [False, True])
def test_a_program_sees_what_it_sees_when_it_is_started(tmp_path: Path, leads: bool) -> None:
    (tmp_path / "input").write_text("some input")
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "LC_CTYPE": "C.UTF-8", "ONLY": "this"}

    def facts(forks: bool) -> tuple[int, Any, str]:
        with (
            (tmp_path / "input").open() as given,
            (tmp_path / "out").open("wb") as out,
            (tmp_path / "err").open("wb") as err,
            forked.forking(forks),
        ):
            process = forked.start(
                *(SAMPLE, "one", "--two=3"),
                name="sample",
                cwd=tmp_path,
                env=environment,
                stdin=given,
                stdout=out,
                stderr=err,
                start_new_session=leads,
            )
        assert isinstance(process, forked.Forked) == forks
        code = process.wait(60)
        return code, json.loads((tmp_path / "out").read_text()), (tmp_path / "err").read_text()

    assert facts(forks=True) == facts(forks=False)
    assert facts(forks=True)[0] == 3


def test_standard_error_may_go_where_the_output_goes(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        process = forked.start(SAMPLE, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)

    assert process.wait(60) == 3
    assert (tmp_path / "log").read_text().endswith("no error\n")


def test_a_daemon_ends_as_asked(manager: list[str], tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as out:
        process = forked.start(DAEMON, *manager, stdout=out, stderr=out)
    until(lambda: "daemon_started" in log.read_text(), "it has started")

    assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.01)
    process.terminate()
    assert process.wait(20) == 0
    assert "daemon_stopped" in log.read_text()


def test_who_is_killed_keeps_the_number_until_somebody_asks(manager: list[str]) -> None:
    process = forked.start(DAEMON, *manager, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    stat = Path(f"/proc/{process.pid}/stat")

    os.kill(process.pid, signal.SIGKILL)
    until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "Z", "it is a zombie")

    assert process.wait(20) == -signal.SIGKILL
    until(lambda: not stat.exists(), "it is gone")
    process.kill()
    assert process.poll() == -signal.SIGKILL


def test_one_that_cannot_begin_says_why(tmp_path: Path) -> None:
    done = forked.run(DAEMON, "--config", str(tmp_path / "none.yml"), timeout=60)

    assert (done.returncode, done.stdout) == (2, "")
    assert "none.yml" in done.stderr


def test_programs_are_forked_side_by_side(manager: list[str]) -> None:
    processes = [
        forked.start(DAEMON, *manager, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(4)
    ]

    assert len({process.pid for process in processes}) == 4
    numbers = [signal.SIGKILL, signal.SIGUSR1] * 2
    for process, number in zip(processes, numbers, strict=True):
        process.send_signal(number)
    assert [process.wait(20) for process in processes] == [-number for number in numbers]
