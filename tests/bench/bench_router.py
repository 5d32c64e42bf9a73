"""The router's speed beside plain nginx's: requests a second and CPU time a request, side by side.

    python -m tests.bench.bench_router [--rounds N] [--hosts N] [--only NAME,...] [--out build/bench/router.json]

One worker each, on one core, with the load and the backends on another. One-second slices, the proxies by turns in shuffled
order, ratios within a round, because the same nginx differs by a factor between two seconds of a shared machine. The router
runs as shipped, with log, headers and numbers, 10 000 hosts and 100 000 endpoints. The peers are plain nginx, which knows ten
servers and no routes, with the router's headers and log; the same asking its servers at random, as a router with many hosts does;
the same with a static map of all hosts; HAProxy with a map; Caddy.

Scenarios: `keepalive` (1 KB, 64 connections), `same_rate` (the same, with a load generator so slow that every proxy but the slowest
serves the same rate), `light` (1 KB, 2 connections: latency without a queue), `new` (1 KB, a new connection for each request), `large`
(1 MB). At full speed a slower proxy finds the other core asleep more often and pays for waking it, an interrupt of several microseconds
on a virtual machine, so it looks slower than it is. At the same rate this cost is the same for all.

Needs `wrk` and two cores; HAProxy and Caddy are installed with apt where root runs this, else left out.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.bench import router_peers as peers
from tests.bench.router_peers import Proxy
from tests.support.waiting import until

ROOT = Path(__file__).resolve().parents[2]
WRK = """
local n = {hosts}
math.randomseed({seed})
local burnt = 0
request = function()
  for i = 1, {burn} do burnt = burnt + i end
  return wrk.format("GET", "{path}", {{ Host = "h" .. math.random(0, n - 1) .. ".{domain}"{more} }})
end
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format("RESULT %d %d %f %f %d %d %d\\n", summary.requests, summary.duration, latency:percentile(50),
    latency:percentile(99), e.connect + e.read + e.write + e.timeout, e.status, summary.bytes))
end
"""


@dataclass(frozen=True)
class Scenario:
    """One kind of load; `share` of the rounds measure it."""

    name: str
    connections: int
    path: str = "/"
    size: int = 1000
    close: bool = False
    burn: int = 0
    share: float = 1.0


SCENARIOS = (
    Scenario("keepalive", 64),
    Scenario("same_rate", 64, burn=12_000, share=0.7),
    Scenario("light", 2, share=0.5),
    Scenario("new", 64, close=True, share=0.3),
    Scenario("large", 16, path="/m", size=900_000, share=0.3),
)


def measure(proxy: Proxy, scenario: Scenario, folder: Path, hosts: int, seconds: int = 1) -> None:
    script = folder / "wrk.lua"
    script.write_text(
        WRK.format(
            hosts=hosts,
            seed=random.randrange(1 << 30),
            path=scenario.path,
            domain=peers.DOMAIN,
            burn=scenario.burn,
            more=', Connection = "close"' if scenario.close else "",
        )
    )
    before = proxy.cpu_seconds()
    out = subprocess.run(
        [
            *("taskset", "-c", peers.LOAD_CORE, "wrk", "-t1", f"-c{scenario.connections}"),
            *(f"-d{seconds}s", "-s", str(script), f"http://127.0.0.1:{proxy.port}/"),
        ],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    spent = proxy.cpu_seconds() - before
    found = re.search(r"RESULT (\d+) (\d+) ([\d.]+) ([\d.]+) (\d+) (\d+) (\d+)", out)
    assert found, out
    requests, micros, p50, p99, errors, statuses, size = (float(x) for x in found.groups())
    proxy.failed += int(errors + statuses)
    if requests:
        assert size / requests > scenario.size, f"{proxy.name} answered something else"
        proxy.rps.setdefault(scenario.name, []).append(requests / micros * 1e6)
        proxy.cpu.setdefault(scenario.name, []).append(spent / requests)
        proxy.p50.setdefault(scenario.name, []).append(p50 / 1000)
        proxy.p99.setdefault(scenario.name, []).append(p99 / 1000)


def warm(proxy: Proxy, hosts: int) -> None:
    """Request every host once: the benchmark does not measure the work of a host's first request."""
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=60)
    for number in range(hosts):
        connection.request("GET", "/", headers={"Host": f"h{number}.{peers.DOMAIN}"})
        connection.getresponse().read()
    connection.close()


def ratio(ours: list[float], theirs: list[float]) -> float:
    """The median over the rounds."""
    return round(statistics.median(a / b for a, b in zip(ours, theirs, strict=True)), 3)


