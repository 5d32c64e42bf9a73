"""Every upload of the corpus through the packaging, and a part of them as a client sends them: refused, and nothing touched."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.controller.composition import Controller
from components.controller.errors import ApiError
from components.controller.packages.upload import PackageLimits, build_package, parse_resources
from components.controller.storage.store import Store
from tests.bench.canary import Canary
from tests.bench.hostile_corpus import (
    KNOWN,
    MOST_FILES,
    MOST_MEGABYTES,
    REFUSALS,
    SHA1,
    Case,
    cases,
    good,
)
from tests.contract.vmc_client import ADMIN, PASSWORD, Vmc, body_of, controller_in, served

LIMITS = PackageLimits(MOST_MEGABYTES << 20, MOST_FILES)
HOSTILE, GOOD = cases(), good()
OWNER = 7


class Box:
    """A share with one known file, a place to work in, and a canary beside them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = Store(folder / "share")
        self.store.prepare()
        known = folder / "known"
        known.write_bytes(KNOWN)
        self.store.add_resource(OWNER, known, SHA1)
        self.kept: list[str] = []

    def package(self, case: Case, *, as_is: bool = False) -> None:
        work, archive = self.folder / "work", self.folder / "upload"
        work.mkdir()
        try:
            if case.archive is not None:
                archive.write_bytes(case.archive)
            build_package(
                self.store,
                OWNER,
                None if case.archive is None else archive,
                parse_resources(case.resources),
                work,
                limits=LIMITS,
                keep=lambda _, digest: self.kept.append(digest),
                as_is=as_is,
            )
        finally:
            shutil.rmtree(work)
            archive.unlink(missing_ok=True)


def test_the_corpus_is_large_and_always_the_same() -> None:
    assert len(HOSTILE) >= 200
    assert len({(c.archive, c.resources) for c in HOSTILE}) == len(HOSTILE), "no case is there twice"
    assert cases() == HOSTILE
    assert good() == GOOD


def test_every_hostile_upload_is_refused_in_words_and_touches_nothing(tmp_path: Path) -> None:
    box = Box(tmp_path)
    canary = Canary(tmp_path, lambda name: name == "upload" or name.startswith("work"))
    through, speechless = [], []
    for case in HOSTILE:
        try:
            box.package(case)
        except ApiError as error:
            if (error.status, error.code) not in REFUSALS or len(error.description) < 20:
                speechless.append((case.name, str(error)))
        else:
            through.append(case.name)
        assert canary.changes() == [], case.name
    assert (through, speechless, box.kept) == ([], [], [])


@pytest.mark.parametrize("as_is", [False, True])
def test_every_good_upload_is_taken(tmp_path: Path, as_is: bool) -> None:
    box = Box(tmp_path)
    for case in GOOD:
        try:
            box.package(case, as_is=as_is)
        except ApiError as error:
            pytest.fail(f"{case.name}: {error}")
    assert len(box.kept) == len(GOOD)


# Names that only look like paths or like one another, which the platform's file systems keep as they are.
ODD = re.compile(
    r"(name|fn|folder)-(backslash|drive|share|percent|wide|two-dot|newline|return|tab|escape|delete|next-line|space).*"
    r"|twice-.*(composed|wide|ligature).*"
)


def test_as_it_is_on_disk_only_odd_names_are_taken_and_nothing_gets_further(tmp_path: Path) -> None:
    box = Box(tmp_path)
    canary = Canary(tmp_path, lambda name: name.startswith(("upload", "work", "share")))
    for case in HOSTILE:
        refusal = None
        try:
            box.package(case, as_is=True)
        except ApiError as error:
            refusal = (error.status, error.code)
        assert (refusal in REFUSALS) is not bool(ODD.fullmatch(case.name)), case.name
        assert canary.changes() == [], case.name


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controller]:
    limits = {"max_app_mb": MOST_MEGABYTES, "max_app_files": MOST_FILES}
    with controller_in(tmp_path_factory.mktemp("hostile"), **limits) as made:
        yield made


@pytest.fixture(scope="module")
def user(controller: Controller) -> Iterator[Vmc]:
    with served(controller) as anonymous:
        yield anonymous.login(ADMIN, PASSWORD)


def test_some_of_them_over_http(controller: Controller, user: Vmc) -> None:
    user.call("POST", "/apps", body_of("box"))
    assert user.upload("box", {"known": KNOWN}).status == 200
    before = user.call("GET", "/apps/box").json()
    folder = Path(controller.config.temp_path)
    canary = Canary(folder, lambda name: name.startswith("ccdb"))
    for case in HOSTILE[::12]:
        answer = user.upload_bytes("box", case.archive, case.resources)
        assert answer.code in REFUSALS, case.name
        assert canary.changes() == [], case.name
    assert user.call("GET", "/apps/box").json() == before
    for case in GOOD[::3]:
        assert user.upload_bytes("box", case.archive, case.resources).status == 200, case.name


def test_an_absolute_name_is_answered_as_in_2011(user: Vmc) -> None:
    user.call("POST", "/apps", body_of("names"))
    for fn, code in (("/etc/passwd", 111), ("", 111), (" ", 111), ("../up", 402)):
        listed = json.dumps([{"fn": fn, "sha1": SHA1, "size": len(KNOWN)}])
        answer = user.upload_bytes("names", None, listed)
        assert answer.code == (500, code)
        assert "path" in answer.json()["description"] or "leaves" in answer.json()["description"]
    user.call("DELETE", "/apps/names")
