"""The command `gunicorn`, which here listens only once a worker has loaded the application.

Gunicorn by itself opens its port, and then has its workers import the application, so that one that cannot be imported looks
up for a moment. Here the port is bound at once and listens when the first worker is ready. The workers still load the
application, unlike with `--preload`: threads and connections that it makes when it is imported do not survive a fork.

It travels in the droplet in the place of the command `gunicorn`, and so uses Gunicorn and the standard library only.
"""

from __future__ import annotations

import functools
import os
import socket
from collections.abc import Callable
from typing import Any

from gunicorn.app.wsgiapp import WSGIApplication

_NETWORK = (socket.AF_INET, socket.AF_INET6)


class _Hold:
    """A hold on listening: `listen` of all network sockets does nothing until `end`.

    An application's configuration may have replaced `socket.socket`, as gevent does, by a class that wraps a socket and has no
    `listen` of its own: the present class is changed and restored.
    """

    def __init__(self, cls: Any) -> None:
        self._cls = cls
        self._own: Any = vars(cls).get("listen")
        cls.listen = self._later()

    def end(self) -> None:
        """Restore the class's `listen`."""
        if self._own is None:
            del self._cls.listen
        else:
            self._cls.listen = self._own

    def _later(self) -> Callable[..., None]:
        cls, own = self._cls, self._own

        def listen(sock: Any, *backlog: int) -> None:
            if sock.family in _NETWORK:
                return
            if own is not None:
                own(sock, *backlog)
            else:
                plain: Any = getattr(sock, "_sock", super(cls, sock))
                plain.listen(*backlog)

        return listen


class Server(WSGIApplication):
    """The application of the command `gunicorn`, with some of its hooks extended."""

    _held: _Hold | None = None

    def load_config(self) -> None:
        """Read all settings as usual; an application's own hooks stay."""
        super().load_config()
        # Gunicorn has no setting for this. It makes its sockets between the first two hooks; with `reuse_port`, from version 23
        # on, each worker makes its own between the next two, and its parent's sockets are none of them.
        self._extend("on_starting", after=self._hold)
        self._extend("when_ready", before=self._let_go)
        if self.cfg.reuse_port:
            self._extend("pre_fork", after=self._hold)
            os.register_at_fork(after_in_parent=self._let_go)
            self._extend("post_fork", before=self._let_go)
        self._extend("post_worker_init", after=self._open)

    def _extend(
        self,
        name: str,
        before: Callable[..., None] = lambda *_: None,
        after: Callable[..., None] = lambda *_: None,
    ) -> None:
        own = getattr(self.cfg, name)

        # Gunicorn counts the parameters of a hook.
        @functools.wraps(own)
        def hook(*what: Any) -> None:
            before(*what)
            own(*what)
            after(*what)

        self.cfg.set(name, hook)

    def _hold(self, *_: Any) -> None:
        if self._held is None:
            self._held = _Hold(socket.socket)

    def _let_go(self, *_: Any) -> None:
        if self._held is not None:
            self._held.end()
            self._held = None

    @staticmethod
    def _open(worker: Any) -> None:
        for listener in worker.sockets:
            listener.listen(worker.cfg.backlog)


if __name__ == "__main__":
    Server("%(prog)s [OPTIONS] [APP_MODULE]").run()
