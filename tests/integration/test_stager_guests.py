"""What builds leave behind: a real stager on a disk of its own."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.stager_rig import APPS, Rig, running, zipped
from tests.small_disk import empty, fill_inodes, small_disk
from tests.support.waiting import until

DEEP = 5000
DIG = f"import os\nfor _ in range({DEEP}):\n    os.mkdir('a')\n    os.chdir('a')\nopen('last', 'w').close()\n"


def doing(program: str) -> bytes:
    """An application whose build does something: pip runs a build program of its own, which needs no index."""
    backend = '[build-system]\nrequires = []\nbuild-backend = "own"\nbackend-path = ["."]\n'
    return zipped(
        APPS / "hello",
        **{"requirements.txt": "./own\n", "own/pyproject.toml": backend, "own/own.py": program},
    )


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder = tmp_path_factory.mktemp("stager")
    with (
        small_disk(folder / "disk", mb=512, inodes=40_000) as disk,
        running(folder, work_dir=str(disk), max_tasks=1, most_files=10_000) as started,
    ):
        yield started


def tasks(rig: Rig) -> list[Path]:
    return list((rig.folder / "disk" / "tasks").iterdir())


def gone(rig: Rig) -> bool:
    place = rig.folder / "disk" / ".gone"
    return not place.exists() or not list(place.iterdir())


def test_a_build_that_leaves_deep_folders_gets_its_answer_and_leaves_nothing(rig: Rig) -> None:
    for _ in range(2):
        reply = rig.stage(doing(DIG + "raise SystemExit(1)\n"), "wsgi")
        assert reply.error is not None
        assert reply.error.startswith("compile failed: ")
    assert tasks(rig) == []
    until(lambda: gone(rig) and rig.varz()["folders_to_remove"] == 0, "what was left is removed")
    assert rig.stage(zipped(APPS / "static")).error is None


def test_a_stager_that_was_killed_over_deep_folders_starts_again(rig: Rig) -> None:
    rig.begin(doing(DIG + "import time\ntime.sleep(600)\n"), "wsgi")
    until(lambda: any((t / "box/tree/app/own" / ("a/" * 1500)).exists() for t in tasks(rig)), "it digs")
    rig.signal_stager(signal.SIGKILL)
    rig.wait_stager()
    rig.start_stager()
    until(lambda: tasks(rig) == [] and gone(rig), "what was left is removed")
    assert rig.stage(zipped(APPS / "static")).error is None


def test_a_build_that_makes_too_many_files_is_ended(rig: Rig) -> None:
    crowd = "import os, time\nos.mkdir('many')\nfor n in range(11_000):\n    open(f'many/{n}', 'w').close()\ntime.sleep(60)\n"
    reply = rig.stage(doing(crowd), "wsgi")
    assert reply.error is not None
    assert reply.error.startswith(
        "compile failed: the build made more than 10000 files and folders and was ended."
    )
    assert tasks(rig) == []


def test_a_disk_without_inodes_is_said_so_and_comes_back(rig: Rig) -> None:
    until(lambda: gone(rig), "nothing is being removed")
    crowd = fill_inodes(rig.folder / "disk")
    until(lambda: not rig.ready(), "the stager says that it is full")
    reply = rig.stage(zipped(APPS / "static"))
    assert reply.error is not None
    assert "No space left on device" in reply.error
    empty(crowd)
    until(rig.ready, "the stager is ready again")
    assert rig.stage(zipped(APPS / "static")).error is None
