"""gunicorn's lines among ours, for the daemons that answer with Flask."""

from __future__ import annotations

from typing import Any

import gunicorn.glogging


class GunicornLogger(gunicorn.glogging.Logger):
    """gunicorn's own lines go where all others go (its setting `logger_class`)."""

    def setup(self, cfg: Any) -> None:
        """Give gunicorn's lines to our log; called by gunicorn."""
        self.error_log.propagate = True
        self.error_log.handlers[:] = []
        self.error_log.setLevel(cfg.loglevel.upper())
        self.access_log.handlers[:] = []
        self.access_log.propagate = False

    def access(self, *_args: object, **_options: object) -> None:
        """Nothing: the application writes a line for each request itself."""
