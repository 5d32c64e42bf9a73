"""A renderer of the role's nginx.conf without Ansible: for the development harness, tests and benchmarks.

The template and the inputs' defaults are the role's (`roles/router`), so that tests use the installed configuration.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import yaml

from components.common.bus.platform_hosts import platform_hosts

ROOT = Path(__file__).resolve().parents[2]
ROLE = ROOT / "roles" / "router"
LUA = Path(__file__).resolve().parent / "lua"
# The default of 2011 (protocol 3.3).
SESSION_KEY = "14fbc303b76bacd1e0a3ab641c11d11400341c5d"


def render(inputs: Mapping[str, Any], role: Path = ROLE) -> str:
    """Return the template with its inputs.

    Args:
        inputs: the role's inputs by name (`router_...`); those left out have the role's defaults.
        role: the role's folder.

    Raises:
        jinja2.UndefinedError: an input without a default is missing.
        OSError: the role is not there.
    """
    defaults = yaml.safe_load((role / "defaults" / "main.yml").read_text(encoding="utf-8"))
    plain = {k: v for k, v in defaults.items() if not (isinstance(v, str) and "{{" in v)}
    further = inputs.get("router_reserved_hosts", plain["router_reserved_hosts"])
    # The same value as in the role's vars.
    plain["__router_platform_hosts"] = sorted(platform_hosts(inputs["router_domain"], further))
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(role / "templates"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - it writes nginx.conf, not HTML
    )
    return environment.get_template("etc/nginx/nginx.conf.j2").render({**plain, **inputs})


def write(folder: Path, port: int, domain: str, **inputs: Any) -> Path:
    """Write all files of an unprivileged nginx to one folder, whose path must be short: it holds sockets.

    Start it with `nginx -p FOLDER -c FILE -g 'daemon off;' -e FOLDER/error.log`; the router process's `run_path` is
    the same folder.

    Returns:
        the configuration file.
    """
    for name in ("body", "proxy", "fastcgi", "uwsgi", "scgi"):
        (folder / "temp" / name).mkdir(parents=True, exist_ok=True)
    # A killed nginx leaves its sockets behind, and the next could not listen.
    for name in ("data.sock", "miss.sock"):
        (folder / name).unlink(missing_ok=True)
    key = folder / "session.key"
    key.write_text(inputs.pop("router_session_key", SESSION_KEY) + "\n", encoding="utf-8")
    path = folder / "nginx.conf"
    text = render(
        {
            "router_domain": domain,
            "router_release": "development",
            "router_address": "127.0.0.1",
            "router_index": 0,
            "router_port": f"127.0.0.1:{port}",
            # As root, workers would run as the user nobody, who may not use the router process's socket.
            "router_nginx_user": "root" if os.geteuid() == 0 else "",
            "router_workers": 1,
            "router_worker_connections": 2048,
            "router_run_path": str(folder),
            "router_lua_path": str(LUA),
            "router_session_key_file": str(key),
            "router_log_path": str(folder),
            "router_temp_path": str(folder / "temp"),
            "router_pid_file": str(folder / "nginx.pid"),
            **inputs,
        }
    )
    path.write_text(text, encoding="utf-8")
    return path


def main() -> None:
    """Lay out FOLDER for a PORT and a DOMAIN, and print the configuration file's path."""
    folder, port, domain = sys.argv[1:]
    sys.stdout.write(f"{write(Path(folder), int(port), domain)}\n")


if __name__ == "__main__":
    main()
