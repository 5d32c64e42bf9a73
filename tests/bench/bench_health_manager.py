"""One full pass of the health manager over a large platform: what is wanted and what runs, from JSON to decisions, on one core.

    python -m tests.bench.bench_health_manager [--instances N] [--deas N] [--passes N] [--quick] [--out FILE]

A pass is what one round costs a manager: every application of the bulk API, every DEA's heartbeat and beat as it comes from the
bus, then a decision about every application. Messages and pages are decoded from JSON in the pass, as the daemon decodes them. Some instances
are missing, some too many, some crash, one DEA evacuates: the decisions are counted and must be the ones that were planted.
Counted is processor time, which other programs on the machine do not change; `wall_seconds` is beside it.
The peer is the least that any manager must do: decoding the same JSON with the standard library, and nothing else.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import random
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from components.common.bus.messages import Capacity, DeaBeat, DropletExited, Heartbeat, HeartbeatEntry
from components.health_manager.actual import ActualTable
from components.health_manager.alerts import Alerts
from components.health_manager.config import Intervals
from components.health_manager.desired import DesiredApp, DesiredTable, parse_row
from components.health_manager.repairs import Repairs
from tests.bench import machine

WALL = 1_700_000_000
PAGE = 1000
# Of this number of instances one is missing, one is surplus, one has crashed.
RARE = 500
GOAL_SECONDS = 5.0


@dataclass
class Platform:
    """The messages of the bus and the pages of the bulk API, as bytes."""

    pages: list[bytes] = field(default_factory=list)
    heartbeats: list[bytes] = field(default_factory=list)
    beats: list[bytes] = field(default_factory=list)
    exits: list[bytes] = field(default_factory=list)
    instances: int = 0
    apps: int = 0
    missing: int = 0
    surplus: int = 0


def make(instances: int, deas: int, seed: int = 7) -> Platform:
    """Make up a platform with applications of one to nine instances."""
    dice = random.Random(seed)
    made = Platform()
    rows: list[dict[str, Any]] = []
    homes: list[list[HeartbeatEntry]] = [[] for _ in range(deas)]
    number = 0
    while number < instances:
        app = len(rows) + 1
        size = min(dice.randint(1, 9), instances - number)
        digest = f"{app:040x}"
        rows.append(_row(app, size, digest))
        # One index more than is wanted, now and then.
        too_many = dice.randrange(RARE) == 0
        for index in range(size + too_many):
            number += index < size
            if index < size and dice.randrange(RARE) == 0:
                made.missing += 1
                crashed = DropletExited(
                    droplet=app,
                    version=f"{digest}-1",
                    instance=f"{number:032x}",
                    index=index,
                    reason="CRASHED",
                    crash_timestamp=WALL,
                )
                made.exits.append(msgspec.json.encode(crashed))
                continue
            homes[dice.randrange(deas)].append(
                HeartbeatEntry(
                    droplet=app,
                    version=f"{digest}-1",
                    instance=f"{number:031x}{int(index >= size)}",
                    index=index,
                    state="RUNNING",
                    state_timestamp=WALL - 500,
                )
            )
        made.surplus += too_many
    made.instances, made.apps = sum(map(len, homes)), len(rows)
    for at in range(0, len(rows), PAGE):
        page = {str(r["id"]): r for r in rows[at : at + PAGE]}
        made.pages.append(msgspec.json.encode({"results": page, "bulk_token": {"id": at + PAGE}}))
    for dea, entries in enumerate(homes):
        counts: dict[str, int] = {}
        for entry in entries:
            counts[str(entry.droplet)] = counts.get(str(entry.droplet), 0) + 1
        made.heartbeats.append(msgspec.json.encode(Heartbeat(dea=f"dea{dea}", droplets=entries)))
        beat = DeaBeat(
            id=f"dea{dea}",
            address=f"198.18.{dea // 256}.{dea % 256}",
            capacity=Capacity(memory=32768, memory_reserved=64 * len(entries), instances=len(entries)),
            zone=f"z{dea % 3}",
            droplets=counts,
        )
        made.beats.append(msgspec.json.encode(beat))
    return made


def _row(app: int, instances: int, digest: str) -> dict[str, Any]:
    return {
        "id": app,
        "owner_id": app % 997,
        "owner": f"user{app % 997}@example.org",
        "name": f"app{app}",
        "framework": "wsgi",
        "runtime": "python3",
        "state": "STARTED",
        "instances": instances,
        "memory": 64,
        "disk_quota": 2048,
        "file_descriptors": 256,
        "package_state": "STAGED",
        "package_hash": digest,
        "staged_package_hash": digest,
        "run_count": 1,
        "lock_version": 3,
        "created_at": WALL - 5000,
        "updated_at": WALL - 1000,
        "last_updated": WALL - 1000,
        "version": f"{digest}-1",
        "metadata": {},
        "updating": None,
    }


class Manager:
    """The manager's logic between its sockets; `now` is its clock."""

    def __init__(self) -> None:
        self.s = Intervals()
        self.now = 1000.0
        self.desired, self.table = DesiredTable(), ActualTable(self.s)
        self.repairs = Repairs(self.s, self.desired, self.table, Alerts(), self.now)
        self.table.listen_from(self.now)
        self._heartbeats = msgspec.json.Decoder(Heartbeat)
        self._beats = msgspec.json.Decoder(DeaBeat)

    def one_pass(self, platform: Platform) -> dict[str, float]:
        """Take everything in and decide about everything; return the seconds of each phase."""
        self.now += 10.0
        marks = [time.thread_time()]

        def lap() -> None:
            marks.append(time.thread_time())

        apps: list[DesiredApp] = []
        for page in platform.pages:
            for key, row in msgspec.json.decode(page)["results"].items():
                apps.append(parse_row(int(key), row))
        self.table.mark(self.desired.load(apps, self.now, WALL + self.now))
        lap()
        heard = [self._heartbeats.decode(raw) for raw in platform.heartbeats]
        lap()
        for heartbeat in heard:
            self.table.heartbeat(heartbeat, self.now)
        lap()
        for raw in platform.beats:
            self.table.beat(self._beats.decode(raw), self.now)
        lap()
        self.repairs.look(self.now, trusted=True, acting=True)
        while self.repairs.left:
            self.repairs.look(self.now, trusted=True, acting=True)
        lap()
        phases = ("desired", "heartbeats_decoded", "heartbeats_taken", "beats", "judged")
        return dict(zip(phases, (b - a for a, b in itertools.pairwise(marks)), strict=True))


