"""Uploads: a zip and a list of known resources become one package (protocol 1.9).

Every possible check comes before the first write; until the package is complete, only the upload's own folder is written.
"""

from __future__ import annotations

import io
import os
import stat
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from components.common import log
from components.common.filesystem.links import LinkError, check_links
from components.controller.errors import ApiError, Code, bad_request, unexpected
from components.controller.packages.zip_reader import Entry, Names, extract, inspect, refused, safe_name
from components.controller.requests.body import MAX_FINGERPRINTS, parse_json
from components.controller.storage.store import BLOCK, Store, sha1_of

logger = log.get(__name__)

# The date of every entry, so that the same files give the same package.
_EPOCH = (1980, 1, 1, 0, 0, 0)
_EMPTY = ".__empty__"


@dataclass(frozen=True, slots=True)
class PackageLimits:
    """The limits of an application: bytes in total, and files."""

    size: int
    files: int


def parse_resources(text: str | None) -> list[dict[str, Any]]:
    """Return the objects of the form field `resources`.

    Raises:
        ApiError: BAD_REQUEST when it is not a list of objects.
    """
    if text is None:
        raise bad_request("the field `resources` is missing")
    raw = (text or "[]").encode(errors="surrogatepass")
    if len(raw) > MAX_FINGERPRINTS:
        raise bad_request(f"the field `resources` is larger than {MAX_FINGERPRINTS >> 20} MB")
    value = parse_json(raw, "the field `resources`")
    if not isinstance(value, list) or not all(isinstance(v, dict) for v in value):
        raise bad_request("the field `resources` is not a list of objects")
    return value


@dataclass(frozen=True, slots=True)
class Resource:
    """A file that the client left out: its path, digest and size."""

    path: PurePosixPath
    sha1: object
    size: object


def name_resources(resources: list[dict[str, Any]], names: Names, *, as_is: bool = False) -> list[Resource]:
    """Return the files that the client left out, with checked paths.

    Raises:
        ApiError: SYSTEM_ERROR for a name that is blank, absolute or missing (as in 2011),
            RESOURCES_PACKAGING_FAILED for one that leaves the folder
        or exists already.
    """
    return [
        Resource(_resource_name(resource.get("fn"), names, as_is), resource.get("sha1"), resource.get("size"))
        for resource in resources
    ]


def _resource_name(name: object, names: Names, as_is: bool) -> PurePosixPath:
    if not isinstance(name, str) or not (name if as_is else name.strip()):
        raise unexpected("resources: fn: want a relative path")
    if name.startswith("/"):
        raise unexpected(f"resources: fn: {name[:200]!r} is not a relative path")
    path = safe_name(name, as_is=as_is)
    names.add(path)
    return path


def unpack(archive: Path, target: Path, entries: list[Entry]) -> dict[str, Path]:
    """Unpack an inspected zip into an empty folder; return its files by their SHA-1.

    Links come last, so that no file is written through one.

    Raises:
        ApiError: RESOURCES_PACKAGING_FAILED with the reason.
    """
    found: dict[str, Path] = {}
    links: dict[PurePosixPath, str] = {}
    with archive.open("rb") as reader:
        for entry in entries:
            path = target / entry.path
            if entry.link:
                content = io.BytesIO()
                extract(reader, entry, content)
                links[entry.path] = _link_target(entry.path, content.getvalue())
                continue
            if entry.folder:
                path.mkdir(parents=True, exist_ok=True)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as writer:
                extract(reader, entry, writer)
            path.chmod(0o755 if entry.executable else 0o644)
            found[sha1_of(path)] = path
    try:
        check_links(links)
    except LinkError as error:
        raise refused(f"{str(error.path)!r} is a link {error.problem}") from error
    for name, to in links.items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).symlink_to(to)
    return found


