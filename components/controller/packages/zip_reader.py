"""The inspection of untrusted zips before any byte is unpacked (protocol 1.9).

Names may point anywhere, sizes may be false, entries may be links, may overlap, or may occur twice. The names are taken
from the archive's directory, and the entries' own headers must agree with it.
"""

from __future__ import annotations

import re
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from urllib.parse import unquote

from components.controller.errors import ApiError, Code
from components.controller.storage.store import BLOCK

_DEEPEST = 100
_LONGEST_PATH = 1024
_LONGEST_NAME = 255
_END, _END64, _LOCATOR64, _ENTRY, _LOCAL = (
    b"PK\x05\x06",
    b"PK\x06\x06",
    b"PK\x06\x07",
    b"PK\x01\x02",
    b"PK\x03\x04",
)
_LONGEST_COMMENT = 0xFFFF
_UTF8, _FOREIGN_FLAGS = 0x800, 0x1 | 0x20 | 0x40 | 0x2000
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# Attributes of DOS and Windows: volume label, device, reparse point (a link).
_DOS_SPECIAL = 0x08 | 0x40 | 0x400
_UNIX_EXTRA, _NAME_EXTRA = 0x000D, 0x7075
_DRIVE = re.compile(r"[A-Za-z]:")


@dataclass(frozen=True, slots=True)
class Entry:
    """One accepted member: its target path, and the place of its bytes in the archive."""

    path: PurePosixPath
    folder: bool
    link: bool
    executable: bool
    start: int
    packed: int
    size: int
    crc: int
    deflated: bool


def refused(reason: str) -> ApiError:
    """Return the error for a refused upload."""
    return ApiError(Code.RESOURCES_PACKAGING_FAILED, reason)


def safe_name(name: str, *, as_is: bool = False) -> PurePosixPath:
    """Return the checked path of a file inside an application.

    Args:
        name: relative, with `/`.
        as_is: whether every name is taken that a file system takes. The names of older clients come from other systems too, so
            what only looks like a path is refused there: backslashes, drives, escapes of `..`.

    Raises:
        ApiError: RESOURCES_PACKAGING_FAILED when it is absolute, leaves the folder, or is no valid name.
    """
    shown = repr(name[:200])
    if not name or name.startswith("/") or (not as_is and ("\\" in name or _DRIVE.match(name))):
        raise refused(f"{shown} is not a relative path")
    wrong = ("Cs",) if as_is else ("Cc", "Cs")
    if "\0" in name or any(unicodedata.category(c) in wrong for c in name):
        raise refused(f"{shown} has a character in its path that no name has")
    path = PurePosixPath(name)
    bent = name if as_is else unicodedata.normalize("NFKC", unquote(name)).replace("\\", "/")
    if not path.parts or ".." in path.parts or bent.startswith("/") or ".." in bent.split("/"):
        raise refused(f"{shown} leaves the application's folder")
    if len(name.encode()) > _LONGEST_PATH or len(path.parts) > _DEEPEST:
        raise refused(f"{shown} is too long or too deep a path")
    if any(len(part.encode()) > _LONGEST_NAME for part in path.parts):
        raise refused(f"{shown} has too long a name in its path")
    return path


class Names:
    """The names of an application so far; none may occur twice.

    Args:
        most: the number of permitted names, including folders that are only parts of a path.
        as_is: whether spellings are names of their own that some file systems treat as equal, as the platform's do not.
    """

    def __init__(self, most: int, *, as_is: bool = False) -> None:
        self._most = most
        self._as_is = as_is
        self._seen: dict[str, tuple[str, bool]] = {}

    def add(self, path: PurePosixPath, *, folder: bool = False) -> None:
        """Add a name and its parents.

        Raises:
            ApiError: RESOURCES_PACKAGING_FAILED for a repeated name, for a file in the place of a folder, or for too many names.
        """
        actual = str(path)
        # Upper and lower case are different names on the machines, and real packages depend on it.
        key = actual if self._as_is else unicodedata.normalize("NFKC", actual)
        known = self._seen.get(key)
        if known is not None:
            if known[0] != actual:
                raise refused(f"{known[0]!r} and {actual!r} differ only in how they are spelt")
            if known[1] != folder:
                raise refused(f"{actual!r} is used for a file and for a folder")
            if not folder:
                raise refused(f"{actual!r} is there twice")
            return
        if len(self._seen) >= self._most:
            raise refused(f"more than {self._most} files and folders")
        if path.parent.parts:
            self.add(path.parent, folder=True)
        self._seen[key] = (actual, folder)


