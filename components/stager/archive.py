"""The two archives: the application's zip, which is not trusted, and the droplet's tgz, which is reproducible."""

from __future__ import annotations

import gzip
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from components.common.filesystem.links import LinkError, check_links
from components.stager.errors import StagingError

_MB = 1024 * 1024
_CHUNK = 1024 * 1024
_LONGEST_NAME = 1024
# The longest name of a droplet's entry: with the DEA's folder before it, it still fits into the longest path.
_LONGEST_PATH = 3072
# 1980-01-01, the oldest date a zip can hold: every entry of every droplet has it.
MTIME = 315532800
_ENCRYPTED = 0x1
_PUSH_AGAIN = "Remove it from the application and push again."


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """The largest sizes of an application once unpacked, and of its droplet once packed."""

    files: int = 100_000
    unpacked_mb: int = 2048
    droplet_mb: int = 1024


def unpack(package: Path, target: Path, limits: ArchiveLimits) -> int:
    """Unpack an application.

    Args:
        package: the zip.
        target: an empty folder.
        limits: the largest sizes, counted in bytes that were really unpacked.

    Returns:
        The number of files.

    Raises:
        StagingError: it is no zip, is damaged or too large, or holds a path or a link that leaves the folder, a device or
            a name twice.
    """
    try:
        with zipfile.ZipFile(package) as archive:
            entries = archive.infolist()
            if len(entries) > limits.files:
                raise StagingError(
                    "unpack",
                    f"the application holds {len(entries)} files, more than {limits.files}",
                    "Leave generated folders (node_modules, .git, build) out of it.",
                )
            return _unpack_all(archive, entries, target, limits.unpacked_mb * _MB)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, UnicodeDecodeError) as error:
        raise StagingError(
            "unpack", f"the application is not a sound zip archive ({error})", "Push again."
        ) from error
    except OSError as error:
        raise StagingError(
            "unpack", f"cannot write {error.filename or 'a file'}: {error.strerror}"
        ) from error


def check_name(name: str) -> PurePosixPath:
    """Return an entry's path, or refuse one that could leave the folder.

    Raises:
        StagingError: absolute, with `..` or a NUL, or too long.
    """
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or not path.parts:
        raise StagingError("unpack", f"{name!r} leads out of the application's folder", _PUSH_AGAIN)
    if "\0" in name:
        raise StagingError("unpack", f"{name!r} is not a name a file can have here", _PUSH_AGAIN)
    if len(name.encode(errors="surrogatepass")) > _LONGEST_NAME:
        raise StagingError("unpack", f"the name {name[:60]!r}... is too long", _PUSH_AGAIN)
    return path


def _unpack_all(archive: zipfile.ZipFile, entries: list[zipfile.ZipInfo], target: Path, room: int) -> int:
    seen: set[PurePosixPath] = set()
    links: dict[PurePosixPath, str] = {}
    files = 0
    for entry in entries:
        path = check_name(entry.filename)
        mode = entry.external_attr >> 16
        kind = stat.S_IFMT(mode)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
            raise StagingError("unpack", f"{path} is a device, a pipe or a socket", _PUSH_AGAIN)
        if entry.flag_bits & _ENCRYPTED:
            raise StagingError("unpack", f"{path} is encrypted", "Pack it without a password.")
        if entry.is_dir():
            (target / path).mkdir(parents=True, exist_ok=True)
            continue
        if path in seen:
            raise StagingError("unpack", f"{path} is in the archive twice", _PUSH_AGAIN)
        seen.add(path)
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        files += 1
        if kind == stat.S_IFLNK:
            links[path] = _link_target(archive, entry)
            continue
        with archive.open(entry) as source:
            room -= _copy(source, target / path, room, path)  # type: ignore[arg-type]
        (target / path).chmod(0o755 if mode & 0o111 else 0o644)
    try:
        check_links(links)
    except LinkError as error:
        raise StagingError("unpack", str(error), _PUSH_AGAIN) from error
    # Last, so that no file is written through one.
    for link, to in links.items():
        (target / link).symlink_to(to)
    return files


