"""A push: pack, create or find, upload, stage and start; after a failure nothing new runs.

The calls are those of `vmc` (protocol 1.16): GET /info, GET /apps/N, POST /apps, POST /resources, POST
/apps/N/application, GET /apps/N, PUT /apps/N; then the instances are asked for until all run.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from components.client import package
from components.client.api import Api, App
from components.client.api_v2 import missing
from components.client.detect import detect
from components.client.errors import ApiError, ClientError, PackageError
from components.client.follow.update import Updater
from components.client.lifecycle import AppLifecycle
from components.client.manifest import Settings
from components.client.offerings import choose, offerings_of, wish
from components.client.package import Entry
from components.client.progress import Progress
from components.client.text import decode
from components.client.units import format_bytes

DEFAULT_MEMORY = 128
_TEXT_LIMIT = 256 * 1024
_REFUSED_UPLOAD = 402


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a push: `app` as the controller shows it, the URL of its first route or an empty text.

    `how` is `updated` (without a pause), `started` (or restarted) or `uploaded` (and nothing more).
    """

    app: App
    url: str
    how: str


def default_host(name: str, target: str) -> str:
    """Return the application's host: its name and the target's domain, without a port."""
    domain = (urlsplit(target).hostname or "").partition(".")[2]
    return f"{name.lower().replace('_', '-')}.{domain}"


def app_url(host: str, target: str) -> str:
    """Return the address of a route: it has the controller's front door, hence its scheme and port."""
    parts = urlsplit(target)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{host}{port}/"


