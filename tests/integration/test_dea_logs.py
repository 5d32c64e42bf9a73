"""Numbered log lines of instances on a real agent: live, over restarts, bounded."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.dea_rig import DeaRig, droplet

TALKER = '#!/bin/bash\ncd "$(dirname "$0")"\nwhile read -r line; do echo "$line" >>logs/stdout.log; done < <(tail -n +1 -F say)\n'


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[DeaRig]:
    rig = DeaRig(tmp_path, logs={"lines": 100, "kb": 64, "file_mb": 1})
    await rig.start()
    try:
        yield rig
    finally:
        await rig.stop()


async def talker(rig: DeaRig) -> tuple[Any, Path]:
    """Start an instance that writes to its log what is put into a file."""
    entry = await rig.run(rig.keep(droplet({"say": ""}, startup=TALKER)), uris=[])
    (found,) = await rig.ask("dea.find.droplet", {"droplet": 12})
    return found, rig.folder / "dea/instances" / entry["instance"]


def say(folder: Path, *lines: str) -> None:
    with (folder / "say").open("a") as file:
        file.writelines(f"{line}\n" for line in lines)


async def test_lines_are_numbered_waited_for_and_known_again_after_a_kill(rig: DeaRig) -> None:
    found, folder = await talker(rig)
    assert (await rig.lines(found))["lines"] == []
    say(folder, "one", "two")
    page = await rig.lines(found, wait=20)
    while page["last"] < 2:
        page = await rig.lines(found, wait=1)
    assert [(line["n"], line["stream"], line["text"]) for line in page["lines"]] == [
        (1, "stdout", "one"),
        (2, "stdout", "two"),
    ]
    assert abs(page["lines"][0]["at"] - time.time()) < 60
    with (folder / "logs/stderr.log").open("a") as file:
        file.write("oops\r\n")
    page = await rig.lines(found, after=2, wait=20)
    assert [(line["n"], line["stream"], line["text"]) for line in page["lines"]] == [(3, "stderr", "oops")]
    assert (await rig.lines(found, after=1, limit=1))["lines"][0]["text"] == "two"

    rig.stop_agent(signal.SIGKILL)
    say(folder, "while nobody looked")
    before = found
    await rig.start_agent()
    (found,) = await rig.ask("dea.find.droplet", {"droplet": 12})
    assert found["credentials"] == before["credentials"]
    page = await rig.lines(found, after=3, wait=20)
    assert [(line["n"], line["text"]) for line in page["lines"]] == [(4, "while nobody looked")]
    assert [line["text"] for line in (await rig.lines(found))["lines"]] == [
        "one",
        "two",
        "oops",
        "while nobody looked",
    ]


async def test_readers_need_the_password_and_a_log(rig: DeaRig) -> None:
    found, _folder = await talker(rig)
    assert found["log_uri"].endswith(f"/logs/{found['instance']}")
    assert (await rig.get(found["log_uri"]))[0] == 401
    assert (await rig.get(found["log_uri"] + "?after=x", found["credentials"]))[0] == 400
    assert (await rig.get(found["log_uri"] + "0", found["credentials"]))[0] == 404


async def test_log_of_a_crashed_instance_stays_with_its_last_words(rig: DeaRig) -> None:
    found, folder = await talker(rig)
    with (folder / "logs/stdout.log").open("a") as file:
        file.write("no line's end")
    os.killpg(rig.main_pid(found["instance"]), signal.SIGKILL)
    await rig.hears("droplet.exited")
    page = await rig.lines(found, wait=20)
    assert page["lines"][-1]["text"] == "no line's end"
    rig.stop_agent()
    await rig.start_agent()
    (found,) = await rig.ask("dea.find.droplet", {"droplet": 12})
    assert (await rig.lines(found))["lines"] == page["lines"]
    await rig.bus.publish("dea.stop", {"droplet": 12})
    spools = rig.folder / "dea/lines"
    await rig.until(lambda: not list(spools.iterdir()), "the log is gone")


async def test_endless_writer_fills_no_disk_and_its_gap_is_counted(rig: DeaRig) -> None:
    flood = '#!/bin/bash\ncd "$(dirname "$0")"\nyes "a line of the flood" >>logs/stdout.log\n'
    limits = {"mem": 128, "disk": 2048, "fds": 256}
    await rig.run(rig.keep(droplet(startup=flood)), uris=[], limits=limits)
    neighbour = await rig.run(index=1, droplet=13)
    (found,) = await rig.ask("dea.find.droplet", {"droplet": 12})
    last = 0
    for _ in range(3):
        page = await rig.lines(found, after=last, wait=20)
        numbers = [line["n"] for line in page["lines"]]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        assert numbers[0] >= page["first"] > last
        assert len(numbers) <= 100
        last = page["last"]
    assert last > 10_000
    logs = rig.folder / "dea/instances" / found["instance"] / "logs"
    cut = logs / "stdout.log.1"
    await rig.until(cut.exists, "the log was cut")
    assert cut.stat().st_size <= 600 * 1024
    sizes = []
    for _ in range(20):
        sizes.append((logs / "stdout.log").stat().st_size)
        assert (await rig.lines(found, after=last, wait=1))["last"] >= last
    # What is written between two looks, on any machine: far from what it would be uncut.
    assert min(sizes) < 100 * 1024 * 1024
    # The agent hears and answers as ever, and the neighbour runs.
    assert (await rig.ask("dea.status", {}))[0]["num_clients"] == 2
    (entry,) = await rig.ask("dea.find.droplet", {"droplet": 13})
    assert (entry["instance"], entry["state"]) == (neighbour["instance"], "RUNNING")