def inspect(
    archive: Path, names: Names, *, most_files: int, most_bytes: int, as_is: bool = False
) -> list[Entry]:
    """Check a zip; return its entries. Nothing is written.

    Args:
        archive: the zip.
        names: takes the entries' names.
        most_files: entries of the zip.
        most_bytes: of their contents together; how much they are compressed does not count.
        as_is: whether links and every name are taken that a file system takes.

    Raises:
        ApiError: RESOURCES_PACKAGING_FAILED with the reason.
    """
    try:
        with archive.open("rb") as file:
            end = _count(file, most_files)
            with zipfile.ZipFile(file) as zipped:
                found = zipped.infolist()
            if min((info.header_offset for info in found), default=end):
                raise refused("there is something in front of the archive")
            entries = [_entry(file, info, as_is=as_is) for info in found]
    except (
        zipfile.BadZipFile,
        NotImplementedError,
        ValueError,
        OverflowError,
        LookupError,
        struct.error,
        OSError,
    ) as error:
        raise refused(f"the archive cannot be read ({error})") from error
    _check_places(entries, end)
    if sum(entry.size for entry in entries) > most_bytes:
        raise refused(f"the application is larger than the platform allows, which is {most_bytes >> 20} MB")
    kept = [entry for entry in entries if entry.path.parts or not entry.folder]
    for entry in kept:
        names.add(entry.path, folder=entry.folder)
    return kept


def extract(file: BinaryIO, entry: Entry, writer: BinaryIO) -> None:
    """Write an entry's content, exactly as its header declares it.

    Raises:
        ApiError: RESOURCES_PACKAGING_FAILED when the content differs.
    """
    file.seek(entry.start)
    written, crc = 0, 0
    try:
        for out in _content(file, entry):
            written, crc = written + len(out), zlib.crc32(out, crc)
            if written > entry.size:
                break
            writer.write(out)
    except zlib.error as error:
        raise refused(f"{str(entry.path)!r} is damaged") from error
    if written != entry.size:
        raise refused(f"{str(entry.path)!r} is not of the size it says")
    if crc != entry.crc:
        raise refused(f"{str(entry.path)!r} is damaged: its checksum differs")


def _content(file: BinaryIO, entry: Entry) -> Iterator[bytes]:
    """Yield an entry's content in pieces of at most a block, however much it was compressed."""
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS) if entry.deflated else None
    left = entry.packed
    while left > 0:
        block = file.read(min(BLOCK, left))
        if not block:
            raise refused(f"{str(entry.path)!r} is cut off")
        left -= len(block)
        if unpacker is None:
            yield block
            continue
        more = True
        while more:
            out = unpacker.decompress(block, BLOCK)
            block = unpacker.unconsumed_tail
            # A full piece may have a rest that needs no further input.
            more = bool(block) or len(out) == BLOCK
            yield out
        if unpacker.unused_data:
            raise refused(f"{str(entry.path)!r} is not of the size it says")
    if unpacker is not None and not unpacker.eof:
        raise refused(f"{str(entry.path)!r} is not of the size it says")


def _count(file: BinaryIO, most: int) -> int:
    """Count the directory's entries without storing them, so that only archives within the limit take memory; return its start."""
    end, length, begin, count = _closing(file)
    at_entry = end - length
    if at_entry < 0 or length > most * _LONGEST_PATH:
        raise refused("the archive's directory is larger than the archive can be")
    if begin != at_entry:
        raise refused("the archive's directory is not where it says")
    file.seek(begin)
    seen = 0
    while at_entry < end:
        seen += 1
        if seen > most:
            raise refused(f"more than {most} files")
        head = file.read(46)
        if len(head) < 46 or head[:4] != _ENTRY:
            raise refused("the archive's directory is damaged")
        at_entry += 46 + sum(struct.unpack("<HHH", head[28:34]))
        file.seek(at_entry)
    # Old archivers write the number modulo 65536.
    if at_entry != end or (seen - count) % 0x10000:
        raise refused("the archive has more or fewer entries than it says")
    return begin