def _link_target(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> str:
    with archive.open(entry) as content:
        target = os.fsdecode(content.read(_LONGEST_NAME + 1))
    if len(target) > _LONGEST_NAME:
        raise StagingError("unpack", f"{entry.filename} is a link to too long a path", _PUSH_AGAIN)
    return target


def _copy(source: BinaryIO, target: Path, room: int, name: PurePosixPath) -> int:
    written = 0
    with target.open("xb") as sink:
        while block := source.read(_CHUNK):
            written += len(block)
            # Counted as it is unpacked: the sizes that an archive declares cannot be trusted.
            if written > room:
                raise StagingError(
                    "unpack",
                    f"the application unpacks to more than is allowed (at {name})",
                    "Leave large files out of it, or ask the operator for a higher limit.",
                )
            sink.write(block)
    return written


def pack(tree: Path, droplet: Path, limits: ArchiveLimits) -> int:
    """Pack a tree as a droplet: same tree, same bytes.

    Names in order, one date, owner 0, modes reduced to 0755 and 0644 (`startup` and `stop` 0500), links
    kept where they stay inside.

    Returns:
        The droplet's size in bytes.

    Raises:
        StagingError: a link leaves the tree, something is neither file, folder nor link, or the droplet is too large.
    """
    most = limits.droplet_mb * _MB
    with droplet.open("wb") as raw:
        with (
            gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=raw, mtime=0) as packed,
            tarfile.open(mode="w", fileobj=packed, format=tarfile.GNU_FORMAT) as archive,
        ):
            for path in _walk(tree):
                if len(os.fsencode(path.relative_to(tree))) > _LONGEST_PATH:
                    raise StagingError(
                        "pack",
                        f"the folders of the application are nested too deep ({path.name})",
                        _PUSH_AGAIN,
                    )
                entry = _entry(tree, path)
                if entry.isreg():
                    with path.open("rb") as content:
                        archive.addfile(entry, content)
                else:
                    archive.addfile(entry)
                if raw.tell() > most:
                    raise StagingError(
                        "pack",
                        f"the droplet is larger than {limits.droplet_mb} MB",
                        "Depend on less, or ask the operator for a higher limit.",
                    )
        return raw.tell()


def _walk(folder: Path) -> Iterator[Path]:
    """Yield the entries of a folder in the order of names, folders before their entries; without recursion."""
    pending = [(folder, True)]
    while pending:
        path, is_folder = pending.pop()
        if path is not folder:
            yield path
        if is_folder:
            with os.scandir(path) as entries:
                listed = sorted(entries, key=lambda e: os.fsencode(e.name), reverse=True)
            pending += [(Path(e.path), e.is_dir(follow_symlinks=False)) for e in listed]


def _entry(tree: Path, path: Path) -> tarfile.TarInfo:
    name = path.relative_to(tree).as_posix()
    status = path.lstat()
    entry = tarfile.TarInfo(name)
    entry.mtime = MTIME
    entry.uid = entry.gid = 0
    if stat.S_ISLNK(status.st_mode):
        link = path.readlink()
        landing = Path(os.path.normpath(path.parent / link))
        if link.is_absolute() or not landing.is_relative_to(tree / "app"):
            raise StagingError(
                "pack", f"{name} is a link to {link}, outside the application", "Replace it with a copy."
            )
        entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, str(link), 0o777
    elif stat.S_ISDIR(status.st_mode):
        entry.type, entry.mode = tarfile.DIRTYPE, 0o755
    elif stat.S_ISREG(status.st_mode):
        entry.size = status.st_size
        entry.mode = 0o755 if status.st_mode & 0o100 else 0o644
        if name in ("startup", "stop"):
            entry.mode = 0o500
    else:
        raise StagingError("pack", f"{name} is a device, a pipe or a socket", "Have the build not make it.")
    return entry
