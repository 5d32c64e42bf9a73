"""Headers of a droplet's archive, bounded before they are read: tarfile reads as much into memory as a header claims."""

from __future__ import annotations

import tarfile
from typing import Any

from components.dea.errors import DropletError

# Two paths of the greatest possible length, with the parts around them.
_LONGEST = 16 * 1024
# For all pax headers together: the stager writes none, and some Pythons take long over hostile ones.
_MOST_PAX = 1024 * 1024
# Headers in front of one member; tarfile reads them by recursion.
_MOST_IN_A_ROW = 4
_PAX = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
_LONG = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)


class _Member(tarfile.TarInfo):
    """A member; the method that reads further headers is private in tarfile, and has had this name in every Python 3."""

    def _proc_member(self, archive: Archive) -> Any:
        if self.size < 0:
            raise DropletError("the droplet is damaged: a file has less than no bytes")
        archive.admit(self.type, self.size)
        return super()._proc_member(archive)  # type: ignore[misc]

    def _refuse(self, *_: object) -> Any:
        raise DropletError("the droplet holds a sparse file")

    _proc_sparse = _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _refuse


class Archive(tarfile.TarFile):
    """A droplet's archive, read member by member with `next`."""

    tarinfo = _Member
    members: list[tarfile.TarInfo]
    _pax = 0
    _in_a_row = 0

    def admit(self, kind: bytes, size: int) -> None:
        """Check a header before its content is read.

        Raises:
            DropletError: it is too long, or one too many.
        """
        if kind not in _PAX + _LONG:
            self._in_a_row = 0
            return
        self._in_a_row += 1
        self._pax += size if kind in _PAX else 0
        if size > _LONGEST or self._pax > _MOST_PAX or self._in_a_row > _MOST_IN_A_ROW:
            raise DropletError("the droplet has headers longer than any path")

    def following(self) -> tarfile.TarInfo | None:
        """Return the next member, and keep none of those before; None at the end."""
        member = self.next()
        self.members.clear()
        return member
