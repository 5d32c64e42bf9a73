"""How much of plain nginx's speed the router keeps: requests a second and CPU time a request, side by side.

    python -m tests.bench.bench_router [--rounds N] [--hosts N] [--out build/bench/router.json]

One worker each, on one core, with the load and the backends on another. One-second slices, the proxies by turns in shuffled
order, ratios within a round, because the same nginx differs by a factor between two seconds of a shared machine. The peers
are plain nginx, which knows ten servers and no routes, with the router's headers and log, and the same with a static map
of all hosts. Needs `wrk` and two cores.
"""

from __future__ import annotations

import argparse
import asyncio
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
import time
from dataclasses import dataclass, field
from pathlib import Path

from components.router import nginx_conf
from components.router.nginx import Delta, Nginx
from components.router.routes import Endpoint
from tests.integration.router_rig import free_port, until

ROOT = Path(__file__).resolve().parents[2]
BACKENDS, CONNECTIONS, PROXY_CORE, LOAD_CORE = 10, 64, "0", "1"
HERTZ = os.sysconf("SC_CLK_TCK")

BACKEND = """
worker_processes 1; pid {folder}/backend.pid; error_log {folder}/backend.log;
events {{ worker_connections 4096; }}
http {{
  access_log off; client_body_temp_path {folder}/b1; proxy_temp_path {folder}/b2; fastcgi_temp_path {folder}/b3;
  uwsgi_temp_path {folder}/b4; scgi_temp_path {folder}/b5; keepalive_requests 100000000;
  server {{ {listen} location / {{ return 200 "{body}"; }} }}
}}
"""
PLAIN = """
worker_processes 1; pid {folder}/{name}.pid; error_log {folder}/{name}.log;
events {{ worker_connections 4096; }}
http {{
  client_body_temp_path {folder}/{name}1; proxy_temp_path {folder}/{name}2; fastcgi_temp_path {folder}/{name}3;
  uwsgi_temp_path {folder}/{name}4; scgi_temp_path {folder}/{name}5;
  keepalive_requests 100000000; map_hash_max_size 65536; map_hash_bucket_size 128; proxy_http_version 1.1; proxy_buffering off;
  uninitialized_variable_warn off;
  {log_format}
  access_log {folder}/{name}.access ingot buffer=64k flush=1s;
  upstream endpoints {{ {servers} keepalive 256; keepalive_requests 1000000; }}
  {map}
  server {{
    listen 127.0.0.1:{port};
    set $ingot_upgrade ""; set $ingot_connection ""; set $ingot_app ""; set $ingot_instance "";
    {headers}
    location / {{ proxy_pass http://{target}; }}
  }}
}}
"""
WRK = """
local n = {hosts}
math.randomseed({seed})
request = function()
  return wrk.format("GET", "/", {{ Host = "h" .. math.random(0, n - 1) .. ".bench.localhost" }})
end
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format("RESULT %d %d %f %d %d\\n", summary.requests, summary.duration, latency:percentile(99),
    e.connect + e.read + e.write + e.timeout, e.status))
end
"""


