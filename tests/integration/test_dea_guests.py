"""What instances leave behind and take of the disk: a real agent on a disk of its own."""

from __future__ import annotations

import gzip
import os
import signal
import tarfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.integration.dea_rig import SERVER, DeaRig, droplet
from tests.small_disk import empty, fill, fill_inodes, small_disk
from tests.trees_sample import names

DEEP = 5000
DIG = f"""
import os
here = os.open(".", os.O_RDONLY)
for _ in range({DEEP}):
    os.mkdir("a", dir_fd=here)
    here, above = os.open("a", os.O_RDONLY, dir_fd=here), here
    os.close(above)
"""
WRITE = "os.write(os.open('file', os.O_WRONLY | os.O_CREAT, dir_fd={at}), bytes({mb} << 20))\n"


def after(program: str) -> bytes:
    """A droplet of an application that does something, and then serves."""
    return droplet({"app/server.py": program + SERVER})


class Rigs:
    """Makes rigs whose agent's folder is a disk of its own."""

    def __init__(self, folder: Path, stack: AsyncExitStack) -> None:
        self._folder, self._stack = folder, stack

    async def start(self, mb: int = 64, inodes: int = 30_000, **config: Any) -> DeaRig:
        self._stack.enter_context(small_disk(self._folder / "dea", mb, inodes))
        rig = DeaRig(self._folder, cache_mb=1, **config)
        # A moment each, as these tests wait for what is done again and again.
        rig.config["intervals"] = {**rig.config["intervals"], "reaper": 0.2}
        self._stack.push_async_callback(rig.stop)
        await rig.start()
        return rig


@pytest.fixture
async def rigs(tmp_path: Path) -> AsyncIterator[Rigs]:
    async with AsyncExitStack() as stack:
        yield Rigs(tmp_path, stack)


def instances(rig: DeaRig) -> Path:
    return rig.folder / "dea" / "instances"


async def holds(rig: DeaRig, memory: int, disk: int) -> None:
    await rig.hears(
        "ingot.dea.beat",
        lambda b: (b["capacity"]["memory_reserved"], b["capacity"]["disk_reserved"]) == (memory, disk),
        since=rig.mark(),
        seconds=60,
    )


async def test_deep_folders_hold_no_capacity_and_are_removed(rigs: Rigs) -> None:
    rig = await rigs.start()
    await rig.run(rig.keep(after(DIG)))
    await rig.bus.publish("dea.stop", {"droplet": 12})
    await holds(rig, 0, 0)
    gone = rig.folder / "dea" / ".gone"
    await rig.until(lambda: names(instances(rig)) == [] and names(gone) == [], "nothing is left")
    assert rig.stop_agent() == 0
    await rig.start_agent()
    await holds(rig, 0, 0)


async def test_deep_folders_of_crashed_instances_go_in_their_time(rigs: Rigs) -> None:
    rig = await rigs.start(crash_keep=1)
    for index in (0, 1):
        entry = await rig.run(rig.keep(after(DIG)), index=index)
        os.killpg(rig.main_pid(entry["instance"]), signal.SIGKILL)
    await rig.until(lambda: len(rig.said("droplet.exited")) == 2, "both have crashed")
    await rig.until(lambda: names(instances(rig)) == [], "both are removed")
    await holds(rig, 0, 0)


async def test_an_agent_that_comes_back_over_deep_folders_takes_instances(rigs: Rigs) -> None:
    rig = await rigs.start()
    await rig.run(rig.keep(after(DIG)))
    rig.stop_agent(signal.SIGKILL)
    (rig.folder / "dea" / "applications.json").unlink()
    await rig.start_agent()
    await rig.until(lambda: names(instances(rig)) == [], "what nobody knows is removed")
    await rig.run()


async def test_what_lies_deeper_than_any_path_counts(rigs: Rigs) -> None:
    rig = await rigs.start()
    message = rig.message(rig.keep(after(DIG + WRITE.format(at="here", mb=12))))
    await rig.bus.publish(f"dea.{rig.id}.start", {**message, "limits": {"mem": 128, "disk": 10, "fds": 256}})
    exited = await rig.hears("droplet.exited", seconds=60)
    assert exited["detail"].startswith("disk over 10 MB (")


