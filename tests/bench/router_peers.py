"""The proxies that `bench_router` compares, each with one worker on one core, and the backends behind them."""

from __future__ import annotations

import asyncio
import os
import random
import re
import socket
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from components.router import nginx_conf
from components.router.nginx import Delta, Nginx
from components.router.routes import Endpoint
from tests.support.ports import free_port
from tests.support.waiting import until

BACKENDS, PROXY_CORE, LOAD_CORE = 10, "0", "1"
DOMAIN = "bench.localhost"

_TEMPORARY = """
  client_body_temp_path {folder}/{name}1; proxy_temp_path {folder}/{name}2; fastcgi_temp_path {folder}/{name}3;
  uwsgi_temp_path {folder}/{name}4; scgi_temp_path {folder}/{name}5; keepalive_requests 100000000;
"""
_BACKEND = (
    """
worker_processes 1; pid {folder}/backend.pid; error_log {folder}/backend.log;
events {{ worker_connections 8192; }}
http {{
  access_log off; sendfile on; open_file_cache max=10;"""
    + _TEMPORARY
    + """
  server {{ {listen} root {folder}/files; location = / {{ return 200 "{body}"; }} location / {{ }} }}
}}
"""
)
_PLAIN = (
    """
worker_processes 1; pid {folder}/{name}.pid; error_log {folder}/{name}.log;
events {{ worker_connections 8192; }}
http {{"""
    + _TEMPORARY
    + """
  map_hash_max_size 65536; map_hash_bucket_size 128; proxy_http_version 1.1; proxy_buffering off; proxy_buffer_size 16k;
  proxy_buffers 8 16k;
  uninitialized_variable_warn off;
  {log_format}
  access_log {folder}/{name}.access ingot buffer=64k flush=1s;
  upstream endpoints {{ {servers} keepalive 256; keepalive_requests 1000000; }}
  {map}
  server {{
    listen 127.0.0.1:{port};
    set $ingot_app ""; set $ingot_instance "";
    {headers}
    location / {{ proxy_pass http://{target}; }}
  }}
}}
"""
)
_HAPROXY = """
global
  nbthread 1
  maxconn 8192
defaults
  mode http
  timeout connect 2s
  timeout client 60s
  timeout server 60s
  log stdout format raw local0
  http-reuse always
frontend front
  bind 127.0.0.1:{port}
  unique-id-format %{{+X}}o%ci%cp%Ts%rt
  log-format "{{\\"time\\":\\"%t\\",\\"request_id\\":\\"%ID\\",\\"client\\":\\"%ci\\",\\"request\\":%{{+Q}}r,\\"status\\":%ST,\\"bytes\\":%B,\\"ms\\":%Ta,\\"server\\":\\"%s\\"}}"
  http-request set-header X-Forwarded-For %[src]
  http-request set-header X-Real-IP %[src]
  http-request set-header X-Forwarded-Proto http
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  http-request set-header X-Vcap-Request-Id %[unique-id]
  use_backend %[req.hdr(host),lower,map({folder}/hosts.map)]
{backends}
"""
_CADDY = """
{{
  admin off
  auto_https off
}}
http://:{port} {{
  bind 127.0.0.1
  log {{
    output file {folder}/caddy.access {{
      roll_disabled
    }}
  }}
  @hosts host {hosts}
  reverse_proxy @hosts {servers} {{
    header_up X-Forwarded-Host {{host}}
    header_up X-Real-IP {{remote_host}}
  }}
}}
"""


