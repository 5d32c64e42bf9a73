"""Parts of a platform fall silent, one after the other, under constant requests to an application: `make drill-silence`.

    python -m tests.integration.drill_silence [--only NAME,...] [--out build/bench/silence.json]

All components run on loopback in a network and a mount namespace of their own, with real servers. In each case the drill measures the
slowest answer of the API while the part is away, and the time until all parts are well once the part is back.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg

from components.common.filesystem import trees
from orchestrator.dev.harness import ROOT, Platform
from orchestrator.dev.settings import Settings
from tests.integration import silent_database
from tests.integration.hanging_share import HangingShare, hanging_share
from tests.integration.platform_fixture import APPS
from tests.integration.rolling_rig import Api, Load
from tests.integration.servers import postgres
from tests.small_disk import fill, fill_inodes, small_disk
from tests.support.waiting import until

EVIDENCE = ROOT / "build" / "evidence" / "silence"
INSIDE = "INGOT_DRILL_SILENCE"
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
HOURS = 5 * 3600
# The promises in seconds: an answer of the API, and all parts well again after the part is back.
ANSWER_SECONDS, WELL_SECONDS, BUS_SECONDS = 5.0, 30.0, 5.0
# Seconds for which a part is away.
AWAY_SECONDS = 20.0
# Seconds after which the drill reports that the platform does not recover.
PATIENCE = 120.0
STATUSES = {200, 503}
DISK_MB, INODES = 700, 20_000


@dataclass
class Drill:
    """A platform, and the parts that can be silenced."""

    platform: Platform
    api: Api
    share: HangingShare
    database_port: str
    clock: Path
    disks: list[Path]

    def bus(self, password: str | None) -> None:
        """Have the bus know one other password for all users, or again their own."""
        path = self.platform.settings.state / "config" / "nats.conf"
        configuration = json.loads(path.read_text())
        for user in configuration["authorization"]["users"]:
            user["password"] = password or self.platform.plan.secrets[f"bus_{user['user']}"]
        path.write_text(json.dumps(configuration))
        os.kill(self.platform.pid("nats"), signal.SIGHUP)

    def well(self) -> bool:
        """Return whether every daemon is ready, every DEA known, and the database and the share answer."""
        if not all(row.ready for row in self.platform.rows()):
            return False
        try:
            asked = [
                self.api.call("GET", path) for path in ("/apps", "/apps/hello/application", "/v2/machines")
            ]
        except httpx.HTTPError:
            return False
        if any(answer.status_code != 200 for answer in asked):
            return False
        up = [m for m in asked[-1].json()["machines"] if m["state"] == "up" and m["kind"].lower() == "dea"]
        return len(up) == len(self.platform.settings.dea_names) and self.api.running("hello") == 2


@dataclass(frozen=True)
class Case:
    """One part that falls silent.

    Attributes:
        name: in the report.
        silence: the part is away while the block runs.
        ask: the requests to the API meanwhile.
        seconds: allowed until all parts are well again.
        away: seconds for which the part is away.
        mended: a further condition once the part is back; its time counts.
    """

    name: str
    silence: Callable[[Drill], AbstractContextManager[None]]
    ask: tuple[str, ...] = ("/apps", "/info")
    seconds: float = WELL_SECONDS
    away: float = AWAY_SECONDS
    mended: Callable[[Drill], None] = lambda _drill: None


@dataclass
class Answers:
    """The answers of the API while a part was away."""

    statuses: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, status: str, seconds: float) -> None:
        with self.lock:
            self.statuses[status] += 1
            self.slowest = max(self.slowest, seconds)

    def good(self) -> bool:
        return self.slowest <= ANSWER_SECONDS and {*self.statuses} <= {str(status) for status in STATUSES}


@contextmanager
def dropped(drill: Drill) -> Iterator[None]:
    """Every packet from and to ccdb is lost."""
    silent_database.drop(drill.database_port)
    try:
        yield
    finally:
        silent_database.run("nft", f"delete table {silent_database.TABLE}")


@contextmanager
def refused(drill: Drill) -> Iterator[None]:
    """The bus refuses all passwords."""
    drill.bus("another")
    try:
        yield
    finally:
        drill.bus(None)


@contextmanager
def hanging(drill: Drill) -> Iterator[None]:
    """The share does not answer."""
    drill.share.hang()
    try:
        yield
    finally:
        drill.share.go_on()


def clock(seconds: int) -> Callable[[Drill], AbstractContextManager[None]]:
    """Set ccdb's clock, which leases, stagings and updates use, by a number of seconds."""

    @contextmanager
    def set_clock(drill: Drill) -> Iterator[None]:
        drill.clock.write_text(f"{seconds:+d}")
        until(lambda: abs(ahead(drill) - seconds) < 60, "ccdb goes by another clock")
        try:
            yield
        finally:
            drill.clock.write_text("+0")

    return set_clock