async def test_a_verdict_on_the_disk_leaves_the_logs_alone_and_what_they_take_counts(rigs: Rigs) -> None:
    rig = await rigs.start()
    message = rig.message(
        rig.keep(after("import os\nprint('hello', flush=True)\n" + WRITE.format(at="None", mb=20)))
    )
    await rig.bus.publish(f"dea.{rig.id}.start", {**message, "limits": {"mem": 128, "disk": 10, "fds": 256}})
    exited = await rig.hears("droplet.exited", seconds=60)
    assert exited["detail"].startswith("disk over 10 MB (")
    folder = instances(rig) / exited["instance"]
    await rig.until(lambda: names(folder) == ["logs"], "it is cut to its logs")
    assert "hello" in (folder / "logs" / "stdout.log").read_text()
    assert "FATAL: disk over 10 MB" in (folder / "logs" / "err.log").read_text()
    await holds(rig, 0, 1)
    await rig.until(lambda: names(rig.folder / "dea" / ".gone") == [], "the rest is removed")


async def test_too_many_files_end_an_instance(rigs: Rigs) -> None:
    rig = await rigs.start(most_files=1000)
    crowd = "import os\nos.mkdir('m')\nfor n in range(1100): open(f'm/{n}', 'w').close()\n"
    await rig.bus.publish(f"dea.{rig.id}.start", rig.message(rig.keep(after(crowd))))
    exited = await rig.hears("droplet.exited", seconds=60)
    assert exited["detail"] == "more than 1000 files and folders"
    await rig.until(lambda: names(instances(rig) / exited["instance"]) == ["logs"], "it is cut to its logs")


@pytest.mark.parametrize("take", [fill, fill_inodes])
async def test_on_a_full_disk_nothing_starts_and_everything_stops(rigs: Rigs, take: Any) -> None:
    rig = await rigs.start(inodes=3000)
    entry = await rig.run(limits={"mem": 128, "disk": 10, "fds": 256})
    taken = take(rig.folder / "dea")
    # One that was asked for before the agent saw it, and one after.
    await rig.bus.publish(f"dea.{rig.id}.start", rig.message(rig.keep(droplet()), index=1))
    shown = await rig.varz_until(lambda v: v["disk_full"] is not None)
    assert shown["disk_full"].endswith("are taken")
    await rig.bus.publish(f"dea.{rig.id}.start", rig.message(rig.keep(droplet()), index=2))
    await rig.until(lambda: "the file system of instances is nearly full" in rig.log(), "it says why")
    (reply,) = await rig.ask(
        f"ingot.dea.{rig.id}.task",
        {"task": "t", "command": "true", "timeout": 9, "start": rig.message(rig.keep(droplet()))},
    )
    assert "the file system of instances is nearly full" in reply["error"]
    await holds(rig, 128, 10_000)
    # An agent that starts on it finds its instances and can stop them, too.
    rig.stop_agent(signal.SIGKILL)
    await rig.start_agent()
    await rig.hears(
        "dea.heartbeat", lambda b: b["droplets"][0]["state"] == "RUNNING", since=rig.mark(), seconds=60
    )
    await rig.bus.publish("dea.stop", {"droplet": 12, "instances": [entry["instance"]]})
    await rig.hears("droplet.exited", lambda b: b["reason"] == "STOPPED", seconds=60)
    await holds(rig, 0, 10_000)
    empty(taken)
    await rig.varz_until(lambda v: v["disk_full"] is None and v["state_unsaved"] is None)
    await holds(rig, 0, 0)
    await rig.run(index=3)


