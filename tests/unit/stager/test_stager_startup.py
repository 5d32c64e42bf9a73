"""The scripts of a droplet, run by a real shell."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from components.common.frameworks import find_runtime
from components.stager.startup import RUNTIME_MARK, Start, commands, startup, stop
from tests.support.waiting import until


class Droplet:
    """A droplet as a DEA lays it out: the mark replaced, the scripts 0500."""

    def __init__(self, root: Path, start: Start, runtime: str | None = None) -> None:
        self.root = root
        kind = find_runtime(runtime) if runtime else None
        scripts = root / "app" / ".ingot" / "bin"
        scripts.mkdir(parents=True)
        for name, content in commands(kind).items():
            (scripts / name).write_text(content)
            (scripts / name).chmod(0o755)
        for name, text in (("startup", startup(start, kind)), ("stop", stop())):
            (root / name).write_text(text.replace(RUNTIME_MARK, sys.executable))
            (root / name).chmod(0o500)

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        # As a DEA does: nothing in the environment that it did not put there.
        return subprocess.Popen([self.root / "startup", *arguments], cwd=self.root, env=environment)

    def run(self, *arguments: str, **environment: str) -> int:
        return self.start(*arguments, **environment).wait(20)

    def output(self, stream: str = "stdout") -> str:
        return (self.root / "logs" / f"{stream}.log").read_text()

    def pid(self) -> int:
        return int(
            until(lambda: (self.root / "run.pid").exists() and (self.root / "run.pid").read_text(), "it runs")
        )


@pytest.mark.parametrize("status", [0, 1, 7, 143])
def test_it_ends_with_the_applications_status(tmp_path: Path, status: int) -> None:
    droplet = Droplet(tmp_path, Start(f"exit {status}"))
    assert droplet.run() == status


def test_output_goes_to_the_logs_and_is_added_to(tmp_path: Path) -> None:
    droplet = Droplet(tmp_path, Start("echo out; echo err >&2; pwd"))
    droplet.run()
    droplet.run()
    assert droplet.output() == f"out\n{tmp_path}/app\n" * 2
    assert droplet.output("stderr") == "err\n" * 2


def test_each_start_adds_its_pid(tmp_path: Path) -> None:
    droplet = Droplet(tmp_path, Start("echo $$"))
    droplet.run()
    droplet.run()
    assert (tmp_path / "run.pid").read_text().split() == droplet.output().split()


def test_the_port_reaches_the_application_under_both_names(tmp_path: Path) -> None:
    droplet = Droplet(tmp_path, Start('echo "$VCAP_APP_PORT $PORT"'))
    droplet.run("-p", "61001")
    assert droplet.output() == "61001 61001\n"


def test_no_port_is_no_error(tmp_path: Path) -> None:
    droplet = Droplet(tmp_path, Start('echo "port:${VCAP_APP_PORT-none}"'))
    assert droplet.run() == 0
    assert droplet.output() == "port:none\n"


def test_the_users_variables_win_over_the_runtimes(tmp_path: Path) -> None:
    start = Start('echo "$NODE_ENV $OWN"', environment={"OWN": 'a"$HOME`b`}'})
    droplet = Droplet(tmp_path, start, "node")
    droplet.run(NODE_ENV="test")
    droplet.run()
    assert droplet.output() == 'test a"$HOME`b`}\nproduction a"$HOME`b`}\n'


def test_python_is_the_interpreter_that_the_dea_names(tmp_path: Path) -> None:
    start = Start("python -c 'import sys; print(sys.executable, sys.path[1])'", prepend={"PYTHONPATH": "lib"})
    droplet = Droplet(tmp_path, start, "python26")
    droplet.run()
    assert droplet.output() == f"{sys.executable} {tmp_path}/app/lib\n"


def test_without_a_runtime_commands_are_at_their_usual_place(tmp_path: Path) -> None:
    droplet = Droplet(tmp_path, Start("python -c 'print(42)'"))
    droplet.run()
    assert droplet.output() == "42\n"
    assert RUNTIME_MARK not in startup(Start("true"), None)


def test_a_command_may_hold_any_quotes(tmp_path: Path) -> None:
    droplet = Droplet(tmp_path, Start("""echo 'it'"'"'s' "$(echo "a b")" """))
    droplet.run()
    assert droplet.output() == "it's a b\n"


def test_sigterm_reaches_the_application_and_its_status_is_kept(tmp_path: Path) -> None:
    program = "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(9)); print('up', flush=True); time.sleep(60)"
    droplet = Droplet(tmp_path, Start(f'exec python -c "{program}"'))
    process = droplet.start()
    until(lambda: (tmp_path / "logs/stdout.log").exists() and droplet.output(), "it says something")
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 9


def test_an_application_that_dies_of_a_signal_is_seen_as_such(tmp_path: Path) -> None:
    droplet = Droplet(tmp_path, Start("exec sleep 60"))
    process = droplet.start()
    os.kill(droplet.pid(), signal.SIGKILL)
    assert process.wait(20) == 128 + signal.SIGKILL


def test_stop_ends_the_process_it_is_given(tmp_path: Path) -> None:
    droplet = Droplet(tmp_path, Start("exec sleep 60"))
    process = droplet.start()
    assert subprocess.run([tmp_path / "stop", str(droplet.pid())], check=False).returncode == 0
    assert process.wait(20) == 128 + signal.SIGTERM


@pytest.mark.parametrize("argument", ["1", "0", "-1", "x; true", ""])
def test_stop_refuses_what_is_no_process_of_an_application(tmp_path: Path, argument: str) -> None:
    Droplet(tmp_path, Start("true"))
    done = subprocess.run([tmp_path / "stop", argument], check=False, capture_output=True)
    assert done.returncode == 2
