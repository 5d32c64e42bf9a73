"""A daemon that answers with Flask: gunicorn's master, and workers with a bus connection of their own."""

from __future__ import annotations

import secrets
import signal
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any, Protocol, TypeVar

import gunicorn.app.base
import msgspec
from flask import Flask

from components.common.config import DaemonConfig
from components.common.daemon import notify
from components.common.web.config import WebConfig
from components.common.web.gunicorn_log import GunicornLogger

C = TypeVar("C", bound=DaemonConfig)


class WebWorker(Protocol):
    """One worker's parts, made after the fork; `start` begins before the first request, `stop` ends after the last."""

    @property
    def app(self) -> Flask:
        """Return the application."""

    def start(self) -> None:
        """Connect, and begin the work without a request."""

    def leave(self) -> None:
        """Withdraw the route: the worker is told to end, and serves for `drain_seconds` more."""

    def stop(self) -> None:
        """Stop the work and close what is open."""


class GunicornDaemon(gunicorn.app.base.BaseApplication):
    """The master process, which watches its workers.

    Args:
        name: of the daemon, as in `ingot-<name>`.
        config: address, port, threads, drain and log.
        make_worker: makes a worker's parts; called in the worker.
        settings: gunicorn's settings that are this daemon's own.
    """

    def __init__(
        self,
        name: str,
        config: WebConfig,
        make_worker: Callable[[], WebWorker],
        settings: Mapping[str, Any],
    ) -> None:
        self._name = name
        self._config = config
        self._make_worker = make_worker
        self._settings = settings
        self._worker: WebWorker | None = None
        super().__init__()

    def load_config(self) -> None:
        """Set gunicorn's configuration from the daemon's; called by gunicorn."""
        config = self._config
        settings: dict[str, Any] = {
            "bind": f"{config.host}:{config.port}",
            "threads": config.threads,
            # A worker whose loop stands still is replaced; the duration of requests does not matter.
            "timeout": 60,
            "graceful_timeout": 20,
            "keepalive": 20,
            "worker_tmp_dir": "/dev/shm" if Path("/dev/shm").is_dir() else None,  # noqa: S108 - gunicorn's heartbeat
            "logger_class": GunicornLogger,
            "loglevel": config.log.level,
            "control_socket_disable": True,
            "proc_name": f"ingot-{self._name}",
            "when_ready": lambda _arbiter: notify("READY=1"),
            "on_exit": lambda _arbiter: notify("STOPPING=1"),
            "post_worker_init": self._worker_begins,
            "worker_exit": self._worker_ends,
            **self._settings,
        }
        for name, value in settings.items():
            if value is not None:
                self.cfg.set(name, value)

    def load(self) -> Any:
        """Return a worker's application; called by gunicorn in the worker, after the fork."""
        self._worker = self._make_worker()
        return self._worker.app

    def _worker_begins(self, gunicorn_worker: Any) -> None:
        worker, drain = self._worker, self._config.drain_seconds
        assert worker is not None
        worker.start()

        def leave(number: int, frame: FrameType | None) -> None:
            # The route goes first; requests that are still on their way through a router are served.
            threading.Thread(target=worker.leave, name="leave", daemon=True).start()
            threading.Timer(drain, gunicorn_worker.handle_exit, (number, frame)).start()

        signal.signal(signal.SIGTERM, leave)

    def _worker_ends(self, _arbiter: Any, _gunicorn_worker: Any) -> None:
        if self._worker is not None:
            self._worker.stop()


def with_status_password(config: C) -> C:
    """Return the configuration with a password for the probes; all workers then announce the same one."""
    if config.status.password:
        return config
    status = msgspec.structs.replace(config.status, password=secrets.token_hex(16))
    return msgspec.structs.replace(config, status=status)
