"""The pushed part of a folder: files, ignore rules, fingerprints, and a zip that depends on the content alone."""

from __future__ import annotations

import hashlib
import os
import stat
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pathspec import GitIgnoreSpec

from components.client.errors import PackageError

# The first that is there counts; clients of 2012 read the last.
IGNORE_FILES = (".ingotignore", ".vcapignore", ".vmcignore")
# Files that are never meant to be pushed. A line `!name` in an ignore file takes one of these back.
ALWAYS_IGNORED = (
    *(".git/", ".hg/", ".svn/", ".bzr/", ".DS_Store", *(f"/{name}" for name in IGNORE_FILES)),
    *("__pycache__/", "*.pyc", ".venv/", ".mypy_cache/", ".pytest_cache/", ".ruff_cache/"),
    *("*~", "\\#*#", "*.swp"),
)
EMPTY = ".__empty__"
# Below this size, asking for known files costs more than sending them all (protocol 1.9).
ASK_FROM_BYTES = 64 * 1024
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Entry:
    """One file: its path relative to the folder (with `/`), its real path, size, mode and digest."""

    name: str
    path: Path
    size: int
    executable: bool
    sha1: str = ""

    def fingerprint(self) -> dict[str, object]:
        """Return the file in the format of `/resources`."""
        return {"size": self.size, "sha1": self.sha1, "fn": self.name}


def ignore_rules(folder: Path) -> GitIgnoreSpec:
    """Read the folder's ignore file (gitignore's syntax) on top of the patterns that are always ignored.

    Raises:
        PackageError: it cannot be read, or a pattern makes no sense.
    """
    lines = list(ALWAYS_IGNORED)
    for name in IGNORE_FILES:
        path = folder / name
        if path.is_file():
            try:
                lines += path.read_text(encoding="utf-8").splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise PackageError(f"{path} cannot be read: {error}") from error
            break
    try:
        return GitIgnoreSpec.from_lines(lines)
    except ValueError as error:
        raise PackageError(f"{folder}: an ignore pattern is not valid: {error}") from error


def collect(folder: Path, rules: GitIgnoreSpec) -> list[Entry]:
    """List the files to push, by name.

    Links are followed where they stay inside the folder; sockets, pipes and devices are left out.

    Raises:
        PackageError: a link leads out of the folder or nowhere, or something cannot be read.
    """
    root = folder.resolve()
    found: list[Entry] = []
    for where, folders, files in os.walk(folder, onerror=_refuse):
        here = Path(where)
        prefix = here.relative_to(folder).as_posix()
        prefix = "" if prefix == "." else f"{prefix}/"
        linked = [name for name in folders if (here / name).is_symlink()]
        folders[:] = sorted(
            name
            for name in folders
            if name not in linked
            and not rules.match_file(f"{prefix}{name}/")
            # A Python environment belongs to this machine and is of no use on another.
            and not (here / name / "pyvenv.cfg").exists()
        )
        for name in [*files, *linked]:
            relative, path = f"{prefix}{name}", here / name
            if rules.match_file(relative) or (name in linked and rules.match_file(f"{relative}/")):
                continue
            if path.is_symlink():
                _check_link(path, relative, root)
            found += _entry(relative, path)
    return sorted(found, key=lambda entry: entry.name)


def fingerprint(entries: Iterable[Entry]) -> list[Entry]:
    """Return the entries with their SHA-1 (the contract's digest: an address, not a guard).

    Raises:
        PackageError: a file cannot be read.
    """
    result = []
    for entry in entries:
        digest = hashlib.sha1(usedforsecurity=False)
        size = 0
        try:
            with entry.path.open("rb") as stream:
                while chunk := stream.read(1 << 20):
                    digest.update(chunk)
                    size += len(chunk)
        except OSError as error:
            raise PackageError(f"{entry.path} cannot be read: {error.strerror}") from error
        result.append(Entry(entry.name, entry.path, size, entry.executable, digest.hexdigest()))
    return result


def worth_asking(entries: Iterable[Entry]) -> bool:
    """Return whether the controller should be asked for the files that it has."""
    return sum(entry.size for entry in entries) > ASK_FROM_BYTES


def split_known(
    entries: Sequence[Entry], known: Iterable[dict[str, object]]
) -> tuple[list[Entry], list[Entry]]:
    """Return the entries to send and those that the controller has.

    An executable is always sent: the controller's pool keeps contents without modes.
    """
    names = {item.get("fn") for item in known}
    send = [entry for entry in entries if entry.executable or entry.name not in names]
    have = [entry for entry in entries if not entry.executable and entry.name in names]
    return send, have


def write_zip(entries: Sequence[Entry], target: Path) -> None:
    """Write a zip with these files: same files, same bytes. An empty one gets the file `.__empty__`.

    Raises:
        PackageError: a file cannot be read.
    """
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for entry in sorted(entries, key=lambda entry: entry.name):
            item = _item(entry.name, 0o755 if entry.executable else 0o644)
            item.file_size = entry.size
            try:
                with entry.path.open("rb") as source, archive.open(item, "w") as sink:
                    while chunk := source.read(1 << 20):
                        sink.write(chunk)
            except OSError as error:
                raise PackageError(f"{entry.path} cannot be read: {error.strerror}") from error
        if not entries:
            archive.writestr(_item(EMPTY, 0o644), b"")


def _item(name: str, mode: int) -> zipfile.ZipInfo:
    item = zipfile.ZipInfo(name, _EPOCH)
    item.compress_type = zipfile.ZIP_DEFLATED
    item.create_system = 3
    item.external_attr = (stat.S_IFREG | mode) << 16
    return item


def _entry(relative: str, path: Path) -> list[Entry]:
    facts = path.stat()
    if not stat.S_ISREG(facts.st_mode):
        return []
    return [Entry(relative, path, facts.st_size, bool(facts.st_mode & stat.S_IXUSR))]


def _check_link(path: Path, relative: str, root: Path) -> None:
    try:
        target = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise PackageError(
            f"{relative} is a link that leads nowhere", "remove it, or name it in .ingotignore"
        ) from error
    if not target.is_relative_to(root):
        raise PackageError(
            f"{relative} is a link out of the folder ({target})", "copy the file, or name it in .ingotignore"
        )
    if target.is_dir():
        raise PackageError(
            f"{relative} is a link to a folder", "copy the folder, or name the link in .ingotignore"
        )


def _refuse(error: OSError) -> None:
    raise PackageError(f"{error.filename} cannot be read: {error.strerror}") from error