@dataclass
class Proxy:
    """One proxy under test, and its measurements by scenario."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    rps: dict[str, list[float]] = field(default_factory=dict)
    cpu: dict[str, list[float]] = field(default_factory=dict)
    p50: dict[str, list[float]] = field(default_factory=dict)
    p99: dict[str, list[float]] = field(default_factory=dict)
    failed: int = 0

    def clear(self) -> None:
        """Forget the measurements; failures stay."""
        for values in (self.rps, self.cpu, self.p50, self.p99):
            values.clear()

    def worker(self) -> int:
        """The process that proxies: nginx's only child, or the process itself."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(children[0]) if children else self.process.pid

    def cpu_seconds(self) -> float:
        """Return the processor time of all its threads."""
        tasks = Path(f"/proc/{self.worker()}/task").glob("*/schedstat")
        return sum(int(t.read_text().split()[0]) for t in tasks) / 1e9

    def resident_kb(self) -> int:
        """Return the memory of the worker."""
        return int(re.findall(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.worker()}/status").read_text())[0])


def spawn(command: list[str], core: str, output: Path | None = None) -> subprocess.Popen[bytes]:
    """Start a program on one core."""
    sink = (output or Path(os.devnull)).open("wb")
    with sink:
        return subprocess.Popen(
            ["taskset", "-c", core, *command],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            env={**os.environ, "GOMAXPROCS": "1", "XDG_DATA_HOME": "/tmp", "XDG_CONFIG_HOME": "/tmp"},
        )


def nginx(folder: Path, config: Path, core: str) -> subprocess.Popen[bytes]:
    """Start an nginx in the foreground."""
    # As root, workers would become another user, which cannot write here.
    user = "user root; " if os.geteuid() == 0 and "\nuser " not in config.read_text() else ""
    options = ["-p", str(folder), "-c", str(config), "-e", str(folder / "e.log")]
    return spawn(["nginx", *options, "-g", f"daemon off; {user}"], core)


def backends(folder: Path) -> tuple[list[int], subprocess.Popen[bytes]]:
    """Start the backend: it answers 1 KB under `/`, 1 MB under `/m`."""
    ports = [free_port() for _ in range(BACKENDS)]
    (folder / "files").mkdir()
    (folder / "files" / "m").write_bytes(b"x" * 1_000_000)
    config = folder / "backend.conf"
    listen = "".join(f"listen 127.0.0.1:{p};" for p in ports)
    config.write_text(_BACKEND.format(folder=folder, name="b", listen=listen, body="x" * 1024))
    return ports, nginx(folder, config, LOAD_CORE)


def plain(folder: Path, name: str, ports: list[int], hosts: int, shipped: str) -> Proxy:
    """Start an nginx that has the shipped log format and headers, and nothing else of the router.

    Args:
        name: `nginx` uses its servers in turn; `nginx_random` at random, as a router does where every host has an order of its own;
            `nginx_map` looks each host up.
    """
    port = free_port()
    log_format = re.search(r"log_format ingot.*?;\n", shipped, re.DOTALL)
    usual = re.search(r"location / {.*?proxy_pass", shipped, re.DOTALL)
    assert log_format
    assert usual
    lines = "".join(f"h{i}.{DOMAIN} endpoints;\n" for i in range(hosts)) if name == "nginx_map" else ""
    config = folder / f"{name}.conf"
    config.write_text(
        _PLAIN.format(
            folder=folder,
            name=name,
            port=port,
            log_format=_its_own(log_format[0]),
            headers=_its_own("\n".join(re.findall(r"proxy_set_header .*?;", usual[0]))),
            servers=("random; " if name == "nginx_random" else "")
            + "".join(f"server 127.0.0.1:{p};" for p in ports),
            map=f"map $host $target {{ default nowhere;\n{lines}}}" if lines else "",
            target="$target" if lines else "endpoints",
        )
    )
    return Proxy(name, port, nginx(folder, config, PROXY_CORE))


def _its_own(text: str) -> str:
    # Plain nginx has a name for requests too.
    return text.replace("$ingot_request", "$request_id")


def haproxy(folder: Path, ports: list[int], hosts: int) -> Proxy:
    """Start an HAProxy with a map of all hosts to four backends."""
    port = free_port()
    (folder / "hosts.map").write_text("".join(f"h{i}.{DOMAIN} b{i % 4}\n" for i in range(hosts)))
    servers = "".join(f"  server s{i} 127.0.0.1:{p}\n" for i, p in enumerate(ports))
    config = folder / "haproxy.cfg"
    config.write_text(
        _HAPROXY.format(
            folder=folder, port=port, backends="\n".join(f"backend b{i}\n{servers}" for i in range(4))
        )
    )
    return Proxy(
        "haproxy",
        port,
        spawn(["haproxy", "-db", "-f", str(config)], PROXY_CORE, folder / "haproxy.access"),
    )


def caddy(folder: Path, ports: list[int], hosts: int) -> Proxy:
    """Start a Caddy with one matcher of all hosts."""
    port = free_port()
    config = folder / "Caddyfile"
    config.write_text(
        _CADDY.format(
            folder=folder,
            port=port,
            hosts=" ".join(f"h{i}.{DOMAIN}" for i in range(hosts)),
            servers=" ".join(f"127.0.0.1:{p}" for p in ports),
        )
    )
    command = ["caddy", "run", "--adapter", "caddyfile", "--config", str(config)]
    return Proxy("caddy", port, spawn(command, PROXY_CORE, folder / "caddy.out"))


def ingot(folder: Path, sockets: Path, ports: list[int], hosts: int) -> tuple[Proxy, str]:
    """Start the shipped configuration and give it its routes: each host an application, each endpoint an instance."""
    port = free_port()
    config = nginx_conf.write(folder, port, "ingot.localhost", router_run_path=str(sockets))
    proxy = Proxy("ingot", port, nginx(folder, config, PROXY_CORE))
    until((sockets / "data.sock").exists, "nginx listens")
    asyncio.run(_load(sockets / "data.sock", ports, hosts))
    return proxy, config.read_text()


async def _load(socket: Path, ports: list[int], hosts: int) -> None:
    client = Nginx(socket)
    await client.open()
    step = 50
    for seq, at in enumerate(range(0, hosts, step)):
        part = {
            f"h{i}.{DOMAIN}": [
                Endpoint("127.0.0.1", p, i + 1, f"{i:016x}{p:016x}") for p in random.sample(ports, len(ports))
            ]
            for i in range(at, min(at + step, hosts))
        }
        await client.push(Delta("bench", seq + 1, part, full=True, part=seq, more=at + step < hosts))
    await client.close()


def listens(proxy: Proxy) -> bool:
    """Return whether the proxy takes connections; fail when it has ended."""
    assert proxy.process.poll() is None, f"{proxy.name} ended"
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", proxy.port)) == 0


def versions() -> dict[str, str]:
    """Return the versions of the compared programs."""
    found: dict[str, str] = {}
    for name, command in (
        ("nginx", ["nginx", "-v"]),
        ("haproxy", ["haproxy", "-v"]),
        ("caddy", ["caddy", "version"]),
    ):
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            continue
        found[name] = (done.stdout + done.stderr).splitlines()[0]
    return found
