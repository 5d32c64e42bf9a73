"""The choice of a Rails application's database among the bound ones, and its config/database.yml (protocol 7.4); pure."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from components.stager.errors import StagingError
from components.stager.plugin import Service

_ADAPTERS = {"mysql": "mysql2", "postgresql": "postgresql"}
_PRODUCTION = re.compile(r"(production|prod)$")
_OFF = re.compile(r"^\s*autoconfig\s*:\s*(false|no|off)\b", re.MULTILINE)


def choose_database(services: Sequence[Service], settings: str) -> Service | None:
    """Return the database for `production`; None where none is bound, or the application configures it itself.

    Args:
        services: the bound ones.
        settings: the text of its config/cloudfoundry.yml; `autoconfig: false` leaves everything to the application.

    Raises:
        StagingError: several are bound and their names do not decide.
    """
    databases = [s for s in services if _adapter(s)]
    if not databases or _OFF.search(settings):
        return None
    if len(databases) == 1:
        return databases[0]
    marked = [s for s in databases if _PRODUCTION.search(s.name)]
    if len(marked) == 1:
        return marked[0]
    names = ", ".join(sorted(s.name for s in databases))
    raise StagingError(
        "compile",
        f"{len(databases)} databases are bound ({names}), and their names do not tell which one is for production",
        "Name exactly one so that it ends in `production` or `prod`, or unbind the others.",
    )


def database_yml(service: Service) -> str:
    """Return config/database.yml; it reads the credentials where the application runs, so no droplet holds them."""
    found = (
        "JSON.parse(ENV.fetch('VCAP_SERVICES', '{}')).values.flatten"
        f".find {{ |s| s['name'] == {_ruby(service.name)} }}"
    )
    lines = [
        "# Written when the application was staged; the credentials are those of the instance's environment.",
        f"<% require 'json'; c = (({found}) || {{}}).fetch('credentials', {{}}) %>",
        "production:",
        f"  adapter: {_adapter(service)}",
        "  encoding: utf8",
        "  pool: 5",
        "  reconnect: false",
        "  host: <%= (c['hostname'] || c['host']).to_json %>",
        "  port: <%= c['port'].to_json %>",
        "  username: <%= (c['username'] || c['user']).to_json %>",
        "  password: <%= c['password'].to_json %>",
        "  database: <%= c['name'].to_json %>",
    ]
    return "\n".join(lines) + "\n"


def _adapter(service: Service) -> str | None:
    return next((a for label, a in _ADAPTERS.items() if service.label.startswith(label)), None)


def _ruby(text: str) -> str:
    # JSON's quoting is Ruby's, except for the meaning of `#{` there.
    return json.dumps(text).replace("#", "\\#")
