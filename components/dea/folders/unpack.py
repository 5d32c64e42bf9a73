"""The unpacking of an untrusted droplet: nothing is written outside its folder, whatever the archive contains."""

from __future__ import annotations

import os
import shutil
import tarfile
import zlib
from pathlib import Path, PurePosixPath

from components.dea.errors import DropletError
from components.dea.folders.tar_headers import Archive

_MB = 1024 * 1024
_MOST_ENTRIES = 200_000
# Folders on the way to all entries together, at twenty for each.
_MOST_STEPS = 20 * _MOST_ENTRIES
# Interpreters of the machine, for virtual environments: nothing below it is secret or can be written to.
_SYSTEM = PurePosixPath("/usr")


def unpack(archive: Path, target: Path, limit_mb: int, owner: int | None = None) -> None:
    """Unpack a gzipped tar.

    Args:
        archive: the droplet.
        target: an empty folder that only root and the owner may enter.
        limit_mb: largest size; a larger droplet is refused.
        owner: uid and gid of everything in it; None keeps one's own.

    Raises:
        DropletError: it is damaged, too large, or holds a path or a link that leaves the folder, or a device.
    """
    try:
        with Archive.open(archive, "r:gz") as tar:
            _extract(tar, target, limit_mb * _MB, owner)
    except (tarfile.TarError, zlib.error, EOFError, ValueError, OverflowError, RecursionError) as error:
        raise DropletError(f"the droplet is damaged: {error}") from error
    except OSError as error:
        raise DropletError(f"the droplet cannot be unpacked: {error.strerror or error}") from error


def _extract(tar: Archive, target: Path, room: int, owner: int | None) -> None:
    root = Path(os.path.realpath(target))
    links = []
    folders = _Folders(root, owner)
    count = 0
    while (member := tar.following()) is not None:
        count += 1
        if count + folders.made > _MOST_ENTRIES:
            raise DropletError(f"the droplet holds more than {_MOST_ENTRIES} files and folders")
        room = _room_after(member, room)
        name = _inside(member.name)
        if name is None:
            continue
        path = root / name
        folders.make(name.parent)
        # A link unpacked earlier may stand in the way; no write goes through one that leads out.
        if not _below(path.parent, root):
            raise DropletError(f"the droplet writes through a link: {member.name}")
        _place(tar, member, path, root)
        if member.issym():
            links.append(path)
        if owner is not None:
            os.chown(path, owner, owner, follow_symlinks=False)
    for link in links:
        if not _below(link, root) and not PurePosixPath(os.path.realpath(link)).is_relative_to(_SYSTEM):
            raise DropletError(f"a link of the droplet leads out of it: {link.relative_to(root)}")


def _place(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path, root: Path) -> None:
    if member.isdir():
        if path.is_symlink() or not path.is_dir():
            path.unlink(missing_ok=True)
            path.mkdir(mode=0o755)
        return
    if path.is_symlink() or path.exists():
        if path.is_dir() and not path.is_symlink():
            raise DropletError(f"a folder of the droplet is also a file: {member.name}")
        path.unlink()
    if member.issym():
        path.symlink_to(member.linkname)
    elif member.islnk():
        source = root / (_inside(member.linkname) or "")
        if source.is_symlink() or not source.is_file() or not _below(source, root):
            raise DropletError(f"a hard link of the droplet leads nowhere: {member.name}")
        os.link(source, path, follow_symlinks=False)
    elif member.isreg():
        content = tar.extractfile(member)
        assert content is not None
        with content, path.open("xb") as file:
            shutil.copyfileobj(content, file, _MB)
        path.chmod(0o755 if member.mode & 0o111 else 0o644)
    else:
        raise DropletError(f"the droplet holds a device or a pipe: {member.name}")


def _room_after(member: tarfile.TarInfo, room: int) -> int:
    # A pax header may set this where the member's own did not.
    if member.size < 0:
        raise DropletError("the droplet is damaged: a file has less than no bytes")
    if member.size > room:
        raise DropletError("the droplet takes more disk than the application may use")
    return room - member.size


class _Folders:
    """The folders that an archive does not name itself.

    Args:
        root: of the droplet.
        owner: of the folders.
    """

    def __init__(self, root: Path, owner: int | None) -> None:
        self._root, self._owner = root, owner
        self._steps = 0
        self.made = 0

    def make(self, below: PurePosixPath) -> None:
        """Make a folder with all folders above it."""
        self._steps += len(below.parts)
        if self._steps > _MOST_STEPS:
            raise DropletError("the folders of the droplet lie too deep")
        folder = self._root
        for part in below.parts:
            folder /= part
            try:
                folder.mkdir(mode=0o755)
            except FileExistsError:
                continue
            self.made += 1
            if self._owner is not None:
                os.chown(folder, self._owner, self._owner, follow_symlinks=False)


def _inside(name: str) -> PurePosixPath | None:
    """Return a member's path; None for the folder itself."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise DropletError(f"the droplet holds a path that leads out of it: {name}")
    return path if path.parts else None


def _below(path: Path, root: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(root)