async def test_a_disk_that_fills_while_one_starts_gives_all_back(rigs: Rigs) -> None:
    # Never seen to be full: each write finds out by itself.
    rig = await rigs.start(disk_full=100, inodes=3000)
    entry = await rig.run(limits={"mem": 128, "disk": 10, "fds": 256})
    sha1 = rig.keep(droplet())
    for take in (fill, fill_inodes):
        taken, mark = take(rig.folder / "dea"), rig.mark()
        await rig.bus.publish(f"dea.{rig.id}.start", rig.message(sha1, index=1))
        await rig.until(lambda: "what runs here cannot be written down" in rig.log(), "it says why")
        await rig.varz_until(lambda v: v["state_unsaved"] is not None)
        await holds(rig, 128, 10)
        assert rig.said("droplet.exited", mark) == []
        empty(taken)
        await rig.varz_until(lambda v: v["state_unsaved"] is None)
    large = rig.keep(droplet({"app/large": "x" * (20 << 20)}))
    taken = fill(rig.folder / "dea", leave=4 << 20)
    await rig.bus.publish(f"dea.{rig.id}.start", rig.message(large, index=1))
    exited = await rig.hears("droplet.exited", lambda b: b["index"] == 1, seconds=60)
    assert "No space left on device" in exited["detail"]
    await rig.hears(
        "ingot.dea.beat", lambda b: b["capacity"]["memory_reserved"] == 128, since=rig.mark(), seconds=60
    )
    taken = fill(rig.folder / "dea")
    os.killpg(rig.main_pid(entry["instance"]), signal.SIGKILL)
    await rig.hears("droplet.exited", lambda b: b["instance"] == entry["instance"], seconds=60)


async def test_on_a_full_disk_what_crashed_goes_first(rigs: Rigs) -> None:
    rig = await rigs.start()
    entry = await rig.run(rig.keep(after("import os\n" + WRITE.format(at="None", mb=20))))
    os.killpg(rig.main_pid(entry["instance"]), signal.SIGKILL)
    await holds(rig, 0, 21)
    assert names(instances(rig)) == [entry["instance"]]
    fill(rig.folder / "dea", leave=1 << 20)
    await rig.until(lambda: names(instances(rig)) == [], "what crashed is removed")
    await rig.varz_until(lambda v: v["disk_full"] is None)
    await holds(rig, 0, 0)
    await rig.run(index=1)


def names_in_a_row() -> bytes:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 512
    return gzip.compress((info.tobuf(tarfile.GNU_FORMAT) + b"x" * 512) * 3000, 1)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (names_in_a_row(), "headers longer than any path"),
        (droplet({"droplet.yaml": "a: &a [1]\nb: [*a, *a]"}), "droplet.yaml: it has an alias"),
        (droplet({"droplet.yaml": "a: 2001-99-99"}), "droplet.yaml: not YAML"),
        (droplet(startup="#" * 200_000), "startup is longer than 128 KB"),
    ],
    ids=["headers", "aliases", "date", "startup"],
)
async def test_a_droplet_made_to_exhaust_is_said_and_holds_nothing(
    rigs: Rigs, content: bytes, says: str
) -> None:
    rig = await rigs.start()
    await rig.bus.publish(f"dea.{rig.id}.start", rig.message(rig.keep(content)))
    exited = await rig.hears("droplet.exited", seconds=60)
    assert says in exited["detail"]
    await rig.hears(
        "ingot.dea.beat", lambda b: b["capacity"]["memory_reserved"] == 0, since=rig.mark(), seconds=60
    )


async def test_a_state_file_made_to_exhaust_harms_nobody(rigs: Rigs) -> None:
    """An agent that could not parse it forgot the instance: it started for ever."""
    rig = await rigs.start(state_file_timeout=2)
    own = {
        "droplet.yaml": "state_file: state",
        "app/server.py": "open('../state', 'w').write('[' * 60_000)\n" + SERVER,
    }
    await rig.bus.publish(f"dea.{rig.id}.start", rig.message(rig.keep(droplet(own))))
    exited = await rig.hears("droplet.exited", seconds=60)
    assert exited["reason"] == "CRASHED"
    await holds(rig, 0, 1)