def peer(platform: Platform) -> float:
    """Decode the same bytes by the standard library; seconds."""
    began = time.thread_time()
    for raw in (*platform.pages, *platform.heartbeats, *platform.beats):
        json.loads(raw)
    return time.thread_time() - began


def measure(instances: int, deas: int, passes: int) -> dict[str, Any]:
    """Run the benchmark."""
    facts = machine.facts()
    platform = make(instances, deas)
    before = machine.resident_mb()
    manager = Manager()
    gc.collect()
    first = manager.one_pass(platform)
    for raw in platform.exits:
        manager.table.exited(msgspec.json.decode(raw, type=DropletExited), manager.now)
    later, peers = [], []
    walls = []
    for _ in range(passes):
        began = time.perf_counter()
        later.append(manager.one_pass(platform))
        walls.append(time.perf_counter() - began)
        peers.append(peer(platform))
    decisions = manager.repairs.decisions.values()
    found = {
        "missing": sum(v.missing for v in decisions),
        "starts": sum(len(v.starts) for v in decisions),
        "stops": sum(len(v.stops) for v in decisions),
    }
    wanted = {"missing": platform.missing, "starts": platform.missing, "stops": platform.surplus}
    if found != wanted:
        raise SystemExit(f"bench_health_manager: wrong decisions: {found} instead of {wanted}")
    seconds = statistics.median(sum(p.values()) for p in later)
    return {
        "benchmark": "health_manager",
        "seconds": round(seconds, 3),
        "first_pass_seconds": round(sum(first.values()), 3),
        "wall_seconds": round(statistics.median(walls), 3),
        "goal_seconds": GOAL_SECONDS,
        "reached": max(seconds, sum(first.values())) <= GOAL_SECONDS,
        "phases": {k: round(statistics.median(p[k] for p in later), 3) for k in first},
        "first_phases": {k: round(v, 3) for k, v in first.items()},
        "ratio_to_plain_json": round(
            statistics.median(sum(p.values()) for p in later) / statistics.median(peers), 2
        ),
        "picture_mb": round(machine.resident_mb() - before, 1),
        "instances": platform.instances,
        "apps": platform.apps,
        "deas": deas,
        "passes": passes,
        "found": found,
        "machine": facts,
    }


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Measure, write and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--instances", type=int, default=250_000)
    parser.add_argument("--deas", type=int, default=1000)
    parser.add_argument("--passes", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="a hundredth of it, once")
    parser.add_argument("--out", type=Path, default=machine.output("health_manager"))
    arguments = parser.parse_args(argv)
    if arguments.quick:
        arguments.instances, arguments.deas, arguments.passes = 2500, 10, 1
    return machine.report(measure(arguments.instances, arguments.deas, arguments.passes), arguments.out)


if __name__ == "__main__":
    main()