@dataclass
class Proxy:
    """One nginx under test."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    rps: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    failed: int = 0

    def worker(self) -> int:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(children[0])

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.worker()}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / HERTZ

    def resident_kb(self) -> int:
        return int(re.findall(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.worker()}/status").read_text())[0])


def start(folder: Path, config: Path, core: str) -> subprocess.Popen[bytes]:
    # As root, workers would become another user, who cannot write here.
    user = "user root; " if os.geteuid() == 0 and "\nuser " not in config.read_text() else ""
    return subprocess.Popen(
        [
            "taskset",
            "-c",
            core,
            "nginx",
            "-p",
            str(folder),
            "-c",
            str(config),
            "-e",
            str(folder / "e.log"),
            "-g",
            f"daemon off; {user}",
        ]
    )


def plain(folder: Path, name: str, backends: list[int], hosts: int, shipped: str) -> Proxy:
    """Start an nginx that has the shipped log format and headers, and none of the rest."""
    port = free_port()
    log_format = re.search(r"log_format ingot.*?;\n", shipped, re.DOTALL)
    assert log_format
    lines = "".join(f"h{i}.bench.localhost endpoints;\n" for i in range(hosts)) if name == "nginx_map" else ""
    config = folder / f"{name}.conf"
    config.write_text(
        PLAIN.format(
            folder=folder,
            name=name,
            port=port,
            log_format=log_format[0],
            headers="\n".join(re.findall(r"proxy_set_header .*?;", shipped)),
            servers="".join(f"server 127.0.0.1:{p};" for p in backends),
            map=f"map $host $target {{ default nowhere;\n{lines}}}" if lines else "",
            target="$target" if lines else "endpoints",
        )
    )
    return Proxy(name, port, start(folder, config, PROXY_CORE))


def ingot(folder: Path, backends: list[int], hosts: int) -> tuple[Proxy, str]:
    """Start the shipped configuration and give it its routes."""
    port = free_port()
    config = nginx_conf.write(folder, port, "ingot.localhost")
    proxy = Proxy("ingot", port, start(folder, config, PROXY_CORE))
    until((folder / "data.sock").exists, "nginx listens")
    asyncio.run(load(folder / "data.sock", backends, hosts))
    return proxy, config.read_text()


async def load(socket: Path, backends: list[int], hosts: int) -> None:
    client = Nginx(socket)
    await client.open()
    names, step = [f"h{i}.bench.localhost" for i in range(hosts)], 50
    for seq, at in enumerate(range(0, hosts, step)):
        part = {
            name: [Endpoint("127.0.0.1", p, 7, f"{p:032x}") for p in random.sample(backends, len(backends))]
            for name in names[at : at + step]
        }
        await client.push(Delta("bench", seq + 1, part, full=True, part=seq, more=at + step < hosts))
    await client.close()


def slice_of(proxy: Proxy, folder: Path, hosts: int, seconds: int) -> None:
    script = folder / "wrk.lua"
    script.write_text(WRK.format(hosts=hosts, seed=random.randrange(1 << 30)))
    before = proxy.cpu_seconds()
    out = subprocess.run(
        [
            "taskset",
            "-c",
            LOAD_CORE,
            "wrk",
            "-t1",
            f"-c{CONNECTIONS}",
            f"-d{seconds}s",
            "-s",
            str(script),
            f"http://127.0.0.1:{proxy.port}/",
        ],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    spent = proxy.cpu_seconds() - before
    found = re.search(r"RESULT (\d+) (\d+) ([\d.]+) (\d+) (\d+)", out)
    assert found, out
    requests, micros, p99, errors, statuses = (float(x) for x in found.groups())
    proxy.rps.append(requests / micros * 1e6)
    proxy.cpu.append(spent / requests)
    proxy.p99.append(p99 / 1000)
    proxy.failed += int(errors + statuses)


def report(proxies: dict[str, Proxy], arguments: argparse.Namespace) -> dict[str, object]:
    base = proxies["nginx"]

    def ratio(ours: list[float], theirs: list[float]) -> float:
        return round(statistics.median(a / b for a, b in zip(ours, theirs, strict=True)), 3)

    peers = {
        p.name: {
            "rps": round(statistics.median(p.rps)),
            "cpu_us_per_request": round(statistics.median(p.cpu) * 1e6, 2),
            "p99_ms": round(statistics.median(p.p99), 3),
            "ratio_rps_vs_nginx": ratio(p.rps, base.rps),
            # As a speed: 1 is nginx's own, less is slower.
            "ratio_cpu_vs_nginx": ratio(base.cpu, p.cpu),
            "worker_kb": p.resident_kb(),
            "failed": p.failed,
        }
        for p in proxies.values()
    }
    ours = proxies["ingot"]
    return {
        "ratio_rps_vs_nginx": ratio(ours.rps, base.rps),
        "ratio_cpu_vs_nginx": ratio(base.cpu, ours.cpu),
        "p99_added_ms": round(statistics.median(a - b for a, b in zip(ours.p99, base.p99, strict=True)), 3),
        "hosts": arguments.hosts,
        "endpoints": arguments.hosts * BACKENDS,
        "rounds": arguments.rounds,
        "peers": peers,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--hosts", type=int, default=10_000)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "bench" / "router.json")
    arguments = parser.parse_args()
    if (os.cpu_count() or 1) < 2 or not shutil.which("wrk"):
        sys.exit("bench_router: needs two cores and the package wrk")
    folder = Path(tempfile.mkdtemp(prefix="ingot-bench-"))
    processes: list[subprocess.Popen[bytes]] = []
    try:
        backends = [free_port() for _ in range(BACKENDS)]
        config = folder / "backend.conf"
        listen = "".join(f"listen 127.0.0.1:{p};" for p in backends)
        config.write_text(BACKEND.format(folder=folder, listen=listen, body="x" * 1024))
        processes.append(start(folder, config, LOAD_CORE))
        ours, shipped = ingot(folder, backends, arguments.hosts)
        processes.append(ours.process)
        proxies = {ours.name: ours}
        for name in ("nginx", "nginx_map"):
            proxies[name] = plain(folder, name, backends, arguments.hosts, shipped)
            processes.append(proxies[name].process)
        time.sleep(1)
        for proxy in proxies.values():
            # The first asks fill each worker's own tables.
            slice_of(proxy, folder, arguments.hosts, 4)
            proxy.rps, proxy.cpu, proxy.p99 = [], [], []
        for _ in range(arguments.rounds):
            for proxy in random.sample(list(proxies.values()), len(proxies)):
                slice_of(proxy, folder, arguments.hosts, 1)
        result = report(proxies, arguments)
    finally:
        for process in processes:
            process.send_signal(signal.SIGTERM)
            process.wait(20)
        shutil.rmtree(folder)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
