"""Staging that fetches packages: needs an index of Python packages and an npm registry that pip and npm reach as configured.

Each half is skipped, with the reason, where its registry cannot be reached.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.stager_rig import APPS, Rig, fetch, running, zipped


def reach(*command: str, folder: Path) -> str | None:
    """Try a command; gives the reason why it failed, or None."""
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{command[0]}: {error}"
    lines = done.stderr.strip().splitlines()
    return None if done.returncode == 0 else (lines[-1] if lines else f"status {done.returncode}")


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with running(tmp_path_factory.mktemp("stager"), max_tasks=2) as started:
        yield started


@pytest.fixture(scope="module")
def python_index(tmp_path_factory: pytest.TempPathFactory) -> None:
    pip = ["/usr/bin/python3", "-m", "pip", "download", "--no-deps", "--no-cache-dir", "--retries", "0"]
    if reason := reach(*pip, "--quiet", "blinker", folder=tmp_path_factory.mktemp("index")):
        pytest.skip(f"pip reaches no index: {reason}")


@pytest.fixture(scope="module")
def npm_registry(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("registry")
    if reason := reach("/usr/bin/npm", "view", "ms", "version", "--fetch-retries=0", folder=folder):
        pytest.skip(f"npm reaches no registry: {reason}")


@pytest.mark.usefixtures("python_index")
def test_flask_is_installed_and_answers(rig: Rig) -> None:
    droplet = rig.droplet("flask", "flask", "python2")
    assert "installed flask 3.1.3" in droplet.read("logs/staging.log")
    port = droplet.start("python3")
    assert json.loads(fetch(port)[2]) == {"dea": "127.0.0.1", "framework": "flask"}


@pytest.mark.usefixtures("python_index")
def test_django_is_installed_and_answers_and_is_not_fetched_twice(rig: Rig) -> None:
    message = rig.request(zipped(APPS / "django"), "django", "python26")
    first, again = rig.ask(message), rig.ask(message)
    assert (first.error, again.error) == (None, None)
    assert "Collecting django==5.2.19" in first.task_log
    assert "nothing that is locked has changed" in again.task_log
    assert "Collecting" not in again.task_log
    droplet = rig.lay_out(list(rig.controller.droplets.values())[-1])
    told = json.loads(fetch(droplet.start("python3", GREETING="hi"))[2])
    assert (told["framework"], told["runtime"], told["greeting"]) == ("django", "5.2.19", "hi")


@pytest.mark.usefixtures("python_index")
def test_requirements_give_the_same_droplet_each_time(rig: Rig) -> None:
    assert rig.droplet("flask").sha1 == rig.droplet("flask").sha1


@pytest.mark.usefixtures("python_index")
def test_requirements_that_are_not_there_fail_with_pips_words_and_a_remedy(rig: Rig) -> None:
    reply = rig.stage(zipped(APPS / "broken_requirements"))
    assert reply.error is not None
    assert reply.error.startswith("compile failed: `python3 -m pip install ...` ended with status 1.")
    assert "Every line of requirements.txt must name a package" in reply.error
    assert "No matching distribution found for flask==0.0.0.dev999999" in reply.error


@pytest.mark.usefixtures("python_index")
def test_a_procfiles_gunicorn_is_the_applications_own(rig: Rig) -> None:
    files = {
        "Procfile": "web: gunicorn --bind 0.0.0.0:$PORT --no-control-socket app:app\n",
        "requirements.txt": "flask==3.1.3\ngunicorn==25.1.0\n",
    }
    reply = rig.stage(zipped(APPS / "hello", **files, **{"app.py": (APPS / "flask/app.py").read_text()}))
    assert reply.error is None, reply.error
    assert "installed gunicorn 25.1.0" in reply.task_log
    assert "added gunicorn" not in reply.task_log
    port = rig.lay_out(list(rig.controller.droplets.values())[-1]).start("python3")
    assert b"flask" in fetch(port)[2]


@pytest.mark.usefixtures("npm_registry")
def test_node_with_a_dependency_is_installed_and_answers(rig: Rig) -> None:
    droplet = rig.droplet("node")
    assert "installed ms 2.1.3" in droplet.read("logs/staging.log")
    told = json.loads(fetch(droplet.start("node"))[2])
    assert told == {"framework": "node", "two_days": 172800000, "dea": "127.0.0.1"}
    assert rig.droplet("node").sha1 == droplet.sha1


@pytest.mark.usefixtures("npm_registry")
def test_each_application_has_a_cache_of_its_own(rig: Rig) -> None:
    message = rig.request(zipped(APPS / "node"))
    assert rig.ask(message).error is None
    assert (rig.folder / "work" / "cache" / str(message["app_id"]) / "npm" / "_cacache").is_dir()
    assert rig.ask(message).error is None


@pytest.mark.usefixtures("npm_registry")
def test_a_package_that_npm_cannot_find_is_told(rig: Rig) -> None:
    package = json.dumps({"dependencies": {"ms": "0.0.0-not-there"}})
    reply = rig.stage(zipped(None, **{"package.json": package, "server.js": ""}))
    assert reply.error is not None
    assert "compile failed: `npm install --omit=dev --no-audit ...` ended with status 1" in reply.error
