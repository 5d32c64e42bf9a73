"""A push: pack, create or find, upload, stage, start, and leave nothing running when that fails.

The calls are those of `vmc` (section 1.16): GET /info, GET /apps/N, POST /apps, POST /resources, POST
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
from components.client.detect import detect
from components.client.errors import PackageError
from components.client.lifecycle import Lifecycle
from components.client.manifest import Settings
from components.client.package import Entry
from components.client.progress import Progress
from components.client.units import format_bytes

DEFAULT_MEMORY = 128
_TEXT_LIMIT = 256 * 1024


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a push ended with: `app` as the controller shows it, the URL of its first route or an empty text."""

    app: App
    url: str


def default_host(name: str, target: str) -> str:
    """Return the application's host: its name and the target's domain, without a port."""
    domain = (urlsplit(target).hostname or "").partition(".")[2]
    return f"{name.lower().replace('_', '-')}.{domain}"


def app_url(host: str, target: str) -> str:
    """Return the address of a route: behind the same front door as the controller, hence its scheme and port."""
    parts = urlsplit(target)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{host}{port}/"


@dataclass(slots=True)
class Pusher:
    """Pushes one application.

    Args:
        folder: its files.
        settings: what the user and the manifest say.
    """

    lifecycle: Lifecycle
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

    def push(self, *, start: bool) -> Outcome:
        """Push, and start unless told not to.

        Raises:
            PushError: staging or the start failed; the application is stopped.
            ClientError: the folder cannot be pushed, or the controller said no.
        """
        with tempfile.TemporaryDirectory(prefix="ingot-push-") as scratch:
            with self._progress.stage("packing"):
                entries = package.collect(self.folder, package.ignore_rules(self.folder))
                info = self._api.info()
                app = self._api.find_app(self._name)
                framework = self._framework(entries, info.get("frameworks") or {}, app)
                entries = package.fingerprint(entries)
                self._progress.detail(f"{_files(len(entries))}, {format_bytes(sum(e.size for e in entries))}")
            with self._progress.stage("uploading"):
                if app is None:
                    self._api.create(self._description(framework))
                self._upload(entries, Path(scratch) / "application.zip")
        changes = {} if app is None else self._changes(app, framework)
        if start:
            self.lifecycle.start(new=app is None, **changes)
        elif changes:
            self.lifecycle.change(**changes)
        final = self._api.app(self._name)
        hosts = final.get("uris") or []
        return Outcome(final, app_url(str(hosts[0]), self._api.target) if hosts else "")

    def _framework(self, entries: Sequence[Entry], offered: dict[str, Any], app: App | None) -> str:
        """Return the framework: as said, as it was, by its command, or as detected."""
        if not entries:
            raise PackageError(f"{self.folder} holds nothing to push", "name the folder with --path DIR")
        if said := self.settings.framework:
            return said
        if app is not None and (was := (app.get("staging") or {}).get("model")):
            return str(was)
        by_name = {entry.name: entry for entry in entries}

        def read(name: str) -> str:
            with by_name[name].path.open("rb") as stream:
                return stream.read(_TEXT_LIMIT).decode(errors="replace")

        try:
            return detect(by_name.keys(), read, offered)
        except PackageError:
            if self.settings.command and "standalone" in offered:
                return "standalone"
            raise

    def _upload(self, entries: Sequence[Entry], archive: Path) -> None:
        known = (
            self._api.known_resources([entry.fingerprint() for entry in entries])
            if package.worth_asking(entries)
            else []
        )
        send, have = package.split_known(entries, known)
        package.write_zip(send, archive)
        size = archive.stat().st_size
        what = f"{len(send)} of {_files(len(entries))}" if have else _files(len(send))

        def sent(done: int, total: int) -> None:
            self._progress.detail(f"{format_bytes(done)} of {format_bytes(total)}, {what}")

        self._api.upload(self._name, archive, [entry.fingerprint() for entry in have], sent)
        self._progress.detail(f"{format_bytes(size)} compressed, {what}")

    def _staging(self, framework: str) -> dict[str, Any]:
        staging: dict[str, Any] = {"framework": framework, "runtime": self.settings.runtime}
        if self.settings.command is not None:
            staging["command"] = self.settings.command
        return staging

    def _description(self, framework: str) -> dict[str, Any]:
        """Describe a new application for `POST /apps`."""
        said = self.settings
        description: dict[str, Any] = {
            "name": self._name,
            "staging": self._staging(framework),
            "uris": said.urls if said.urls is not None else [default_host(self._name, self._api.target)],
            "instances": said.instances or 1,
            "resources": {"memory": said.memory or DEFAULT_MEMORY},
        }
        if said.env:
            description["env"] = [f"{key}={value}" for key, value in said.env.items()]
        return description

    def _changes(self, app: App, framework: str) -> dict[str, Any]:
        """Say what is new about an application that was there before."""
        said = self.settings
        changes: dict[str, Any] = {}
        if said.framework or said.runtime or said.command is not None:
            changes["staging"] = self._staging(framework)
        if said.urls is not None:
            changes["uris"] = said.urls
        if said.instances is not None:
            changes["instances"] = said.instances
        if said.memory is not None:
            changes["resources"] = {**(app.get("resources") or {}), "memory": said.memory}
        if said.env:
            changes["env"] = merge_environment(app.get("env") or [], said.env)
        return changes


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"


def merge_environment(current: Sequence[str], changes: Mapping[str, str | None]) -> list[str]:
    """Return `K=V` texts with these changes; None removes a name. Order is kept."""
    merged: dict[str, str | None] = dict(text.partition("=")[::2] for text in current)
    merged.update(changes)
    return [f"{key}={value}" for key, value in merged.items() if value is not None]
