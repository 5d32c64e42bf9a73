"""One application per framework and runtime, all the way: pushed, reached, scaled, crashed, updated, deleted.

They go side by side, as many at a time as `SIDE_BY_SIDE`; the result of each is a test of its own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.integration.java_samples import build_jar
from tests.lab.conftest import ROOT, LabPlatform, until

APPS = ROOT / "tests" / "apps"
SIDE_BY_SIDE = 4

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1800)]


@dataclass(frozen=True)
class Sample:
    """A folder under tests/apps.

    `framework` is the detected one, or the one named at push where its files mean another (`named`); `tells`: it answers with
    facts and can be crashed.
    """

    app: str
    framework: str
    memory: str = "128M"
    tells: bool = True
    named: bool = False

    @property
    def name(self) -> str:
        return f"try-{self.app.replace('_', '-')}"


SAMPLES = [
    Sample("war", "java_web", "256M"),
    Sample("jar", "standalone", "256M"),
    Sample("rails", "rails3", "256M"),
    Sample("sinatra", "sinatra"),
    Sample("rack", "rack"),
    Sample("django", "django", "256M"),
    Sample("hello", "wsgi"),
    Sample("php", "php"),
    Sample("node_plain", "node"),
    Sample("standalone", "standalone", named=True),
    Sample("standalone_ruby", "standalone"),
    Sample("static", "static", tells=False),
]


class Journey:
    """The stations of one application."""

    def __init__(self, platform: LabPlatform, sample: Sample, folder: Path) -> None:
        self._platform, self._sample, self._folder = platform, sample, folder

    def run(self) -> None:
        self._push("one")
        shown = self._platform.json("app", self._sample.name)
        assert shown["staging"]["model"] == self._sample.framework
        self._answers("one")
        self._platform.ingot("scale", self._sample.name, "--instances", "2")
        if self._sample.tells:
            before = self._live(2)
            self._crash(before)
        self._push("two")
        self._answers("two")
        self._platform.ingot("delete", self._sample.name, "--force")
        until(lambda: self._get("/").status_code == 404, f"the route of {self._sample.name} is gone")

    def _push(self, greeting: str) -> None:
        options = [
            "--path",
            str(self._folder),
            "--memory",
            self._sample.memory,
            "--env",
            f"GREETING={greeting}",
        ]
        if self._sample.named:
            options += ["--framework", self._sample.framework]
        self._platform.ingot("push", self._sample.name, *options, "--timeout", "120")

    def _get(self, path: str) -> httpx.Response:
        return self._platform.get(self._sample.name, path, timeout=30)

    def _answers(self, greeting: str) -> None:
        def said() -> bool:
            response = self._get("/")
            response.raise_for_status()
            return not self._sample.tells or response.json()["greeting"] == greeting

        until(said, f"{self._sample.name} answers as its version {greeting}")

    def _live(self, count: int) -> set[str]:
        """Send requests until `count` instances have answered, and no other."""
        seen: set[str] = set()

        def all_answered() -> bool:
            answers = [self._get("/") for _ in range(8 * count)]
            seen.clear()
            seen.update(a.raise_for_status().json()["instance_id"] for a in answers)
            return len(seen) == count

        until(all_answered, f"{count} instances of {self._sample.name} answer")
        return set(seen)

    def _crash(self, before: set[str]) -> None:
        # The crash leaves the request without an answer.
        with contextlib.suppress(httpx.HTTPError):
            self._get("/crash")
        until(lambda: len(self._live(2) - before) >= 1, f"a crashed instance of {self._sample.name} is back")


@pytest.fixture(scope="module")
def journeys(
    platform: LabPlatform, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[None]]]:
    folders = {s.app: APPS / s.app for s in SAMPLES}
    folders["jar"] = build_jar(tmp_path_factory.mktemp("jar"))
    with ThreadPoolExecutor(SIDE_BY_SIDE) as side_by_side:
        yield {s.app: side_by_side.submit(Journey(platform, s, folders[s.app]).run) for s in SAMPLES}


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda s: s.app)
def test_pushed_reached_scaled_crashed_updated_deleted(
    journeys: dict[str, Future[None]], sample: Sample
) -> None:
    journeys[sample.app].result()


def test_runtimes_are_those_of_the_machines(platform: LabPlatform) -> None:
    told = platform.json("runtimes")
    assert {"python3", "node", "ruby", "java", "php"} <= set(told)
    for runtime, command in (
        ("python3", "python3 --version"),
        ("ruby", "ruby --version"),
        ("php", "php --version"),
    ):
        assert told[runtime]["version"] in platform.on("dea1", *command.split()), runtime
    refused = platform.ingot(
        "push", "never", "--path", str(APPS / "hello"), "--runtime", "erlang", check=False
    )
    assert refused.returncode != 0
    assert "erlang" in refused.stdout + refused.stderr
