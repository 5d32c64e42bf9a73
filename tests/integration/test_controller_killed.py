"""Two controllers, each killed with SIGKILL in turn while applications are pushed: nothing is left half-done.

`INGOT_KILLED_PUSHES` is how many pushes run in parallel.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import yaml

from components.controller.upkeep.sweeper import ANYWAY, LEAST_AGE_SECONDS
from orchestrator.dev.harness import Platform
from orchestrator.dev.settings import Settings, port_is_free
from tests.integration.platform_fixture import APPS, Person
from tests.integration.rolling_rig import Api, Load
from tests.support.waiting import until

PUSHES = int(os.environ.get("INGOT_KILLED_PUSHES", "8"))
# At least, and at most: on a machine too busy to stage anything between two kills, pushes would never end.
KILLS = (4, 4 + PUSHES // 4)
# What a push may be answered with, or not be answered at all: all of it says "repeat".
AGAIN = (500, 502, 503, 504)
CONTROLLERS = ("controller", "controller-1")


class NotNowError(Exception):
    """A call that is to be repeated."""


class Pushes:
    """People who push, and repeat what failed with a word that it may be repeated."""

    def __init__(self, platform: Platform, count: int) -> None:
        self._platform = platform
        login = Api(platform)
        self._token = login.token
        login.close()
        self.names = [f"app{number}" for number in range(count)]
        self.done: set[str] = set()
        self.errors: list[str] = []
        self.repeated: Counter[str] = Counter()
        self._threads = [threading.Thread(target=self._push, args=(name,)) for name in self.names]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    @property
    def running(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def wait(self) -> None:
        for thread in self._threads:
            thread.join()

    def _push(self, name: str) -> None:
        for _ in range(60):
            try:
                self._once(name)
            except (NotNowError, httpx.TransportError) as error:
                self.repeated[str(error)[:80] or type(error).__name__] += 1
                time.sleep(random.uniform(0.2, 0.6))
            except AssertionError as error:
                self.errors.append(f"{name}: {error}")
                return
            else:
                self.done.add(name)
                return
        self.errors.append(f"{name}: repeated too often")

    def _once(self, name: str) -> None:
        api = Api(self._platform, self._token)
        try:
            if self._call(api, "GET", f"/apps/{name}", (200, 404)).status_code == 404:
                body = {
                    "name": name,
                    "staging": {"framework": "standalone", "runtime": "python3"},
                    "uris": [f"{name}.{api.domain}"],
                    "instances": 1,
                    "resources": {"memory": 16},
                }
                self._call(api, "POST", "/apps", (302,), body)
            # Bits of its own: each has a package and a droplet to lose.
            sent = api.send(name, {**FILES, "name.txt": name})
            _judge(sent, (200,))
            app = self._call(api, "GET", f"/apps/{name}", (200,)).json()
            self._call(api, "PUT", f"/apps/{name}", (200,), {**app, "state": "STARTED"})
        finally:
            api.close()

    def _call(
        self, api: Api, method: str, path: str, expected: tuple[int, ...], body: object = None
    ) -> httpx.Response:
        return _judge(api.call(method, path, body), expected)


FILES: dict[str, str | bytes] = {
    path.name: path.read_bytes() for path in (APPS / "standalone").iterdir() if path.is_file()
}


def _judge(answer: httpx.Response, expected: tuple[int, ...]) -> httpx.Response:
    if answer.status_code in expected:
        return answer
    # A router sends a PUT again when who took it died: the second finds that the first has changed the application.
    if answer.status_code in AGAIN or (answer.status_code == 400 and answer.json()["code"] == 102):
        raise NotNowError(f"{answer.status_code} {answer.text[:60]}")
    raise AssertionError(
        f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text[:300]}"
    )


@pytest.fixture(scope="module")
def database(postgres_cluster: str) -> str:
    name = f"killed_{os.getpid()}"
    with psycopg.connect(f"postgresql://ingot@{postgres_cluster}/postgres", autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"'.encode())
    return f"postgresql+psycopg://ingot@{postgres_cluster}/{name}"


@pytest.fixture(scope="module")
def platform(database: str) -> Iterator[Platform]:
    """A platform of its own, with a second controller beside the first."""
    with tempfile.TemporaryDirectory(prefix="ingot-killed-") as folder:
        settings = Settings(
            Path(folder) / "dev",
            port=0,
            database_url=database,
            dea_memory=4096,
            overrides={"controller": {"sweep_seconds": 2.0}, "stager": {"pip_extra_args": ["--no-index"]}},
        )
        with Platform(settings) as raised:
            second(raised)
            try:
                yield raised
                assert not [m.tail() for m in raised.dead()]
            finally:
                raised.stop(CONTROLLERS[1])


def second(platform: Platform) -> None:
    name = CONTROLLERS[1]
    folder = platform.settings.state / "config"
    config = yaml.safe_load((folder / "controller.yml").read_text())
    port = next(p for p in range(20000, 30000) if port_is_free(p))
    config.update(port=port, index=1)
    path = folder / f"{name}.yml"
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(config))
    ports: Any = platform.plan.ports
    ports[name] = port
    commands = platform._commands
    commands[name] = [
        str(path) if word.endswith("controller.yml") else word for word in commands["controller"]
    ]
    platform.start(name)


def kill_in_turn(platform: Platform, pushes: Pushes) -> int:
    """Kill the one, then the other, while people push; gives how often."""
    count = 0
    least, most = KILLS
    while count < least or (pushes.running and count < most):
        name = CONTROLLERS[count % 2]
        # Somewhere in the middle of whatever is going on.
        time.sleep(random.uniform(0.3, 1.5))
        platform.kill(name)
        count += 1
        platform.start(name)
    return count


def rows(database: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(database.replace("+psycopg", "")) as connection:
        return connection.execute(query.encode()).fetchall()


def orphans(platform: Platform, database: str) -> dict[str, Any]:
    """What nobody refers to, or waits for."""
    share = platform.settings.state / "share"
    packages = {digest for (digest,) in rows(database, "SELECT package_hash FROM apps")}
    packages |= {digest for (digest,) in rows(database, "SELECT package FROM app_revisions WHERE kept")}
    droplets = {digest for (digest,) in rows(database, "SELECT staged_package_hash FROM apps")}
    droplets |= {digest for (digest,) in rows(database, "SELECT droplet FROM app_revisions WHERE kept")}
    found: dict[str, Any] = {
        "stagings": rows(database, "SELECT app_id FROM stagings WHERE state = 'RUNNING'"),
        "uploads": rows(database, "SELECT app_id FROM uploads"),
        "updates": rows(database, "SELECT app_id FROM app_updates WHERE state IN ('UPDATING', 'GOING_BACK')"),
        "packages": {p.name for p in (share / "packages").iterdir() if p.is_file()} - packages,
        "droplets": {p.name for p in (share / "droplets").iterdir() if p.is_file()} - droplets,
        "unfinished": list((share / "droplets" / ".incoming").iterdir()),
        "temporary": list((platform.settings.state / "controller").glob("ingot-*")),
        "lost": (packages - {p.name for p in (share / "packages").iterdir()})
        | (droplets - {p.name for p in (share / "droplets").iterdir()}),
    }
    return {what: them for what, them in found.items() if them}


def swept(platform: Platform, database: str) -> bool:
    """Return whether nothing is left once a day has passed, and an operator let go what is much among few."""
    share = platform.settings.state / "share"
    left = orphans(platform, database)
    for kind in ("packages", "droplets"):
        for name in left.get(kind, ()):
            with contextlib.suppress(FileNotFoundError):
                os.utime(share / kind / name, (time.time() - 2 * LEAST_AGE_SECONDS,) * 2)
            (share / "droplets" / ".sweep" / ANYWAY).touch()
    return not left


def test_controllers_killed_during_pushes_leave_nothing_half_done(
    platform: Platform, database: str, tmp_path: Path
) -> None:
    pushes = Pushes(platform, PUSHES)
    begun = time.monotonic()
    pushes.start()
    kills = kill_in_turn(platform, pushes)
    pushes.wait()
    print(
        f"{PUSHES} pushes, {kills} kills, {time.monotonic() - begun:.0f} s, repeated: {dict(pushes.repeated)}"
    )
    assert not pushes.errors
    assert pushes.done == set(pushes.names)
    assert kills >= KILLS[0]

    person = Person(platform, tmp_path / "home")
    api = Api(platform)
    until(lambda: len(api.json("/apps")) == PUSHES, "every application is there")
    until(lambda: all(api.running(n) == 1 for n in pushes.names), "all run", 90)
    until(lambda: len(person.units()) == PUSHES, "one instance of each, and no other", 90)
    try:
        until(lambda: swept(platform, database), "nothing is left", 60)
    except AssertionError:
        assert orphans(platform, database) == {}
    for name in pushes.names:
        assert platform.get(name).status_code == 200

    for name in pushes.names:
        assert api.call("DELETE", f"/apps/{name}").status_code == 200
    api.close()
    until(lambda: not person.units(), "no instance is left", 60)
    share = platform.settings.state / "share"
    until(
        lambda: not [p for f in ("packages", "droplets") for p in (share / f).iterdir() if p.is_file()],
        "no file is left",
    )


def test_an_update_whose_holders_die_is_carried_on(platform: Platform, database: str, tmp_path: Path) -> None:
    person = Person(platform, tmp_path / "home")
    api = Api(platform)
    folder = tmp_path / "app"
    shutil.copytree(APPS / "hello", folder)
    old = api.push("carried", folder, 3)
    (folder / "wsgi.py").write_text((folder / "wsgi.py").read_text() + "\n# two\n")
    api.upload("carried", folder)
    with Load(platform, "carried") as load:
        assert api.call("PUT", "/apps/carried/update", {}).status_code == 204
        for count in (1, 2):
            until(lambda c=count: progress(database) >= c, f"{count} of 3 are replaced", 60)  # type: ignore[misc]
            for name in CONTROLLERS:
                # Whoever holds it now.
                platform.kill(name)
                platform.start(name)
        until(lambda: progress(database) == 4, "the update has succeeded", 90)
        until(lambda: len(person.units()) == 3, "one instance for each index")
    assert not load.failures
    new = api.json("/v2/apps/carried/update")["to"]
    assert set(load.said) == {old, new}
    assert {item["version"] for item in person.instances("carried").values()} == {new}
    assert api.call("DELETE", "/apps/carried").status_code == 200
    api.close()
    until(lambda: not person.units(), "no instance is left")


def progress(database: str) -> int:
    """How many are replaced; 4 when it has succeeded."""
    ((state, replaced),) = rows(database, "SELECT state, replaced FROM app_updates")
    assert state in ("UPDATING", "SUCCEEDED"), state
    return 4 if state == "SUCCEEDED" else int(replaced)