def _link_target(path: PurePosixPath, content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise refused(f"{str(path)!r} is a link to a name that is not UTF-8") from error


def add_resources(
    store: Store,
    owner: int,
    resources: list[Resource],
    target: Path,
    *,
    room: int,
    uploaded: dict[str, Path],
    mode: int = 0o755,
) -> None:
    """Copy the left-out files to their paths, from the owner's earlier files or from this upload.

    The pool keeps no modes: all files get `mode`.

    Raises:
        ApiError: RESOURCES_MISSING_RESOURCE for a file that is in neither, RESOURCES_PACKAGING_FAILED for too many bytes.
    """
    for resource in resources:
        source = _source(store, owner, resource, uploaded)
        if source is None:
            raise ApiError(Code.RESOURCES_MISSING_RESOURCE, resource.path)
        path = target / resource.path
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with source.open("rb") as reader, path.open("xb") as writer:
                while block := reader.read(BLOCK):
                    room -= len(block)
                    if room < 0:
                        raise refused("the application is larger than the platform allows")
                    writer.write(block)
        except FileNotFoundError as error:
            raise ApiError(Code.RESOURCES_MISSING_RESOURCE, resource.path) from error
        path.chmod(mode)


def _source(store: Store, owner: int, resource: Resource, uploaded: dict[str, Path]) -> Path | None:
    if store.has_resource(owner, resource.sha1, resource.size):
        return store.owned(owner, str(resource.sha1))
    came = uploaded.get(resource.sha1) if isinstance(resource.sha1, str) else None
    return came if came is not None and came.stat().st_size == resource.size else None


def pack(folder: Path, archive: Path, *, dotfiles: bool = False) -> str:
    """Write the package and return its SHA-1; sorted names and one date make equal content an equal file.

    Without `dotfiles` those at the top are left out, nested ones kept (protocol 1.9).
    """
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as zipped:
        for path, name in _files(folder, dotfiles=dotfiles):
            if path.is_symlink():
                link = zipfile.ZipInfo(name, _EPOCH)
                link.external_attr = (stat.S_IFLNK | 0o777) << 16
                zipped.writestr(link, os.fsencode(path.readlink()))
                continue
            directory = path.is_dir()
            entry = zipfile.ZipInfo(name + ("/" if directory else ""), _EPOCH)
            entry.compress_type = zipfile.ZIP_STORED if directory else zipfile.ZIP_DEFLATED
            entry.external_attr = (path.stat().st_mode & 0xFFFF) << 16 | (0x10 if directory else 0)
            if directory:
                zipped.writestr(entry, b"")
                continue
            entry.file_size = path.stat().st_size
            with path.open("rb") as reader, zipped.open(entry, "w") as writer:
                while block := reader.read(BLOCK):
                    writer.write(block)
    return sha1_of(archive)


def build_package(
    store: Store,
    owner: int,
    archive: Path | None,
    resources: list[dict[str, Any]],
    work: Path,
    *,
    limits: PackageLimits,
    keep: Callable[[Path, str], None],
    as_is: bool = False,
) -> str:
    """Turn an upload into a package; return its SHA-1.

    Args:
        store: the share.
        owner: the user whose files of the pool it may use.
        archive: the uploaded zip; None when the client sent none.
        resources: `[{"size", "sha1", "fn"}]`, the files that the pool has.
        work: an empty folder of this upload.
        limits: of the application's size.
        keep: called with the finished zip and its digest; it stores the file.
        as_is: whether the application stays as it is on the developer's disk: dotfiles, links, and every name.

    Raises:
        ApiError: SYSTEM_ERROR, RESOURCES_MISSING_RESOURCE, RESOURCES_PACKAGING_FAILED,
            and the errors of `keep`; then neither the pool nor anything else has changed.
    """
    # Each file may have a folder of its own.
    names = Names(2 * limits.files, as_is=as_is)
    entries: list[Entry] = []
    if archive is not None:
        entries = inspect(archive, names, most_files=limits.files, most_bytes=limits.size, as_is=as_is)
    if len(entries) + len(resources) > limits.files:
        raise refused(f"more than {limits.files} files")
    listed = name_resources(resources, names, as_is=as_is)
    uploaded = unpack(archive, work, entries) if archive is not None else {}
    room = limits.size - sum(e.size for e in entries)
    # Older clients leave executables out too: a script that cannot be run would be worse than an executable text.
    mode = 0o644 if as_is else 0o755
    store.run(lambda: add_resources(store, owner, listed, work, room=room, uploaded=uploaded, mode=mode))
    with store.incoming() as scratch:
        digest = store.run(lambda: pack(work, scratch, dotfiles=as_is))
        keep(scratch, digest)
    # Afterwards, so that a refused upload leaves nothing. Files that the pool does not get are sent again by the next push.
    try:
        for sha1, path in uploaded.items():
            store.add_resource(owner, path, sha1)
    except OSError as error:
        logger.warning("pool_incomplete", owner=owner, reason=str(error))
    return digest


def _files(folder: Path, *, dotfiles: bool) -> Iterator[tuple[Path, str]]:
    """Yield the content of a package in order, folders before their content; links are not followed.

    A client that sends no file of its own names one `.__empty__` (protocol 1.9), which is not the application's.
    """
    for root, names, files in os.walk(folder):
        here = Path(root)
        linked = {n for n in names if (here / n).is_symlink()}
        names[:] = sorted(n for n in names if n not in linked)
        listed = sorted([*files, *linked])
        if here != folder:
            yield here, str(here.relative_to(folder))
        elif dotfiles:
            listed = [n for n in listed if n != _EMPTY]
        else:
            names[:] = [n for n in names if not n.startswith(".")]
            listed = [n for n in listed if not n.startswith(".")]
        for name in listed:
            yield here / name, str((here / name).relative_to(folder))
