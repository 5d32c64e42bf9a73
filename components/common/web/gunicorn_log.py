"""Gunicorn's lines in the log of the daemons that answer with Flask."""

from __future__ import annotations

from typing import Any

import gunicorn.glogging


class GunicornLogger(gunicorn.glogging.Logger):
    """A logger that sends gunicorn's own lines where all others go (its setting `logger_class`)."""

    def setup(self, cfg: Any) -> None:
        """Connect gunicorn's loggers to the daemon's log; called by gunicorn."""
        self.error_log.propagate = True
        self.error_log.handlers[:] = []
        self.error_log.setLevel(cfg.loglevel.upper())
        self.access_log.handlers[:] = []
        self.access_log.propagate = False

    def access(self, *_args: object, **_options: object) -> None:
        """Do nothing: the application writes a line for each request itself."""
