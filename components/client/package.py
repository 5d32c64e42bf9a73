"""The pushed part of a folder: files, links, empty folders, ignore rules, and a zip that depends on the content alone."""

from __future__ import annotations

import hashlib
import os
import stat
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from pathspec import GitIgnoreSpec

from components.client.errors import PackageError
from components.client.text import decode

# The first that is there counts. The others are those of clients of 2011 to 2015.
IGNORE_FILES = (".ingotignore", ".cfignore", ".vcapignore", ".vmcignore")
# Version control's, this client's own, and what no other machine can use. A line `!name` in an ignore file takes one of these back.
ALWAYS_IGNORED = (
    *(".git", ".hg/", ".svn/", ".bzr/", ".DS_Store", "/.ingot/", *(f"/{name}" for name in IGNORE_FILES)),
    *("__pycache__/", "*.pyc", ".venv/", ".mypy_cache/", ".pytest_cache/", ".ruff_cache/"),
    *("*~", "\\#*#", "*.swp"),
)
EMPTY = ".__empty__"
# Below this size, asking for known files costs more than sending them all (protocol 1.9).
ASK_FROM_BYTES = 64 * 1024
# Bytes, as the platform's file systems have it.
_LONGEST_NAME = 255
_NOT_UTF8 = "has a name that is not UTF-8"
_EPOCH = (1980, 1, 1, 0, 0, 0)


