"""The development harness as a person starts it: `ingot-lab dev`, with SQLite, and what is left when it ends."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.dev.errors import DevError
from orchestrator.dev.harness import Platform
from orchestrator.dev.settings import Settings
from orchestrator.lab.host.processes import identify, lives
from tests.integration.platform_fixture import Person, until


def dev(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "orchestrator.dev", *map(str, arguments)],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=180,
        check=False,
    )


def about(folder):
    """Processes whose command line names the folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(folder).encode() in path.read_bytes() and int(path.parent.name) != os.getpid():
                found.append(path.read_bytes())
        except OSError:
            continue
    return found


@pytest.fixture
def folder(tmp_path):
    yield tmp_path / "dev"
    dev("down", "--state", tmp_path / "dev")


def test_detached_platform_serves_and_ends_with_its_applications(folder, tmp_path):
    done = dev("up", "--port", 0, "--deas", 1, "--detach", "--state", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "http://api.ingot.localhost:" in done.stdout
    platform = Platform.attach(folder)
    assert platform is not None
    assert platform.admin_password not in done.stdout
    person = Person(platform, tmp_path / "home")
    person.login()
    person.push("hello", "hello")
    assert person.answer("hello")["app"] == "hello"
    instance = identify(next(iter(person.units().values())))
    assert lives(instance)

    assert dev("status", "--state", folder).returncode == 0
    again = dev("up", "--port", 0, "--detach", "--state", folder)
    assert again.returncode == 1
    assert "already" in again.stderr
    os.kill(platform.pid("stager"), signal.SIGKILL)
    said = until(lambda: (s := dev("status", "--state", folder)).returncode == 1 and s, "the death is seen")
    assert "ended" in said.stdout

    assert dev("down", "--state", folder).returncode == 0
    # A dead one may stay in the process table until the PID 1 here, whatever it is, collects it.
    assert not lives(instance)
    assert about(folder) == []
    assert dev("status", "--state", folder).returncode == 3


def test_killed_owner_is_cleared_by_the_next(folder):
    command = [
        sys.executable,
        "-m",
        "orchestrator.dev",
        "up",
        "--port",
        "0",
        "--deas",
        "1",
        "--state",
        str(folder),
    ]
    log = folder.parent / "up.log"
    with log.open("wb") as out:
        owner = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
        until(lambda: "Ctrl-C ends it" in log.read_text(), "it is up", 120)
        left = [managed.process for managed in Platform.attach(folder)._processes.values()]
        owner.kill()
        owner.wait()
        assert all(lives(process) for process in left)

        owner = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
        until(lambda: log.read_text().count("Ctrl-C ends it") == 2, "it is up again", 120)
    assert not any(lives(process) for process in left)
    os.kill(Platform.attach(folder).pid("router"), signal.SIGKILL)
    until(lambda: "was killed by SIGKILL" in log.read_text(), "a death is reported")
    assert "next: ingot target" in log.read_text()
    owner.send_signal(signal.SIGINT)
    assert owner.wait(60) == 0
    assert about(folder) == []


def test_taken_port_is_refused_and_nothing_is_changed(folder):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = dev("up", "--port", port, "--detach", "--state", folder)
    assert done.returncode == 1
    assert f"port {port} of 127.0.0.1 is taken" in done.stderr
    assert not folder.exists()


def test_program_that_is_missing_is_named(folder, monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr("orchestrator.dev.harness._path", lambda: "/nonexistent")
    with pytest.raises(DevError, match=r"nats-server is missing: apt-get install"):
        Platform(Settings(folder, port=0)).up()
    assert not folder.exists()


def test_daemon_that_cannot_start_ends_all(folder):
    settings = Settings(folder, port=0, deas=1, overrides={"stager": {"max_tasks": 0}})
    with pytest.raises(DevError, match="max_tasks: must be at least 1"):
        Platform(settings).up()
    assert about(folder) == []
    assert not (folder / "state.json").exists()
    assert "admin" in json.loads((folder / "secrets.json").read_text())
