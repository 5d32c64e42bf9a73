"""The unpacking of a Debian kernel, which QEMU then boots fastest.

In software, unpacking takes a booting kernel longer than all later steps.
"""

from __future__ import annotations

import lzma
import struct

from orchestrator.lab.errors import LabError

_MAGIC = (0x202, b"HdrS")
_SETUP_SECTORS = 0x1F1
_PAYLOAD = 0x248
_SECTOR = 512
_XZ = b"\xfd7zXZ\0"


def unpack(image: bytes) -> bytes:
    """Return the ELF file within a bzImage, or the bzImage itself where it is not packed with xz (Linux's `boot.rst`).

    Raises:
        LabError: this is no bzImage, or a damaged one.
    """
    offset, magic = _MAGIC
    if image[offset : offset + len(magic)] != magic:
        raise LabError("the kernel of the image is no bzImage")
    start, length = struct.unpack_from("<II", image, _PAYLOAD)
    start += (image[_SETUP_SECTORS] + 1) * _SECTOR
    packed = image[start : start + length]
    if not packed.startswith(_XZ):
        return image
    # Its unpacked size follows the stream.
    unpacker = lzma.LZMADecompressor(lzma.FORMAT_XZ)
    try:
        unpacked = unpacker.decompress(packed)
    except lzma.LZMAError as error:
        raise LabError(f"the kernel of the image cannot be unpacked: {error}") from error
    if not unpacker.eof:
        raise LabError("the kernel of the image cannot be unpacked: its end is missing")
    return unpacked