class Kind(StrEnum):
    """The kinds of entries."""

    FILE = "file"
    LINK = "link"
    FOLDER = "folder"


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing to push: its path relative to the folder (with `/`), its real path, size, mode and digest.

    Only files have a digest. `target` is a link's; of folders only the empty ones are entries.
    """

    name: str
    path: Path
    size: int
    executable: bool
    sha1: str = ""
    kind: Kind = Kind.FILE
    target: str = ""

    def fingerprint(self) -> dict[str, object]:
        """Return the file in the format of `/resources`."""
        return {"size": self.size, "sha1": self.sha1, "fn": self.name}


@dataclass(frozen=True, slots=True)
class Rules:
    """The ignore rules of a folder.

    Attributes:
        lines: patterns in gitignore's syntax; the last that fits counts.
        source: the ignore file's name; empty where there is none.
    """

    lines: tuple[str, ...] = ALWAYS_IGNORED
    source: str = ""
    _spec: GitIgnoreSpec = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_spec", GitIgnoreSpec.from_lines(self.lines))

    def reason(self, name: str) -> str:
        """Return why a name is ignored (a folder's ends with `/`); empty where it is not."""
        verdict = self._spec.check_file(name)
        if not verdict.include or verdict.index is None:
            return ""
        pattern = self.lines[verdict.index]
        if verdict.index < len(ALWAYS_IGNORED):
            return f"{pattern} is never pushed"
        return f"{pattern} in {self.source}"


@dataclass(slots=True)
class Survey:
    """The content of a folder: entries to push by name, and names with the reason why they stay behind or stop the push."""

    entries: list[Entry] = field(default_factory=list)
    ignored: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


def ignore_rules(folder: Path) -> Rules:
    """Read the folder's ignore file (gitignore's syntax) on top of the patterns that are always ignored.

    Raises:
        PackageError: it cannot be read, or a pattern makes no sense.
    """
    for name in IGNORE_FILES:
        path = folder / name
        if not path.is_file():
            continue
        try:
            lines = decode(path.read_bytes()).splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise PackageError(f"{path} cannot be read: {error}", "save it as UTF-8") from error
        try:
            return Rules((*ALWAYS_IGNORED, *lines), name)
        except ValueError as error:
            raise PackageError(f"{path}: an ignore pattern is not valid: {error}") from error
    return Rules()


def collect(folder: Path, rules: Rules) -> list[Entry]:
    """List what is to be pushed, by name; see `survey`.

    Raises:
        PackageError: something cannot be pushed.
    """
    found = survey(folder, rules)
    for name, reason in found.refused.items():
        more = len(found.refused) - 1
        raise PackageError(
            f"{name} {reason}" + (f" (and {more} more: `ingot push --dry-run` lists all)" if more else ""),
            "correct it, or name it in .ingotignore",
        )
    return found.entries


def survey(folder: Path, rules: Rules) -> Survey:
    """Look at every file, link and folder below a folder, without following links."""
    found = Survey()
    pending = [("", folder)]
    while pending:
        prefix, here = pending.pop()
        try:
            listed = sorted(os.scandir(here), key=lambda entry: entry.name)
        except OSError as error:
            found.refused[prefix or str(folder)] = f"cannot be read: {error.strerror}"
            continue
        kept = False
        for item in listed:
            name = f"{prefix}{item.name}"
            is_folder = item.is_dir(follow_symlinks=False)
            shown = f"{name}/" if is_folder else name
            reason = rules.reason(shown)
            if not reason and item.is_symlink() and _leads_to_folder(Path(item.path)):
                # A pattern of folders means a link to one, too.
                reason = rules.reason(f"{name}/")
            if not reason and is_folder and _is_python_environment(Path(item.path)):
                reason = "a Python environment belongs to the machine that made it"
            if reason:
                found.ignored[_printable(shown)] = reason
                continue
            if is_folder and _printable(name) != name:
                found.refused[_printable(shown)] = _NOT_UTF8
                continue
            kept = True
            if is_folder:
                pending.append((shown, Path(item.path)))
            else:
                _take(found, name, Path(item.path), folder)
        if not kept and prefix:
            found.entries.append(Entry(prefix.removesuffix("/"), here, 0, executable=False, kind=Kind.FOLDER))
    found.entries.sort(key=lambda entry: entry.name)
    return found


def files_of(entries: Iterable[Entry]) -> list[Entry]:
    """Return the entries that are files."""
    return [entry for entry in entries if entry.kind is Kind.FILE]


def without_links(entries: Iterable[Entry]) -> list[Entry]:
    """Return the entries with copies of files in the place of links to them, for platforms that take no links.

    Raises:
        PackageError: a link leads to a folder, or nowhere.
    """
    result = []
    for entry in entries:
        if entry.kind is not Kind.LINK:
            result.append(entry)
            continue
        if not entry.path.is_file():
            where = "to a folder" if entry.path.is_dir() else "that leads nowhere"
            raise PackageError(
                f"{entry.name} is a link {where}, which this platform does not take",
                "replace it with a copy, or name it in .ingotignore",
            )
        facts = entry.path.stat()
        result.append(Entry(entry.name, entry.path, facts.st_size, bool(facts.st_mode & stat.S_IXUSR)))
    return fingerprint(result)


def fingerprint(entries: Iterable[Entry]) -> list[Entry]:
    """Return the entries, files with their SHA-1 (the contract's digest: an address, not a guard).

    Raises:
        PackageError: a file cannot be read.
    """
    result = []
    for entry in entries:
        if entry.kind is not Kind.FILE:
            result.append(entry)
            continue
        digest = hashlib.sha1(usedforsecurity=False)
        size = 0
        for chunk in _content(entry):
            digest.update(chunk)
            size += len(chunk)
        result.append(Entry(entry.name, entry.path, size, entry.executable, digest.hexdigest()))
    return result


def worth_asking(entries: Iterable[Entry]) -> bool:
    """Return whether the controller should be asked for the files that it has."""
    return sum(entry.size for entry in entries) > ASK_FROM_BYTES


def split_known(
    entries: Sequence[Entry], known: Iterable[dict[str, object]]
) -> tuple[list[Entry], list[Entry]]:
    """Return the entries to send and the files that the controller has.

    An executable is always sent: the controller's pool keeps contents without modes.
    """
    names = {item.get("fn") for item in known}
    have = [e for e in entries if e.kind is Kind.FILE and not e.executable and e.name in names]
    kept = {entry.name for entry in have}
    return [entry for entry in entries if entry.name not in kept], have


def write_zip(entries: Sequence[Entry], target: Path) -> None:
    """Write a zip with these entries: same content, same bytes. An empty one gets the file `.__empty__`.

    Raises:
        PackageError: a file cannot be read.
    """
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.kind is Kind.FOLDER:
                archive.writestr(_item(f"{entry.name}/", stat.S_IFDIR | 0o755), b"")
            elif entry.kind is Kind.LINK:
                archive.writestr(_item(entry.name, stat.S_IFLNK | 0o777), entry.target.encode())
            else:
                item = _item(entry.name, stat.S_IFREG | (0o755 if entry.executable else 0o644))
                item.file_size = entry.size
                with archive.open(item, "w") as sink:
                    for chunk in _content(entry):
                        sink.write(chunk)
        if not entries:
            archive.writestr(_item(EMPTY, stat.S_IFREG | 0o644), b"")


def _item(name: str, mode: int) -> zipfile.ZipInfo:
    item = zipfile.ZipInfo(name, _EPOCH)
    item.compress_type = zipfile.ZIP_STORED if stat.S_ISDIR(mode) else zipfile.ZIP_DEFLATED
    item.create_system = 3
    item.external_attr = mode << 16
    return item


def _content(entry: Entry) -> Iterator[bytes]:
    try:
        with entry.path.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                yield chunk
    except OSError as error:
        raise PackageError(f"{entry.path} cannot be read: {error.strerror}") from error


def _printable(name: str) -> str:
    """Return a name with marks in the place of bytes that are not UTF-8."""
    return name.encode(errors="replace").decode()


def _leads_to_folder(link: Path) -> bool:
    try:
        return link.is_dir()
    except OSError:
        return False


def _is_python_environment(folder: Path) -> bool:
    try:
        return (folder / "pyvenv.cfg").exists()
    except OSError:
        # A folder that cannot be read is refused where it is listed.
        return False


def _take(found: Survey, name: str, path: Path, folder: Path) -> None:
    """Add a file or a link to a survey."""
    try:
        name.encode()
        facts = path.lstat()
        if stat.S_ISLNK(facts.st_mode):
            target, problem = _link(path, folder)
            target.encode()
            if problem:
                found.refused[name] = problem
            else:
                found.entries.append(Entry(name, path, 0, executable=False, kind=Kind.LINK, target=target))
        elif stat.S_ISREG(facts.st_mode):
            found.entries.append(Entry(name, path, facts.st_size, bool(facts.st_mode & stat.S_IXUSR)))
        else:
            found.ignored[name] = "it is a socket, a pipe or a device"
    except UnicodeEncodeError:
        found.refused[_printable(name)] = _NOT_UTF8
    except OSError as error:
        found.refused[name] = f"cannot be read: {error.strerror}"


def _link(path: Path, folder: Path) -> tuple[str, str]:
    """Return a link's target as it is pushed, and why it cannot be pushed; empty where it can.

    An absolute path into the folder becomes a relative one: the folder lies elsewhere on the platform.
    """
    target = path.readlink()
    if any(len(os.fsencode(part)) > _LONGEST_NAME for part in target.parts):
        return str(target), "is a link to a name that is too long"
    try:
        landing = path.resolve()
    except (OSError, RuntimeError):
        return str(target), "is a link that leads to itself"
    if not landing.is_relative_to(folder.resolve()):
        return str(target), f"is a link out of the folder ({landing})"
    if target.is_absolute():
        target = Path(os.path.relpath(landing, path.parent.resolve()))
    beside = Path(os.path.normpath(path.parent.relative_to(folder) / target))
    if beside.parts[:1] == ("..",):
        return str(target), f"is a link by way of a place outside of the folder ({target})"
    return target.as_posix(), ""
