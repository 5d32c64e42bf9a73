"""Types of files by their endings, the same on every machine: Python's own table, not the system's."""

from __future__ import annotations

import mimetypes


def by_ending() -> dict[str, str]:
    """Return ending (without its dot) to type, in order."""
    known = mimetypes.MimeTypes(filenames=()).types_map[True]
    return {ending.removeprefix("."): kind for ending, kind in sorted(known.items())}