def describe(proxy: Proxy, base: Proxy) -> dict[str, object]:
    told: dict[str, object] = {"worker_kb": proxy.resident_kb(), "failed": proxy.failed}
    for name, rps in proxy.rps.items():
        told[name] = {
            "rps": round(statistics.median(rps)),
            "cpu_us_per_request": round(statistics.median(proxy.cpu[name]) * 1e6, 2),
            "p50_ms": round(statistics.median(proxy.p50[name]), 3),
            "p99_ms": round(statistics.median(proxy.p99[name]), 3),
            "ratio_rps_vs_nginx": ratio(rps, base.rps[name]),
            # As a speed: 1 is nginx's own, less is slower.
            "ratio_cpu_vs_nginx": ratio(base.cpu[name], proxy.cpu[name]),
        }
    return told


def report(proxies: dict[str, Proxy], arguments: argparse.Namespace) -> dict[str, object]:
    base, ours = proxies["nginx"], proxies["ingot"]
    added = [a - b for a, b in zip(ours.p99["light"], base.p99["light"], strict=True)]
    return {
        "ratio_rps_vs_nginx": ratio(ours.rps["keepalive"], base.rps["keepalive"]),
        "ratio_cpu_vs_nginx": ratio(base.cpu["keepalive"], ours.cpu["keepalive"]),
        "ratio_cpu_vs_nginx_same_rate": ratio(base.cpu["same_rate"], ours.cpu["same_rate"]),
        "p99_added_ms": round(statistics.median(added), 3),
        "hosts": arguments.hosts,
        "endpoints": arguments.hosts * peers.BACKENDS,
        "rounds": arguments.rounds,
        "versions": peers.versions(),
        "peers": {name: describe(proxy, base) for name, proxy in proxies.items()},
    }


def install() -> None:
    """Install the load generator, HAProxy and Caddy from Debian where that is possible, with their services off; no other benchmark needs all."""
    if os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run([ROOT / "orchestrator" / "setup.sh", "peers"], check=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--hosts", type=int, default=10_000)
    parser.add_argument("--only", default="nginx_map,nginx_random,haproxy,caddy", help="peers beside nginx")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "bench" / "router.json")
    arguments = parser.parse_args()
    install()
    if (os.cpu_count() or 1) < 2 or not shutil.which("wrk"):
        sys.exit("bench_router: needs two cores and the package wrk")
    folder = Path(tempfile.mkdtemp(prefix="ingot-bench-"))
    # Workers map their numbers in the folder of the sockets, which is memory, as /run is.
    sockets = Path(tempfile.mkdtemp(prefix="ingot-bench-", dir="/dev/shm"))
    processes: list[subprocess.Popen[bytes]] = []
    hosts = arguments.hosts
    try:
        ports, process = peers.backends(folder)
        processes.append(process)
        ours, shipped = peers.ingot(folder, sockets, ports, hosts)
        proxies = {ours.name: ours}
        makers: dict[str, Callable[[], Proxy]] = {
            "nginx": lambda: peers.plain(folder, "nginx", ports, hosts, shipped),
            "nginx_map": lambda: peers.plain(folder, "nginx_map", ports, hosts, shipped),
            "nginx_random": lambda: peers.plain(folder, "nginx_random", ports, hosts, shipped),
            "haproxy": lambda: peers.haproxy(folder, ports, hosts),
            "caddy": lambda: peers.caddy(folder, ports, hosts),
        }
        for name, make in makers.items():
            wanted = name == "nginx" or name in arguments.only.split(",")
            if wanted and shutil.which(name.partition("_")[0]):
                proxies[name] = make()
        processes += [p.process for p in proxies.values()]
        for proxy in proxies.values():
            until(partial(peers.listens, proxy), f"{proxy.name} listens", 60)
            # The first requests fill each worker's own tables.
            warm(proxy, hosts)
            measure(proxy, SCENARIOS[0], folder, hosts)
            proxy.clear()
        for number in range(arguments.rounds):
            for scenario in SCENARIOS:
                if number < max(1, round(arguments.rounds * scenario.share)):
                    for proxy in random.sample(list(proxies.values()), len(proxies)):
                        measure(proxy, scenario, folder, hosts)
        result = report(proxies, arguments)
    finally:
        for process in processes:
            process.send_signal(signal.SIGTERM)
            process.wait(20)
        shutil.rmtree(folder)
        shutil.rmtree(sockets)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
