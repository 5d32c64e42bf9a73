"""Uploads: a zip and a list of known resources become one package (section 1.9).

The zip comes from a stranger: its names may point anywhere, its sizes may lie, its entries may be links.
"""

from __future__ import annotations

import json
import os
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from components.controller.errors import ApiError, bad_request
from components.controller.store import BLOCK, Store, sha1_of

# Written into every entry, so that the same files give the same package.
_EPOCH = (1980, 1, 1, 0, 0, 0)
_DEEPEST = 100
_LONGEST_NAME = 1024


@dataclass(frozen=True, slots=True)
class PackageLimits:
    """How much an application may be: bytes in all, and files."""

    size: int
    files: int


def parse_resources(text: str | None) -> list[dict[str, Any]]:
    """Read the form field `resources`.

    Raises:
        ApiError: 100 when it is not a list of objects.
    """
    if text is None:
        raise bad_request("the field `resources` is missing")
    try:
        value = json.loads(text or "[]")
    except (ValueError, RecursionError) as error:
        raise bad_request("the field `resources` is not JSON") from error
    if not isinstance(value, list) or not all(isinstance(v, dict) for v in value):
        raise bad_request("the field `resources` is not a list of objects")
    return value


def safe_name(name: str) -> PurePosixPath:
    """Check a file's name inside an application.

    Raises:
        ApiError: 402 when it is absolute, leaves the folder, or is no name at all.
    """
    if not name or name.startswith("/") or "\0" in name or "\\" in name or len(name) > _LONGEST_NAME:
        raise ApiError(402, f"{name[:200]!r} is not a relative path")
    path = PurePosixPath(name)
    if ".." in path.parts or not path.parts or len(path.parts) > _DEEPEST:
        raise ApiError(402, f"{name[:200]!r} leaves the application's folder")
    return path


def unpack(archive: Path, target: Path, limits: PackageLimits) -> int:
    """Unpack a zip into an empty folder; gives the bytes written.

    Raises:
        ApiError: 402 with the reason.
    """
    total = 0
    try:
        with zipfile.ZipFile(archive) as zipped:
            entries = zipped.infolist()
            if len(entries) > limits.files:
                raise ApiError(402, f"more than {limits.files} files")
            for entry in entries:
                total += _unpack_entry(zipped, entry, target, limits.size - total)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error, ValueError) as error:
        raise ApiError(402, f"the archive cannot be read ({error})") from error
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise ApiError(402, "a name is used for a file and for a folder") from error
    return total


def _unpack_entry(zipped: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path, room: int) -> int:
    path = target / safe_name(entry.filename)
    mode = entry.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise ApiError(402, f"{entry.filename!r} is a link or a device; only files and folders are taken")
    if entry.is_dir():
        path.mkdir(parents=True, exist_ok=True)
        return 0
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipped.open(entry) as reader, path.open("wb") as writer:
        size = _bounded_copy(reader, writer, room)
    path.chmod(0o755 if mode & 0o111 else 0o644)
    return size


def _bounded_copy(reader: Any, writer: BinaryIO, room: int) -> int:
    size = 0
    # The header's size is a claim; what comes out is what counts.
    while block := reader.read(BLOCK):
        size += len(block)
        if size > room:
            raise ApiError(402, "the application is larger than the platform allows")
        writer.write(block)
    return size


def add_resources(store: Store, resources: list[dict[str, Any]], target: Path, room: int) -> None:
    """Copy what the client left out, as the pool has it, to where the client wants it.

    Raises:
        ApiError: 401 for a file the pool does not have, 402 for a bad name or too much.
    """
    for resource in resources:
        name, digest = resource.get("fn"), resource.get("sha1")
        path = target / safe_name(name if isinstance(name, str) else "")
        if not store.has_resource(digest, resource.get("size")):
            raise ApiError(401, name)
        source = store.resource(str(digest))
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with source.open("rb") as reader, path.open("wb") as writer:
                room -= _bounded_copy(reader, writer, room)
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise ApiError(402, "a name is used for a file and for a folder") from error
        except FileNotFoundError as error:
            raise ApiError(401, name) from error
        # The pool keeps no modes; a script that cannot be run would be worse than a text that can.
        path.chmod(0o755)


def pool_files(store: Store, folder: Path) -> None:
    """Add every file below a folder to the pool."""
    for path, _name in _files(folder, top_dotfiles=True):
        store.add_resource(path, sha1_of(path))


def pack(folder: Path, archive: Path) -> str:
    """Write the package: sorted names, one date, so that equal content gives an equal file; gives its SHA-1.

    Top-level dotfiles are left out, nested ones kept (section 1.9).
    """
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as zipped:
        for path, name in _files(folder, top_dotfiles=False, folders=True):
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
    archive: Path | None,
    resources: list[dict[str, Any]],
    work: Path,
    *,
    limits: PackageLimits,
    keep: Callable[[Path, str], None],
) -> str:
    """Turn an upload into a package; gives its SHA-1.

    Args:
        store: the share.
        archive: the uploaded zip; None when the client had nothing to send.
        resources: `[{"size", "sha1", "fn"}]`, what the pool has.
        work: an empty folder of this upload.
        limits: how much is accepted.
        keep: called with the finished zip and its digest; it decides where the file goes.

    Raises:
        ApiError: 401, 402.
    """
    used = unpack(archive, work, limits) if archive is not None else 0
    pool_files(store, work)
    add_resources(store, resources, work, limits.size - used)
    with store.incoming() as scratch:
        digest = pack(work, scratch)
        keep(scratch, digest)
    return digest


def _files(folder: Path, *, top_dotfiles: bool, folders: bool = False) -> Iterator[tuple[Path, str]]:
    for root, names, files in os.walk(folder):
        names.sort()
        top = Path(root) == folder
        if top and not top_dotfiles:
            names[:] = [n for n in names if not n.startswith(".")]
            files = [f for f in files if not f.startswith(".")]  # noqa: PLW2901 - os.walk's own way to prune
        if folders and not top:
            yield Path(root), str(Path(root).relative_to(folder))
        for name in sorted(files):
            path = Path(root) / name
            yield path, str(path.relative_to(folder))
