"""Text files as editors of all systems leave them."""

from __future__ import annotations

import codecs


def decode(raw: bytes, errors: str = "strict") -> str:
    """Return a text of UTF-8, or of UTF-16 where a byte order mark says so; the mark is not part of it.

    Args:
        raw: the file's bytes.
        errors: as of `bytes.decode`.

    Raises:
        UnicodeDecodeError: it is in no such encoding, and `errors` is `strict`.
    """
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return raw.decode("utf-16", errors=errors)
    return raw.removeprefix(codecs.BOM_UTF8).decode(errors=errors)