def ahead(drill: Drill) -> float:
    """Return the seconds by which ccdb's clock is ahead of the machine's."""
    with psycopg.connect(f"postgresql://ingot@127.0.0.1:{drill.database_port}/postgres") as connection:
        row = connection.execute("SELECT extract(epoch FROM clock_timestamp())").fetchone()
    return float(row[0] if row else 0) - time.time()


def full(take: Callable[[Path], Path]) -> Callable[[Drill], AbstractContextManager[None]]:
    """Fill the disks of all DEAs; a stop must work all the same."""

    @contextmanager
    def fill_disks(drill: Drill) -> Iterator[None]:
        taken = [take(disk) for disk in drill.disks]
        try:
            state(drill.api, "spare", "STOPPED")
            until(lambda: drill.api.running("spare") == 0, "an instance stops on a full disk")
            yield
        finally:
            for path in taken:
                trees.remove(path)

    return fill_disks


def clock_is_right(drill: Drill) -> None:
    """Wait until ccdb has the machine's clock again."""
    until(lambda: abs(ahead(drill)) < 60, "ccdb's clock is right", PATIENCE)


def spare_starts(drill: Drill) -> None:
    """Start the application that was stopped on the full disk."""
    until(lambda: state(drill.api, "spare", "STARTED") == 200, "its start is taken", PATIENCE)
    until(lambda: drill.api.running("spare") == 1, "an instance starts where there is room again", PATIENCE)


CASES = (
    Case("ccdb_packets_dropped", dropped),
    Case("ccdb_clock_forth", clock(HOURS), mended=clock_is_right),
    Case("ccdb_clock_back", clock(-HOURS), mended=clock_is_right),
    Case("share_hangs", hanging, ("/apps", "/info", "/apps/hello/application")),
    Case("bus_refuses", refused, seconds=BUS_SECONDS, away=4.0),
    Case("dea_disks_full", full(fill), mended=spare_starts),
    Case("dea_inodes_gone", full(fill_inodes), mended=spare_starts),
)


def state(api: Api, name: str, wanted: str) -> int:
    """Start or stop an application; return the status of the answer."""
    return api.call("PUT", f"/apps/{name}", {**api.json(f"/apps/{name}"), "state": wanted}).status_code


def asked(
    drill: Drill, paths: tuple[str, ...], over: threading.Event, answers: Answers
) -> list[threading.Thread]:
    """Request these paths of the API, each on a thread of its own, until the end."""

    def ask(path: str) -> None:
        api = Api(drill.platform, drill.api.token)
        with contextlib.closing(api):
            while not over.wait(0.1):
                begun = time.monotonic()
                try:
                    status = str(api.call("GET", path).status_code)
                except httpx.HTTPError as error:
                    status = type(error).__name__
                answers.add(status, time.monotonic() - begun)

    threads = [threading.Thread(target=ask, args=(path,)) for path in paths]
    for thread in threads:
        thread.start()
    return threads