def _closing(file: BinaryIO) -> tuple[int, int, int, int]:
    """Return an archive's end record: its directory's end, length and start, and the number of entries."""
    size = file.seek(0, 2)
    file.seek(max(0, size - _LONGEST_COMMENT - 22))
    tail = file.read()
    at = tail.rfind(_END)
    if at < 0 or len(tail) - at < 22:
        raise refused("the archive has no end: it is no zip, or was cut off")
    disk, begins_on, here, count, length, begin, comment = struct.unpack("<HHHHIIH", tail[at + 4 : at + 22])
    if at + 22 + comment != len(tail):
        raise refused("there is something behind the end of the archive")
    if disk or begins_on or here != count:
        raise refused("the archive is a part of one")
    end = size - len(tail) + at
    if tail[max(0, at - 20) : at][:4] != _LOCATOR64 or end < 76:
        return end, length, begin, count
    file.seek(end - 76)
    record = file.read(56)
    if record[:4] != _END64:
        raise refused("the archive's second end is not where it says")
    count, length, begin = struct.unpack("<QQQ", record[32:56])
    return end - 76, length, begin, count


def _entry(file: BinaryIO, info: zipfile.ZipInfo, *, as_is: bool) -> Entry:
    name = info.orig_filename
    _check_kind(info, as_is=as_is)
    folder = name.endswith("/")
    # Some archivers write an entry for the folder itself.
    path = PurePosixPath() if name in ("./", ".") and folder else safe_name(name, as_is=as_is)
    mode = info.external_attr >> 16
    link = stat.S_ISLNK(mode)
    if link and info.file_size > _LONGEST_PATH:
        raise refused(f"{name!r} is a link to too long a path")
    if stat.S_ISDIR(mode) != folder and stat.S_IFMT(mode):
        raise refused(f"{name!r} is a folder by its name and a file by its mode, or the reverse")
    if folder and (info.file_size or info.compress_size > 2):
        raise refused(f"{name!r} is a folder and has content")
    if info.compress_type == zipfile.ZIP_STORED and info.file_size != info.compress_size:
        raise refused(f"{name!r} is not of the size it says")
    file.seek(info.header_offset)
    head = file.read(30)
    if len(head) < 30 or head[:4] != _LOCAL:
        raise refused(f"{name!r} is not where the archive's directory says")
    flags, method = struct.unpack("<HH", head[6:10])
    named, more = struct.unpack("<HH", head[26:30])
    if file.read(named).decode("utf-8" if flags & _UTF8 else "cp437") != name or method != info.compress_type:
        raise refused(f"{name!r} is something else in the archive's directory")
    return Entry(
        path=path,
        folder=folder,
        link=link,
        executable=bool(mode & 0o111),
        start=info.header_offset + 30 + named + more,
        packed=info.compress_size,
        size=info.file_size,
        crc=info.CRC,
        deflated=info.compress_type == zipfile.ZIP_DEFLATED,
    )


def _check_kind(info: zipfile.ZipInfo, *, as_is: bool) -> None:
    name, mode = info.orig_filename, info.external_attr >> 16
    kinds = (0, stat.S_IFREG, stat.S_IFDIR, *((stat.S_IFLNK,) if as_is else ()))
    if stat.S_IFMT(mode) not in kinds or (info.external_attr & 0xFFFF) & _DOS_SPECIAL:
        raise refused(f"{name!r} is a link or a device; only files and folders are taken")
    if info.flag_bits & _FOREIGN_FLAGS:
        raise refused(f"{name!r} is encrypted or a patch")
    if info.compress_type not in _METHODS:
        raise refused(f"{name!r} is compressed in a way that is not known here; use deflate")
    for kind, content in _extras(info.extra):
        if kind == _UNIX_EXTRA and len(content) > 12:
            raise refused(f"{name!r} is a link; only files and folders are taken")
        if kind == _NAME_EXTRA:
            other = content[5:].decode()
            if other not in ("./", "."):
                safe_name(other)


def _extras(extra: bytes) -> list[tuple[int, bytes]]:
    found = []
    while len(extra) >= 4:
        kind, length = struct.unpack("<HH", extra[:4])
        if length > len(extra) - 4:
            raise refused("the archive's directory is damaged")
        found.append((kind, extra[4 : 4 + length]))
        extra = extra[4 + length :]
    return found


def _check_places(entries: list[Entry], end: int) -> None:
    """Refuse entries that share their bytes, by which a small archive can hold a large content."""
    last = 0
    for entry in sorted(entries, key=lambda e: e.start):
        if entry.start - last < 30 or entry.start + entry.packed > end:
            raise refused("entries of the archive overlap")
        last = entry.start + entry.packed