@dataclass(slots=True)
class Pusher:
    """Pushes one application.

    Args:
        folder: its files.
        settings: the options and the manifest together.
    """

    lifecycle: AppLifecycle
    folder: Path
    settings: Settings

    @property
    def _api(self) -> Api:
        return self.lifecycle.api

    @property
    def _name(self) -> str:
        return self.lifecycle.name

    @property
    def _progress(self) -> Progress:
        return self.lifecycle.progress

    def push(self, *, start: bool = True, hard: bool = False, known: bool = False) -> Outcome:
        """Push: update a running application instance by instance without a pause, unless `hard`; start any other.

        Args:
            start: start the application; without it a running one is not touched either.
            hard: stop a running application, then start it.
            known: the application must exist already, and a stopped one stays so.

        Raises:
            PushError: staging, the start or the update failed. A start that failed leaves the application stopped, an
                update that failed leaves the version before running.
            ClientError: the folder cannot be pushed, or the controller refused.
        """
        with tempfile.TemporaryDirectory(prefix="ingot-push-") as scratch:
            archive = Path(scratch) / "application.zip"
            with self._progress.stage("packing"):
                entries = package.collect(self.folder, package.ignore_rules(self.folder))
                info = self._api.info()
                app = self._api.app(self._name) if known else self._api.find_app(self._name)
                check_port(self.settings.env, self._urls(app))
                framework = self._framework(entries, info.get("frameworks") or {}, app)
                self.lifecycle.procfile = any(entry.name == "Procfile" for entry in entries)
                entries = package.fingerprint(entries)
                count = len(package.files_of(entries))
                self._progress.detail(f"{_files(count)}, {format_bytes(sum(e.size for e in entries))}")
            self._make_services()
            changes = {} if app is None else self._changes(app, framework)
            runs = app is not None and app.get("state") == "STARTED"
            start = start and (runs or not known)
            updater = Updater(self.lifecycle)
            roll = start and runs and not hard and self._may_roll(updater)
            with self._progress.stage("uploading"):
                if app is None:
                    self._api.create(self._description(framework))
                self._upload(entries, archive)
        if roll:
            roll = self._roll(updater, changes)
        elif start:
            self.lifecycle.start(new=app is None, **changes)
        elif changes:
            self.lifecycle.change(**changes)
        final = self._api.app(self._name)
        hosts = final.get("uris") or []
        how = "updated" if roll else "started" if start else "uploaded"
        return Outcome(final, app_url(str(hosts[0]), self._api.target) if hosts else "", how)

    def _may_roll(self, updater: Updater) -> bool:
        """Return whether a running application can be replaced without a pause; print the reason where it cannot."""
        if updater.possible():
            return True
        self._progress.note("this platform cannot update without a pause: the application is restarted")
        return False

    def _roll(self, updater: Updater, changes: Mapping[str, Any]) -> bool:
        """Update a running application; return False where an older platform had to restart it for these changes."""
        try:
            updater.run(changes)
        except ApiError as error:
            if not missing(error):
                raise
            self._progress.note(
                "this platform changes settings only with a restart: the application is restarted"
            )
            self.lifecycle.start(**changes)
            return False
        return True

    def _make_services(self) -> None:
        """Make the services of the manifest that do not exist yet."""
        wishes = self.settings.services or ()
        if not wishes:
            return
        there = {str(service.get("name")) for service in self._api.services()}
        for wanted in wishes:
            if wanted.name in there:
                continue
            if not wanted.vendor:
                raise ClientError(
                    f"you have no service {wanted.name!r}, which the manifest binds",
                    f"make it: `ingot create-service VENDOR {wanted.name}`, or name its vendor in the manifest",
                )
            with self._progress.stage("creating"):
                offering = choose(offerings_of(self._api.offerings()), wanted.vendor)
                self._api.create_service(wish(offering, wanted.name, wanted.plan))
                self._progress.detail(f"{wanted.name} ({offering.vendor} {offering.version})")

    def _framework(self, entries: Sequence[Entry], offered: dict[str, Any], app: App | None) -> str:
        """Return the framework: from the settings, the application, its command, or detection."""
        if not package.files_of(entries):
            raise PackageError(f"{self.folder} holds nothing to push", "name the folder with --path DIR")
        if said := self.settings.framework:
            return said
        if app is not None and (was := (app.get("staging") or {}).get("model")):
            return str(was)
        by_name = {entry.name: entry.path for entry in entries if entry.path.is_file()}
        for link in (entry for entry in entries if entry.kind is package.Kind.LINK and entry.path.is_dir()):
            by_name |= {f"{link.name}/{path.name}": path for path in link.path.iterdir() if path.is_file()}

        def read(name: str) -> str:
            with by_name[name].open("rb") as stream:
                return decode(stream.read(_TEXT_LIMIT), "replace")

        try:
            return detect(by_name.keys(), read, offered)
        except PackageError:
            if self.settings.command and "standalone" in offered:
                return "standalone"
            raise

    def _upload(self, entries: Sequence[Entry], archive: Path) -> None:
        """Send the files; a platform of before 0.1.0 gets copies of what links lead to."""
        try:
            self._send(entries, archive)
        except ApiError as error:
            # The words of controllers that know no links; later ones do not say them.
            if error.code != _REFUSED_UPLOAD or "only files and folders are taken" not in error.description:
                raise
            self._progress.note("this platform takes no links: what they lead to is sent as copies")
            self._send(package.without_links(entries), archive)

    def _send(self, entries: Sequence[Entry], archive: Path) -> None:
        known = (
            self._api.known_resources([entry.fingerprint() for entry in package.files_of(entries)])
            if package.worth_asking(entries)
            else []
        )
        send, have = package.split_known(entries, known)
        package.write_zip(send, archive)
        size = archive.stat().st_size
        count = len(package.files_of(send))
        what = f"{count} of {_files(count + len(have))}" if have else _files(count)

        def sent(done: int, total: int) -> None:
            self._progress.part(done, total, f"{format_bytes(done)} of {format_bytes(total)}, {what}")

        self._api.upload(self._name, archive, [entry.fingerprint() for entry in have], sent)
        self._progress.detail(f"{format_bytes(size)} compressed, {what}")

    def _staging(self, framework: str) -> dict[str, Any]:
        # Null stands for the framework's default.
        staging: dict[str, Any] = {"framework": framework, "runtime": self.settings.runtime}
        if self.settings.command is not None:
            staging["command"] = self.settings.command
        return staging

    def _urls(self, app: App | None = None) -> list[str]:
        """Return the URLs that an application, or a new one, will have."""
        if self.settings.urls is not None:
            return self.settings.urls
        return [default_host(self._name, self._api.target)] if app is None else list(app.get("uris") or [])

    def _description(self, framework: str) -> dict[str, Any]:
        """Return the body of `POST /apps` for a new application."""
        said = self.settings
        description: dict[str, Any] = {
            "name": self._name,
            "staging": self._staging(framework),
            "uris": self._urls(),
            "instances": said.instances or 1,
            "resources": {"memory": said.memory or DEFAULT_MEMORY},
        }
        if said.env:
            description["env"] = [f"{key}={value}" for key, value in said.env.items()]
        if said.health is not None:
            description["meta"] = {"health": said.health}
        if said.services:
            description["services"] = [service.name for service in said.services]
        return description

    def _changes(self, app: App, framework: str) -> dict[str, Any]:
        """Return the changes of an application that exists already."""
        said = self.settings
        wanted: dict[str, Any] = {}
        staging, meta = app.get("staging") or {}, app.get("meta") or {}
        if (
            (said.framework or staging.get("model"), said.runtime or staging.get("stack"))
            != (staging.get("model"), staging.get("stack"))
        ) or (said.command is not None and said.command != meta.get("command")):
            kept = staging.get("stack") if framework == staging.get("model") else None
            wanted["staging"] = {**self._staging(framework), "runtime": said.runtime or kept}
        if said.urls is not None:
            wanted["uris"] = said.urls
        if said.instances is not None:
            wanted["instances"] = said.instances
        if said.memory is not None:
            wanted["resources"] = {**(app.get("resources") or {}), "memory": said.memory}
        if said.env:
            wanted["env"] = merge_environment(app.get("env") or [], said.env)
        if said.services:
            bound = list(app.get("services") or [])
            wanted["services"] = bound + [s.name for s in said.services if s.name not in bound]
        changes = {key: value for key, value in wanted.items() if key == "staging" or value != app.get(key)}
        if said.health is not None and said.health != meta.get("health"):
            changes["meta"] = {"health": said.health}
        return changes


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"


def check_port(env: Mapping[str, object], urls: Sequence[str]) -> None:
    """Refuse a port of the user's own where the platform chooses one.

    Raises:
        ClientError: saying so.
    """
    if "PORT" in env and urls:
        raise ClientError(
            "PORT: the platform chooses the port of an application that has a URL",
            "listen on the port in $PORT",
        )


def merge_environment(current: Sequence[str], changes: Mapping[str, str | None]) -> list[str]:
    """Return `K=V` texts with these changes; None removes a name. Order is kept."""
    merged: dict[str, str | None] = dict(text.partition("=")[::2] for text in current)
    merged.update(changes)
    return [f"{key}={value}" for key, value in merged.items() if value is not None]
