"""Placement decisions a second over a large pool, with applications spread over DEAs and zones.

    python -m tests.bench.bench_placement [--deas N] [--decisions N] [--rounds N] [--quick] [--out FILE]

Decisions go through the controller's own pool, as those of a push do: each counts at once against its DEA, and every DEA beats after
every `deas` decisions. The measure is processor time, which other programs on the machine do not change. The peer of the same run has the
same rules and no index: it ranks all DEAs at every decision. Both are checked: applications must lie as evenly over the zones as they can.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.common.bus.messages import Capacity, DeaBeat
from components.controller.pool.placement import Need
from components.controller.pool.registry import Pool
from tests.bench import machine

ZONES = 3
GOAL_PER_SECOND = 5000
MEMORY, INSTANCE = 65_536, 64


@dataclass(slots=True)
class Dea:
    """One machine as the naive peer keeps it."""

    id: str
    zone: str
    free: int
    apps: Counter[int]


class Naive:
    """The same rules without an index."""

    def __init__(self, deas: int) -> None:
        self.deas = [Dea(f"dea{n}", f"z{n % ZONES}", MEMORY, Counter()) for n in range(deas)]
        self.zones: Counter[tuple[int, str]] = Counter()

    def place(self, app: int) -> str:
        ranked = sorted(
            (d for d in self.deas if d.free >= INSTANCE),
            key=lambda d: (self.zones[app, d.zone], d.apps[app], -d.free),
        )
        best = ranked[0]
        best.free -= INSTANCE
        best.apps[app] += 1
        self.zones[app, best.zone] += 1
        return best.id


class Ours:
    """The controller's pool, with the beats it hears."""

    def __init__(self, deas: int) -> None:
        self.pool = Pool()
        self.now = 1000.0
        self.pool.listening(self.now)
        self.count = deas
        self.placed: dict[str, Counter[int]] = {f"dea{n}": Counter() for n in range(deas)}
        self.seconds_of_beats = 0.0
        self._dice = random.Random(3)
        self.beat()

    def beat(self) -> None:
        """Have every DEA beat; the pool's time to take the beats in counts."""
        beats = [
            DeaBeat(
                id=id_,
                address="198.18.0.1",
                capacity=Capacity(
                    memory=MEMORY,
                    memory_reserved=INSTANCE * sum(apps.values()),
                    instances=sum(apps.values()),
                    max_instances=100_000,
                ),
                zone=f"z{number % ZONES}",
                runtimes=["python3", "node", "ruby"],
                droplets={str(a): n for a, n in apps.items()},
            )
            for number, (id_, apps) in enumerate(self.placed.items())
        ]
        began = time.thread_time()
        for beat in beats:
            self.pool.observe(beat, self.now, self.now)
        self.seconds_of_beats += time.thread_time() - began

    def place(self, app: int) -> str:
        need = Need(app, INSTANCE, 0, "python3")
        (chosen,) = self.pool.reserve(need, 1, self._dice.choice, self.now)
        self.placed[chosen][app] += 1
        return chosen


def uneven(places: list[tuple[int, str]]) -> int:
    """Count the applications whose instances could lie more evenly over the zones."""
    apps: dict[int, Counter[str]] = {}
    for app, dea in places:
        apps.setdefault(app, Counter())[f"z{int(dea[3:]) % ZONES}"] += 1
    return sum(max(z.values()) - min(z[f"z{n}"] for n in range(ZONES)) > 1 for z in apps.values())


def measure(deas: int, decisions: int, rounds: int) -> dict[str, Any]:
    """Run the benchmark."""
    facts = machine.facts()
    dice = random.Random(5)
    speeds, with_beats, peers, ratios = [], [], [], []
    rough = 0
    for _ in range(rounds):
        ours, naive = Ours(deas), Naive(deas)
        ours.seconds_of_beats = 0.0
        asked = [dice.randrange(decisions // 4 + 1) for _ in range(decisions)]
        places: list[tuple[int, str]] = []
        spent = 0.0
        for at in range(0, decisions, deas):
            began = time.thread_time()
            places += [(app, ours.place(app)) for app in asked[at : at + deas]]
            spent += time.thread_time() - began
            ours.now += 1.0
            ours.beat()
        few = asked[: max(decisions // 50, 1)]
        began = time.thread_time()
        naive_places = [(app, naive.place(app)) for app in few]
        naive_spent = time.thread_time() - began
        rough += uneven(places) + uneven(naive_places)
        speeds.append(decisions / spent)
        with_beats.append(decisions / (spent + ours.seconds_of_beats))
        peers.append(len(few) / naive_spent)
        ratios.append(speeds[-1] / peers[-1])
    if rough:
        raise SystemExit(f"bench_placement: {rough} applications lie unevenly")
    speed = statistics.median(speeds)
    return {
        "benchmark": "placement",
        "decisions_per_second": round(speed),
        "goal_per_second": GOAL_PER_SECOND,
        "reached": speed >= GOAL_PER_SECOND,
        "decisions_per_second_with_beats": round(statistics.median(with_beats)),
        "naive_per_second": round(statistics.median(peers)),
        "ratio_to_naive": round(statistics.median(ratios), 1),
        "deas": deas,
        "zones": ZONES,
        "decisions": decisions,
        "rounds": rounds,
        "machine": facts,
    }


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Measure, write and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--deas", type=int, default=1000)
    parser.add_argument("--decisions", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="a small pool, once")
    parser.add_argument("--out", type=Path, default=machine.output("placement"))
    arguments = parser.parse_args(argv)
    if arguments.quick:
        arguments.deas, arguments.decisions, arguments.rounds = 60, 600, 1
    return machine.report(measure(arguments.deas, arguments.decisions, arguments.rounds), arguments.out)


if __name__ == "__main__":
    main()
