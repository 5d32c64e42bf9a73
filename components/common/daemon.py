"""The life of a daemon: arguments, configuration, logs, probes, bus, signals, and a clean end.

    def main() -> None:
        run("dea", "DEA", DeaConfig, Agent)

`--check-config` reads the configuration and reports on standard error every problem of it and everything that the machine
lacks for it. It exits 2 where there is one, else 0.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn, Protocol, TypeVar, runtime_checkable

from aiohttp import web

from components.common import config as configuration
from components.common import log
from components.common.bus.client import Bus, Incoming
from components.common.bus.component_logs import answer_logs
from components.common.config import DaemonConfig
from components.common.errors import ConfigError, IngotError
from components.common.identity import Identity
from components.common.probes import Probes
from components.common.version import release

C = TypeVar("C", bound=DaemonConfig)
logger = log.get(__name__)


class Component(Protocol):
    """The component that `run` runs: the factory registers subscriptions, `start` begins, `stop` ends cleanly."""

    async def start(self) -> None:
        """Begin. The bus may not be connected yet; this must not make it fail."""

    async def stop(self) -> None:
        """Finish work in progress and leave nothing behind that disturbs a restart."""

    def ready(self) -> list[str]:
        """Return the reasons why this component cannot do its work now; empty when it can."""

    def varz(self) -> dict[str, object]:
        """Return the component's own facts for `/varz`."""


@runtime_checkable
class Serving(Protocol):
    """A component that serves more than the probes on its port."""

    def routes(self) -> list[web.RouteDef]:
        """Return the routes that it serves."""


Factory = Callable[[C, Bus, Identity], Component]


def load_or_exit(
    name: str,
    kind: type[C],
    argv: Sequence[str] | None = None,
    check: Callable[[C], Sequence[str]] = lambda _: (),
) -> C:
    """Parse a daemon's arguments and read its configuration; exit 0 or 2 where only a check was asked for.

    Args:
        name: component name, as in the configuration file's and the unit's name.
        kind: the configuration's type.
        argv: the arguments; by default the process's own.
        check: returns further problems of a valid configuration, each naming its key.
    """
    parser = argparse.ArgumentParser(prog=f"ingot-{name.replace('_', '-')}")
    parser.add_argument(
        "--config", type=Path, default=Path(f"/etc/ingot/{name}.yml"), help="YAML configuration file"
    )
    parser.add_argument(
        "--check-config",
        action="store_true",
        help="report every problem of the configuration and what the machine lacks for it, and exit",
    )
    parser.add_argument("--version", action="version", version=release())
    arguments = parser.parse_args(argv)
    try:
        config = configuration.load(arguments.config, kind)
    except ConfigError as error:
        _give_up(error.problems, error.source)
    if problems := [*check(config), *config.lacking()]:
        _give_up(problems, str(arguments.config))
    if arguments.check_config:
        sys.stdout.write(f"{arguments.config}: ok\n")
        raise SystemExit(0)
    return config


def _give_up(problems: Sequence[str], source: str) -> NoReturn:
    for problem in problems:
        sys.stderr.write(f"{source}: {problem}\n")
    raise SystemExit(2)


def run(
    name: str,
    kind: str,
    config_type: type[C],
    factory: Factory[C],
    identify: Callable[[C], Identity] | None = None,
) -> None:
    """Run a daemon until SIGTERM or SIGINT.

    Args:
        name: component name, as in the configuration file's and the unit's name.
        kind: the type it announces (protocol 2.2).
        config_type: its configuration.
        factory: makes the component from its configuration, the bus and its identity.
        identify: makes the identity; by default a fresh one for this run.
    """
    config = begin(name, config_type)
    identity = identify(config) if identify else Identity.fresh(kind, config.index)
    with exit_on_failure():
        asyncio.run(serve(name, config, identity, factory))


def begin(name: str, config_type: type[C], check: Callable[[C], Sequence[str]] = lambda _: ()) -> C:
    """Return the configuration, and set up the log; exit where only a check was asked for, or where there is a problem.

    Args:
        name: as `load_or_exit` has it.
        config_type: its configuration.
        check: as `load_or_exit` has it.
    """
    config = load_or_exit(name, config_type, check=check)
    log.configure(name, config.log.level, index=config.index, release=release())
    return config


@contextlib.contextmanager
def exit_on_failure() -> Iterator[None]:
    """Exit with 1 where the daemon cannot begin; the log has the reason."""
    try:
        yield
    except (IngotError, OSError) as error:
        logger.critical("daemon_failed", reason=str(error))
        raise SystemExit(1) from error


async def serve(name: str, config: C, identity: Identity, factory: Factory[C]) -> None:
    """Run the component on this loop until a signal asks it to stop."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    bus = Bus(config.bus, f"{name}-{config.index}")
    component = factory(config, bus, identity)
    routes = component.routes() if isinstance(component, Serving) else []
    probes = Probes(config.status, component.ready, lambda: {**identity.varz(), **component.varz()}, routes)
    await probes.start()
    announce(bus, identity, f"{config.address}:{probes.port}", probes.credentials)
    answer_logs(bus, name, identity.uuid)
    try:
        await component.start()
        await bus.start()
        notify("READY=1")
        logger.info("daemon_started", probes=probes.port, id=identity.uuid)
        await stop.wait()
        notify("STOPPING=1")
        logger.info("daemon_stopping")
    finally:
        with contextlib.suppress(asyncio.CancelledError):
            await component.stop()
        await bus.close()
        await probes.stop()
    logger.info("daemon_stopped")


def announce(bus: Bus, identity: Identity, host: str, credentials: list[str], queue: str = "") -> None:
    """Publish `vcap.component.announce` at every connection, and answer `vcap.component.discover`.

    Args:
        bus: not started yet.
        identity: the announced one.
        host: `address:port` of the probes.
        credentials: user and password of the probes.
        queue: the queue group of processes that have one identity, of which one answers.
    """

    async def hello() -> None:
        await bus.publish("vcap.component.announce", identity.announcement(host, credentials))

    async def discovered(message: Incoming[object]) -> None:
        await message.respond(identity.announcement(host, credentials, uptime=True))

    bus.on_connect(hello)
    bus.subscribe("vcap.component.discover", None, discovered, queue)


def notify(state: str) -> None:
    """Tell systemd (sd_notify(3)) a state; do nothing where no service manager listens."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock, contextlib.suppress(OSError):
        sock.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)
