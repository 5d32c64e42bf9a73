"""Gunicorn as its own command starts it, but that it listens only once a worker has loaded the application.

Gunicorn by itself opens its port, and then has its workers import the application: one that cannot be imported looks up for a
moment. Here the port is bound at once and listens when the first worker is ready. Loading stays the workers' business, which
`--preload` would change: threads and connections that an application makes when it is imported do not survive a fork.

It travels in the droplet in the place of the command `gunicorn`, and so uses Gunicorn and the standard library only.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from gunicorn.app.wsgiapp import WSGIApplication

_listen = socket.socket.listen
_NETWORK = (socket.AF_INET, socket.AF_INET6)


def _later(self: Any, backlog: int = 128, /) -> None:
    """Stand for `socket.listen` while Gunicorn makes its sockets."""
    if self.family not in _NETWORK:
        _listen(self, backlog)


class Server(WSGIApplication):
    """What the command `gunicorn` runs, with three of its hooks extended."""

    def load_config(self) -> None:
        """Read all settings as ever; an application's own hooks stay."""
        super().load_config()
        self._extend("on_starting", after=self._hold)
        self._extend("when_ready", before=self._let_go)
        self._extend("post_worker_init", after=self._open)

    def _extend(
        self,
        name: str,
        before: Callable[[Any], None] = lambda _: None,
        after: Callable[[Any], None] = lambda _: None,
    ) -> None:
        own = getattr(self.cfg, name)

        def hook(what: Any) -> None:
            before(what)
            own(what)
            after(what)

        self.cfg.set(name, hook)

    @staticmethod
    def _hold(_arbiter: Any) -> None:
        # Gunicorn has no setting for this, and every version of it makes its sockets between these two hooks.
        socket.socket.listen = _later  # type: ignore[method-assign]

    @staticmethod
    def _let_go(_arbiter: Any) -> None:
        socket.socket.listen = _listen  # type: ignore[method-assign]

    @staticmethod
    def _open(worker: Any) -> None:
        for listener in worker.sockets:
            listener.listen(worker.cfg.backlog)


if __name__ == "__main__":
    Server("%(prog)s [OPTIONS] [APP_MODULE]").run()
