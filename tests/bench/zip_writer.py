"""A zip writer with free choice of every field of a member, so that each may be a lie."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Any

STORED, DEFLATED = 0, 8
_DATE = (0, 0x21)


@dataclass
class Member:
    """One entry; a field that is None gets the correct value, `local_*` is the value in its own header instead of the directory's."""

    name: str | bytes
    content: bytes = b"x"
    method: int = DEFLATED
    mode: int = 0o100644
    dos: int = 0
    system: int = 3
    flags: int = 0
    extra: bytes = b""
    raw: bytes | None = None
    size: int | None = None
    packed: int | None = None
    crc: int | None = None
    offset: int | None = None
    local_name: bytes | None = None
    local_method: int | None = None
    signature: bytes = b"PK\x03\x04"

    def encoded(self) -> bytes:
        return self.name if isinstance(self.name, bytes) else self.name.encode("utf-8", "surrogatepass")

    def body(self) -> bytes:
        if self.raw is not None:
            return self.raw
        return self.content if self.method != DEFLATED else deflate(self.content)

    def facts(self) -> tuple[int, int, int, int]:
        """Return flags, checksum, packed size, size."""
        plain = isinstance(self.name, bytes) or self.name.isascii()
        return (
            self.flags | (0 if plain else 0x800),
            zlib.crc32(self.content) if self.crc is None else self.crc,
            len(self.body()) if self.packed is None else self.packed,
            len(self.content) if self.size is None else self.size,
        )

    def local(self) -> bytes:
        """Return its header and its bytes."""
        flags, crc, packed, size = self.facts()
        name = self.encoded() if self.local_name is None else self.local_name
        method = self.method if self.local_method is None else self.local_method
        head = struct.pack(
            "<4sHHHHHIIIHH", self.signature, 20, flags, method, *_DATE, crc, packed & 0xFFFFFFFF,
            size & 0xFFFFFFFF, len(name), 0,
        )  # fmt: skip
        return head + name + self.body()

    def central(self, offset: int) -> bytes:
        """Return its line in the directory."""
        flags, crc, packed, size = self.facts()
        name, extra = self.encoded(), self.extra
        large = [v for v in (size, packed) if v > 0xFFFFFFFE]
        if large:
            extra = struct.pack(f"<HH{len(large)}Q", 1, 8 * len(large), *large) + extra
        head = struct.pack(
            "<4sBBHHHHHIIIHHHHHII", b"PK\x01\x02", 20, self.system, 20, flags, self.method, *_DATE, crc,
            min(packed, 0xFFFFFFFF), min(size, 0xFFFFFFFF), len(name), len(extra), 0, 0, 0,
            self.mode << 16 | self.dos, offset if self.offset is None else self.offset,
        )  # fmt: skip
        return head + name + extra


def deflate(content: bytes, level: int = 6) -> bytes:
    packer = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(content) + packer.flush()


def write(members: list[Member], **lies: Any) -> bytes:
    """Write an archive.

    Args:
        members: the entries in their order.
        lies: `count`, `length`, `begin`, `comment`, `comment_length`, `disk`, `behind`, `end_signature`; `zip64`, with which
            the three numbers stand in the larger record.
    """
    out, directory = b"", b""
    for member in members:
        directory += member.central(len(out))
        out += member.local()
    facts = {"begin": len(out), "length": len(directory), "count": len(members), **lies}
    return out + directory + end(**facts)


def end(begin: int, length: int, count: int, *, zip64: bool = False, **lies: Any) -> bytes:
    """Write the end of an archive."""
    comment, large = lies.get("comment", b""), b""
    if zip64:
        at = begin + length
        large = struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, length, begin)
        large += struct.pack("<4sIQI", b"PK\x06\x07", 0, lies.get("locator", at), 1)
        begin, length, count = 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFF
    disk = lies.get("disk", 0)
    close = struct.pack(
        "<4sHHHHIIH", lies.get("end_signature", b"PK\x05\x06"), disk, disk, count & 0xFFFF, count & 0xFFFF,
        length, begin, lies.get("comment_length", len(comment)),
    )  # fmt: skip
    return bytes(large + close + comment + lies.get("behind", b""))