def run(drill: Drill, case: Case) -> dict[str, Any]:
    """Silence one part, and return the measurements."""
    answers, over = Answers(), threading.Event()
    with Load(drill.platform, "hello") as load:
        with case.silence(drill):
            threads = asked(drill, case.ask, over, answers)
            over.wait(case.away)
            over.set()
            for thread in threads:
                thread.join()
        back = time.monotonic()
        case.mended(drill)
        until(drill.well, f"{case.name}: all is well", PATIENCE)
        seconds = time.monotonic() - back
    return {
        "asked": load.said.total() + len(load.failures),
        "failed": len(load.failures),
        "failures": load.failures[:3],
        "api_statuses": dict(answers.statuses),
        "api_slowest_seconds": round(answers.slowest, 2),
        "well_seconds": round(seconds, 2),
        "passed": not load.failures and answers.good() and seconds <= case.seconds,
    }


def keep_logs(logs: Path) -> Callable[..., None]:
    """Return an exit that keeps the daemons' logs where the drill did not come to its end."""

    def leave(kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            shutil.copytree(logs, EVIDENCE, dirs_exist_ok=True)
            print(f"the daemons' logs are in {EVIDENCE}", flush=True)

    return leave


@contextmanager
def raised() -> Iterator[Drill]:
    """Raise a platform whose parts can be silenced, with an application of two instances and a spare one."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ingot-silence-")))
        folder.chmod(0o755)
        times = folder / "clock"
        times.write_text("+0")
        # Timers stay as they are: only the time of day is set.
        faked = {
            "LD_PRELOAD": str(FAKETIME),
            "FAKETIME_TIMESTAMP_FILE": str(times),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        address = stack.enter_context(postgres(environment=faked))
        state_folder = folder / "dev"
        state_folder.mkdir(mode=0o700)
        share = stack.enter_context(hanging_share(state_folder))
        settings = Settings(
            state_folder,
            port=0,
            database_url=f"postgresql+psycopg://ingot@{address}/postgres",
            # More disk than there is, so that the file system gets full before all of it is reserved.
            overrides={"stager": {"pip_extra_args": ["--no-index"]}, "dea": {"max_disk": 20_000}},
        )
        disks = [
            stack.enter_context(small_disk(state_folder / name, DISK_MB, INODES))
            for name in settings.dea_names
        ]
        # Registered first, so that it happens last: the logs of the daemons are complete by then.
        stack.push(keep_logs(state_folder / "logs"))
        platform = stack.enter_context(Platform(settings))
        api = Api(platform)
        stack.callback(api.close)
        for name, instances in (("hello", 2), ("spare", 1)):
            api.push(name, APPS / "hello", instances)
        yield Drill(platform, api, share, address.rpartition(":")[2], times, disks)


def main() -> None:
    """Run the drill in namespaces of its own, and exit with 1 where a promise was not kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="names of cases, with commas between them")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "bench" / "silence.json")
    arguments = parser.parse_args()
    if INSIDE not in os.environ:
        again = [sys.executable, "-m", "tests.integration.drill_silence", *sys.argv[1:]]
        namespaces = ["unshare", "--net", "--mount", "--propagation", "private", "--"]
        sys.exit(
            subprocess.run([*namespaces, *again], env={**os.environ, INSIDE: "1"}, check=False).returncode
        )
    silent_database.run("ip", "link", "set", "lo", "up")
    only = {name for name in arguments.only.split(",") if name}
    found: dict[str, Any] = {}
    with raised() as drill:
        until(drill.well, "all is well before the first case", PATIENCE)
        for case in CASES:
            if not only or case.name in only:
                print(f"{case.name} ...", flush=True)
                found[case.name] = run(drill, case)
                print(json.dumps(found[case.name]), flush=True)
    result = {
        "failed": sum(case["failed"] for case in found.values()),
        "asked": sum(case["asked"] for case in found.values()),
        "cases": found,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({"failed": result["failed"], "asked": result["asked"], "out": str(arguments.out)}))
    sys.exit(0 if all(case["passed"] for case in found.values()) else 1)


if __name__ == "__main__":
    main()
